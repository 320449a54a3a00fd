// Names from outside: what is let in, and that nothing let in can lead anywhere.
import assert from 'node:assert/strict'
import { join, normalize, posix, sep, win32 } from 'node:path'
import { test } from 'node:test'
import { hasCode } from '@shoal/protocol/errors.ts'
import {
  blobParts,
  isCommit,
  isFilePath,
  kindPlural,
  parseBlobId,
  parseCommit,
  parseFilePath,
  parsePeerId,
  parseRepoId,
  parseRepoKey,
  parseRepoSpec,
  parseRevision,
  REPO_KINDS,
  repoKey,
  repoLabel,
} from '@shoal/protocol/ids.ts'
import fc from 'fast-check'

const HEX40 = '0123456789abcdef0123456789abcdef01234567'
const HEX64 = 'ab'.repeat(32)

/** Names that nothing may take for a repository, a revision or a file. */
const HOSTILE_EVERYWHERE = [
  '',
  '.',
  '..',
  '../x',
  '../../etc/passwd',
  'a/..',
  'a/../b',
  'a/../../b',
  './a',
  'a/.',
  'a/./b',
  '/',
  '//',
  '/etc/passwd',
  '/a',
  'a//b',
  'a/',
  '//host/share',
  '\\',
  '..\\..\\x',
  'a\\b',
  'a\\..\\b',
  '\\\\host\\share',
  '\\\\?\\C:\\x',
  'C:\\x',
  'C:/x',
  'c:x',
  'a\0',
  '\0',
  'a\0/b',
  'a\n',
  'a\r\nSet-Cookie: b',
  'a\tb',
  '\u0001',
  'a\u007f',
  'a\u001b[31m',
  '\ud800',
  'a\udfff',
  'x/\ud800y',
  '...',
  '. ',
  '.. ',
  '.. /x',
  'a/.. /b',
  'a/ /b',
  'a/...',
  ' ',
  '..\u00a0',
  '. .',
  '..../..',
  'a/..\u0000',
  '../',
  '/..',
  'a/../..',
  'D:',
  'z:/..',
  '\u0085\u0000',
  '\u00a0',
  'a/\u00a0../x/..\u00a0',
  'x'.repeat(1_025),
  `${'x'.repeat(256)}/y`,
  'é'.repeat(128),
] as const

/** Names of repositories only. */
const HOSTILE_REPOS = [
  'a/b/c',
  'models/a/b',
  '-rf',
  '--upload-pack=x',
  '.hidden',
  'a/.hidden',
  'a/b.git',
  'a/b.GIT',
  'a/b.ipynb',
  'a--b',
  'a/b--c',
  'a/b..c',
  'a/b.',
  'a/b-',
  'a b',
  'a/b c',
  'a/b ',
  ' a/b',
  'a/b;x',
  'a/b?x',
  'a/b#x',
  'a/b%2e%2e',
  '%2e%2e%2fetc',
  '%252e%252e',
  'a/b%00',
  'a/b@main',
  'a:b',
  '~',
  '~root/x',
  'a/~',
  'a/b*',
  'a/b|c',
  'a/b"c',
  'a/$HOME',
  'a/`id`',
  'a/b&c',
  'a/(b)',
  'a/b,c',
  'a/b=c',
  'a/b+c',
  'a/<img onerror=x>',
  "a/'; DROP TABLE x",
  'ä/b',
  'a/\u202eb',
  'a/b\u200b',
  `a/${'b'.repeat(97)}`,
  'a'.repeat(300),
] as const

const HOSTILE_REVISIONS = [
  '-x',
  '--upload-pack=x',
  'HEAD~1',
  'main^',
  'a..b',
  'a...b',
  'a:b',
  'a b',
  'main ',
  'a?b',
  'a*b',
  'a[b',
  'refs//pr/1',
  '/main',
  'main/',
  'a.lock',
  'a.lock/b',
  'a/b.',
  'refs%2Fpr%2F1',
  'ma\u0000in',
  'x'.repeat(256),
  '@{-1}',
  '~',
  'ü',
] as const

const TRAVERSAL = /(^|[/\\])\.{1,2}[. \u00a0]*([/\\]|$)/

function accepts(parse: (text: string) => unknown, text: string): boolean {
  try {
    parse(text)
    return true
  } catch (error) {
    assert.ok(hasCode(error, 'bad-request'), `${JSON.stringify(text)}: ${String(error)}`)
    return false
  }
}

for (const { id, parse, hostile } of [
  { id: 'repository', parse: parseRepoId, hostile: [...HOSTILE_EVERYWHERE, ...HOSTILE_REPOS] },
  { id: 'revision', parse: parseRevision, hostile: [...HOSTILE_EVERYWHERE, ...HOSTILE_REVISIONS] },
  { id: 'file path', parse: parseFilePath, hostile: HOSTILE_EVERYWHERE },
  { id: 'commit', parse: parseCommit, hostile: [...HOSTILE_EVERYWHERE, ...HOSTILE_REVISIONS] },
  { id: 'blob id', parse: parseBlobId, hostile: [...HOSTILE_EVERYWHERE, ...HOSTILE_REPOS] },
  { id: 'peer id', parse: parsePeerId, hostile: [...HOSTILE_EVERYWHERE, ...HOSTILE_REPOS] },
] as const) {
  test(`none of ${hostile.length} hostile names is taken for a ${id}`, () => {
    assert.deepEqual(
      hostile.filter((text) => accepts(parse, text)),
      [],
    )
  })
}

test('there are at least 120 hostile names', () => {
  const all = new Set<string>([...HOSTILE_EVERYWHERE, ...HOSTILE_REPOS, ...HOSTILE_REVISIONS])
  assert.ok(all.size >= 120, `${all.size}`)
})

test('names that real repositories have are let in as they are', () => {
  for (const text of ['gpt2', 'org/model', 'org/Model-7B_v1.0', 'a/b', '0x/1', 'org_/_x', 'x'.repeat(96)])
    assert.equal(parseRepoId(text), text)
  for (const text of [
    'main',
    'v1.0',
    HEX40,
    'refs/pr/1',
    'refs/convert/parquet',
    'HEAD',
    'a+b',
    'user@host',
    'x=y',
  ])
    assert.equal(parseRevision(text), text)
  for (const text of [
    'config.json',
    'onnx/model.onnx',
    'a b/c+d/é/日本.bin',
    '.gitattributes',
    '..hidden',
    'a..b',
    'a/b.',
    'a/b ',
    'CON',
    'nul.txt',
    '-rf',
    '~',
    'a;x',
    '%2e%2e%2f',
    '%2e%2e',
    '<img onerror=x>',
    '\u202etxt',
    'e\u0301',
    'x'.repeat(255),
  ])
    assert.equal(parseFilePath(text), text)
})

test('a file path that is let in stays below its folder, on this system and on others', () => {
  const piece = fc.oneof(
    fc.constantFrom(
      '.',
      '..',
      '...',
      '. ',
      '.. ',
      ' ',
      '',
      '\u00a0',
      'C:',
      'CON',
      '~',
      '%2e%2e',
      '\\',
      '/',
      'a',
      'b',
    ),
    fc.string({ maxLength: 6, unit: 'grapheme' }),
  )
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 6 }), fc.constantFrom('/', '\\', ''), (pieces, joint) => {
      const text = pieces.join(joint)
      if (!isFilePath(text)) return
      assert.doesNotMatch(text, TRAVERSAL)
      assert.ok(!posix.isAbsolute(text) && !win32.isAbsolute(text), text)
      const below = `${sep}store${sep}view`
      assert.ok(normalize(join(below, text)).startsWith(`${below}${sep}`), text)
      const trimmed = text
        .split('/')
        .map((part) => part.replace(/[. ]+$/, ''))
        .join('/')
      assert.ok(!win32.normalize(`x/y/${trimmed}`).startsWith('..') && !trimmed.split('/').includes(''), text)
    }),
    { numRuns: 5_000 },
  )
})

test('a repository or revision that is let in contains no traversal and nothing that needs quoting', () => {
  const text = fc.string({ maxLength: 30, unit: fc.constantFrom(...'ab./-_~@:%\\ \0é0A=+'.split('')) })
  fc.assert(
    fc.property(text, (name) => {
      if (accepts(parseRepoId, name)) assert.match(name, /^[A-Za-z0-9_.-]+(\/[A-Za-z0-9_.-]+)?$/)
      if (accepts(parseRevision, name)) assert.match(name, /^[A-Za-z0-9_./+@=-]+$/)
      for (const parse of [parseRepoId, parseRevision])
        if (accepts(parse, name)) {
          assert.doesNotMatch(name, TRAVERSAL)
          assert.ok(!name.startsWith('-') && !name.startsWith('/') && !name.endsWith('/'))
        }
    }),
    { numRuns: 5_000 },
  )
})

for (const { id, text, ok } of [
  { id: '40 digits', text: HEX40, ok: true },
  { id: '39 digits', text: HEX40.slice(1), ok: false },
  { id: '41 digits', text: `${HEX40}0`, ok: false },
  { id: 'upper case', text: HEX40.toUpperCase(), ok: false },
  { id: 'a newline at the end', text: `${HEX40}\n`, ok: false },
]) {
  test(`a commit of ${id} is ${ok ? 'one' : 'none'}`, () => {
    assert.equal(isCommit(text), ok)
    assert.equal(accepts(parseCommit, text), ok)
  })
}

for (const { id, text, ok } of [
  { id: 'sha256', text: `sha256:${HEX64}`, ok: true },
  { id: 'git-sha1', text: `git-sha1:${HEX40}`, ok: true },
  { id: 'sha256 of 63 digits', text: `sha256:${HEX64.slice(1)}`, ok: false },
  { id: 'sha256 of 65 digits', text: `sha256:${HEX64}a`, ok: false },
  { id: 'sha256 in upper case', text: `sha256:${HEX64.toUpperCase()}`, ok: false },
  { id: 'git-sha1 of 64 digits', text: `git-sha1:${HEX64}`, ok: false },
  { id: 'md5', text: `md5:${'a'.repeat(32)}`, ok: false },
  { id: 'bare digits', text: HEX64, ok: false },
  { id: 'a path', text: `sha256:../${HEX64.slice(3)}`, ok: false },
]) {
  test(`a blob id of ${id} is ${ok ? 'one' : 'none'}`, () => {
    assert.equal(accepts(parseBlobId, text), ok)
  })
}

test('a blob id falls into its algorithm and its digits', () => {
  assert.deepEqual(blobParts(parseBlobId(`sha256:${HEX64}`)), { algorithm: 'sha256', hex: HEX64 })
  assert.deepEqual(blobParts(parseBlobId(`git-sha1:${HEX40}`)), { algorithm: 'git-sha1', hex: HEX40 })
})

test('a repository key and its repository give each other back, for every kind', () => {
  for (const kind of REPO_KINDS) {
    for (const name of ['gpt2', 'org/model']) {
      const repo = { kind, id: parseRepoId(name) }
      assert.equal(repoKey(repo), `${kindPlural(kind)}/${name}`)
      assert.deepEqual(parseRepoKey(repoKey(repo)), repo)
    }
  }
  for (const key of ['org/model', 'models', 'models/', 'model/a', 'models/../x', 'toString/a', '/a'])
    assert.ok(!accepts(parseRepoKey, key), key)
})

for (const { text, kind, id, revision } of [
  { text: 'org/model', kind: 'model', id: 'org/model', revision: 'main' },
  { text: 'gpt2@v1', kind: 'model', id: 'gpt2', revision: 'v1' },
  { text: 'datasets/org/data', kind: 'dataset', id: 'org/data', revision: 'main' },
  { text: 'spaces/org/app@refs/pr/2', kind: 'space', id: 'org/app', revision: 'refs/pr/2' },
  { text: 'models/org/model', kind: 'model', id: 'org/model', revision: 'main' },
  { text: 'datasets/x', kind: 'model', id: 'datasets/x', revision: 'main' },
]) {
  test(`${text} means the ${kind} ${id} at ${revision}`, () => {
    const spec = parseRepoSpec(text)
    assert.deepEqual({ ...spec.repo, revision: spec.revision }, { kind, id, revision })
    const again = parseRepoSpec(`${repoLabel(spec.repo)}@${spec.revision}`)
    if (text !== 'datasets/x') assert.deepEqual(again, spec)
  })
}

test('messages about bad names are short whatever the name', () => {
  for (const parse of [parseRepoId, parseRevision, parseFilePath, parseBlobId, parsePeerId, parseCommit])
    assert.throws(
      () => parse('!'.repeat(100_000)),
      (error: Error) => error.message.length < 250,
    )
})
