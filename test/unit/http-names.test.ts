// parseHubPath: rows of every route and of hostile names, and properties over names a Hub may have.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type HubRoute, parseHubPath } from '@shoal/agent/http/names.ts'
import { asShoalError } from '@shoal/protocol/errors.ts'
import { isFilePath } from '@shoal/protocol/ids.ts'
import fc from 'fast-check'

const SEED = Number(process.env.SEED ?? 20_260_101)
const COMMIT = '0123456789abcdef0123456789abcdef01234567'

/** A route as one line, so that a table stays a table. */
function shown(route: HubRoute): string {
  const { kind } = route
  if (!('repo' in route)) return kind
  const revision = 'revision' in route ? ` @${route.revision}` : ''
  const path = 'path' in route ? ` ${route.path}` : 'directory' in route ? ` ${route.directory ?? '/'}` : ''
  return `${kind} ${route.repo.kind}:${route.repo.id}${revision}${path}`
}

function outcome(path: string): string {
  try {
    return shown(parseHubPath(path))
  } catch (error) {
    return asShoalError(error)?.code ?? String(error)
  }
}

const ROWS: readonly (readonly [id: string, path: string, expected: string])[] = [
  ['model', '/org/name/resolve/main/config.json', 'resolve model:org/name @main config.json'],
  ['one segment id', '/gpt2/resolve/main/config.json', 'resolve model:gpt2 @main config.json'],
  ['dataset', '/datasets/org/d/resolve/v1.0/a/b.csv', 'resolve dataset:org/d @v1.0 a/b.csv'],
  ['one segment dataset', '/datasets/squad/resolve/main/a', 'resolve dataset:squad @main a'],
  ['space', '/spaces/org/s/raw/main/app.py', 'raw space:org/s @main app.py'],
  ['commit', `/o/n/resolve/${COMMIT}/f`, `resolve model:o/n @${COMMIT} f`],
  ['encoded pr', '/o/n/resolve/refs%2Fpr%2F1/f', 'resolve model:o/n @refs/pr/1 f'],
  ['raw pr', '/o/n/resolve/refs/pr/1/f', 'resolve model:o/n @refs/pr/1 f'],
  ['plus is no space', '/o/n/resolve/main/a+b%20c%2Bd', 'resolve model:o/n @main a+b c+d'],
  ['unicode', '/o/n/resolve/main/%E6%A8%A1%E5%9E%8B.bin', 'resolve model:o/n @main 模型.bin'],
  ['nfd stays nfd', '/o/n/resolve/main/e%CC%81', 'resolve model:o/n @main e\u0301'],
  ['percent in a name', '/o/n/resolve/main/100%25', 'resolve model:o/n @main 100%'],
  ['twice encoded is a name', '/o/n/resolve/main/%252e%252e', 'resolve model:o/n @main %2e%2e'],
  ['repo called resolve', '/o/resolve/resolve/main/f', 'resolve model:o/resolve @main f'],
  ['file called resolve', '/gpt2/resolve/main/resolve/x', 'resolve model:gpt2 @main resolve/x'],
  ['info', '/api/models/org/name', 'info model:org/name @main'],
  ['info one segment', '/api/models/gpt2', 'info model:gpt2 @main'],
  [
    'info at',
    '/api/datasets/o/d/revision/refs%2Fconvert%2Fparquet',
    'info dataset:o/d @refs/convert/parquet',
  ],
  ['info at HEAD', '/api/models/gpt2/revision/HEAD', 'info model:gpt2 @HEAD'],
  ['tree', '/api/models/o/n/tree/main', 'tree model:o/n @main /'],
  ['tree slash', '/api/models/o/n/tree/main/', 'tree model:o/n @main /'],
  ['tree dir', '/api/models/o/n/tree/main/sub/dir', 'tree model:o/n @main sub/dir'],
  ['tree encoded dir', '/api/models/o/n/tree/main/sub%2Fdir', 'tree model:o/n @main sub/dir'],
  ['tree raw pr', '/api/models/o/n/tree/refs/pr/7', 'tree model:o/n @refs/pr/7 /'],
  ['tree raw pr dir', '/api/models/gpt2/tree/refs/pr/7/d', 'tree model:gpt2 @refs/pr/7 d'],
  [
    'tree raw convert',
    '/api/datasets/o/d/tree/refs/convert/parquet/x',
    'tree dataset:o/d @refs/convert/parquet x',
  ],
  ['paths-info', '/api/spaces/o/s/paths-info/main', 'paths-info space:o/s @main'],
  ['refs', '/api/models/gpt2/refs', 'refs model:gpt2'],
  ['commits', '/api/models/o/n/commits/main', 'commits model:o/n @main'],
  ['auth-check', '/api/models/o/n/auth-check', 'auth-check model:o/n'],
  ['xet', '/api/models/o/n/xet-read-token/main', 'xet-token model:o/n @main'],
  ['whoami', '/api/whoami-v2', 'whoami'],
  ['harness', '/api/agent-harnesses', 'absent'],
  ['telemetry', '/api/telemetry/a/b', 'absent'],
  ['list', '/api/models', 'unsupported'],
  ['discussions', '/api/models/o/n/discussions', 'unsupported'],
  ['kernels', '/kernels/o/n/resolve/main/f', 'unknown'],
  ['root', '/', 'unknown'],
  ['three part id', '/a/b/c/resolve/main/f', 'unknown'],
  ['no path', '/o/n/resolve/main', 'unknown'],
  ['dots', '/../x/resolve/main/f', 'bad-request'],
  ['dots after', '/a/../resolve/main/f', 'bad-request'],
  ['encoded dots', '/%2e%2e%2fx/y/resolve/main/f', 'bad-request'],
  ['encoded dots in path', '/o/n/resolve/main/a/%2e%2e/b', 'bad-request'],
  ['encoded slash dots', '/o/n/resolve/main/..%2f..%2fetc', 'bad-request'],
  ['twice encoded repo', '/%252e/n/resolve/main/f', 'bad-request'],
  ['encoded slash in id', '/o%2Fn/resolve/main/f', 'bad-request'],
  ['nul', '/o/n/resolve/main/a%00b', 'bad-request'],
  ['crlf', '/o/n/resolve/main/a%0d%0ab', 'bad-request'],
  ['backslash', '/o/n/resolve/main/a%5Cb', 'bad-request'],
  ['drive', '/o/n/resolve/main/C%3A/x', 'bad-request'],
  ['overlong utf-8', '/o/n/resolve/main/%c0%ae%c0%ae', 'bad-request'],
  ['lone surrogate', '/o/n/resolve/main/%ed%a0%80', 'bad-request'],
  ['cut encoding', '/o/n/resolve/main/a%2', 'bad-request'],
  ['bad encoding', '/o/n/resolve/main/a%zz', 'bad-request'],
  ['raw unicode', '/o/n/resolve/main/模', 'bad-request'],
  ['fragment', '/o/n/resolve/main/a#b', 'bad-request'],
  ['double slash', '/o//n/resolve/main/f', 'bad-request'],
  ['dot segment', '/o/n/resolve/main/./f', 'bad-request'],
  ['empty revision', '/o/n/resolve//f', 'bad-request'],
  ['long id', `/o/${'n'.repeat(300)}/resolve/main/f`, 'bad-request'],
  ['semicolon', '/o/n;x/resolve/main/f', 'bad-request'],
  ['trailing dot', '/o/n./resolve/main/f', 'bad-request'],
  ['trailing space', '/o/n%20/resolve/main/f', 'bad-request'],
  ['tilde', '/~/n/resolve/main/f', 'bad-request'],
  ['option', '/-rf/n/resolve/main/f', 'bad-request'],
  ['git', '/o/n.git/resolve/main/f', 'bad-request'],
  ['path too long', `/o/n/resolve/main/${'x/'.repeat(600)}f`, 'bad-request'],
  ['target too long', `/o/n/resolve/main/${'x'.repeat(9000)}`, 'bad-request'],
  ['ancestor', '/o/n/resolve/HEAD~1/f', 'revision-not-found'],
  ['option as revision', '/o/n/resolve/--upload-pack=x/f', 'revision-not-found'],
  ['41 hex', `/o/n/resolve/${COMMIT}0/f`, `resolve model:o/n @${COMMIT}0 f`],
]

for (const [id, path, expected] of ROWS) {
  test(`path, ${id}: ${expected.slice(0, 60)}`, () => {
    assert.equal(outcome(path), expected, `${id}: ${path.slice(0, 100)}`)
  })
}

const name = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}[A-Za-z0-9_]$/).filter((text) => {
  return !/--|\.\.|\.git$|\.ipynb$/i.test(text)
})
const filePath = fc
  .array(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 }), { minLength: 1, maxLength: 4 })
  .map((parts) => parts.join('/'))
  .filter((text) => isFilePath(text))

test('every legal name survives encoding, whichever way the client encodes slashes', () => {
  fc.assert(
    fc.property(name, name, filePath, fc.boolean(), (org, repo, path, encodeSlash) => {
      fc.pre(!['datasets', 'spaces', 'models', 'kernels', 'api'].includes(org))
      fc.pre(!['resolve', 'raw'].includes(repo))
      const encoded = encodeURIComponent(path)
      const sent = encodeSlash ? encoded : encoded.replaceAll('%2F', '/')
      const route = parseHubPath(`/${org}/${repo}/resolve/main/${sent}`)
      assert.equal(route.kind === 'resolve' ? route.path : undefined, path)
    }),
    { seed: SEED },
  )
})

test('any string gives a route or a refusal of the caller, never another failure or a path that leaves', () => {
  const piece = fc.oneof(
    fc.constantFrom(
      '..',
      '.',
      '%2e%2e',
      '%2f',
      '%00',
      '%c0%af',
      'api',
      'models',
      'tree',
      'resolve',
      'main',
      '',
    ),
    fc.string({ maxLength: 8 }),
  )
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 9 }), (pieces) => {
      const path = `/${pieces.join('/')}`
      try {
        const route = parseHubPath(path)
        if ('path' in route) assert.ok(isFilePath(route.path), path)
        if ('directory' in route && route.directory !== undefined)
          assert.ok(isFilePath(route.directory), path)
      } catch (error) {
        const code = asShoalError(error)?.code
        assert.ok(code === 'bad-request' || code === 'revision-not-found', `${path}: ${String(error)}`)
      }
    }),
    { seed: SEED, numRuns: 2000 },
  )
})
