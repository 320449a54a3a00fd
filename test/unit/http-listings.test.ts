// Listings, passed answers, errors and bodies as values: no sockets.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allowedHosts, guard, LOOP_HEADER } from '@shoal/agent/http/guards.ts'
import { headerText, hubErrorAnswer, nodeErrorAnswer } from '@shoal/agent/http/hub-errors.ts'
import { ownLink, passedAnswer, withoutXet } from '@shoal/agent/http/hub-passed.ts'
import { pathsInfo, siblings, treeItems } from '@shoal/agent/http/hub-tree.ts'
import { formPaths, isTrue, treePage } from '@shoal/agent/http/queries.ts'
import { ERROR_TABLE, type ErrorCode, hasCode, ShoalError } from '@shoal/protocol/errors.ts'
import fc from 'fast-check'
import { MemoryCatalog } from '../support/memory-catalog.ts'

const SEED = Number(process.env.SEED ?? 20_260_103)
const bytes = Buffer.from('x')

function manifestOf(paths: readonly string[]) {
  const files = Object.fromEntries(paths.map((path) => [path, { bytes, lfs: path.endsWith('.bin') }]))
  return new MemoryCatalog().add({ spec: 'org/model', files })
}
const all = { recursive: true, expand: false }
const top = { recursive: false, expand: false }
const names = (items: ReturnType<typeof treeItems>) => items?.map(({ type, path }) => `${type[0]} ${path}`)

test('a tree lists files and directories in path order, all or one level, below a directory', () => {
  const manifest = manifestOf(['b.bin', 'a/x', 'a/b/y', 'ab/z', 'a.txt'])
  assert.deepEqual(names(treeItems(manifest, undefined, all)), [
    'd a',
    'f a.txt',
    'd a/b',
    'f a/b/y',
    'f a/x',
    'd ab',
    'f ab/z',
    'f b.bin',
  ])
  assert.deepEqual(names(treeItems(manifest, undefined, top)), ['d a', 'f a.txt', 'd ab', 'f b.bin'])
  assert.deepEqual(names(treeItems(manifest, 'a', top)), ['d a/b', 'f a/x'])
  assert.deepEqual(names(treeItems(manifest, 'a', all)), ['d a/b', 'f a/b/y', 'f a/x'])
  for (const absent of ['c', 'a/x', 'a/', 'b'])
    assert.equal(treeItems(manifest, absent, all), undefined, absent)
})

test('an LFS file has its pointer\u2019s git id, its digest, its real size and the pointer\u2019s size', () => {
  const manifest = manifestOf(['w.bin'])
  const [item] = treeItems(manifest, undefined, all) ?? []
  const entry = manifest.files[0]
  assert.deepEqual(item, {
    type: 'file',
    oid: entry?.oid,
    size: 1,
    path: 'w.bin',
    lfs: { oid: entry?.blob.slice(7), size: 1, pointerSize: 126 },
  })
  assert.deepEqual(siblings(manifest, true), [
    {
      rfilename: 'w.bin',
      size: 1,
      blobId: entry?.oid,
      lfs: { sha256: entry?.blob.slice(7), size: 1, pointerSize: 126 },
    },
  ])
  assert.deepEqual(siblings(manifest, false), [{ rfilename: 'w.bin' }])
})

test('paths-info leaves unknown paths out, gives directories and no path twice', () => {
  const manifest = manifestOf(['a/x', 'y'])
  assert.deepEqual(names(pathsInfo(manifest, ['y', 'a', 'no', 'y', '../x', '__proto__'], false)), [
    'f y',
    'd a',
  ])
  for (const { lastCommit } of pathsInfo(manifest, ['y', 'a'], true))
    assert.deepEqual(lastCommit, { id: manifest.commit, title: '', date: '2026-01-02T03:04:05.000Z' })
})

test('every page of a tree together is the tree, whatever the page size', () => {
  const paths = fc.uniqueArray(fc.stringMatching(/^[a-c]{1,2}(\/[a-c]{1,2}){0,3}\.t$/), {
    minLength: 1,
    maxLength: 30,
  })
  fc.assert(
    fc.property(paths, fc.integer({ min: 1, max: 7 }), (list, limit) => {
      const items = treeItems(manifestOf(list), undefined, all) ?? []
      const seen: unknown[] = []
      for (let cursor = 0; cursor < items.length; cursor += limit) {
        const page = treePage(new URLSearchParams({ cursor: String(cursor), limit: String(limit) }))
        seen.push(...items.slice(page?.start, (page?.start ?? 0) + (page?.limit ?? 0)))
      }
      assert.deepEqual(seen, items)
      assert.equal(items.filter(({ type }) => type === 'file').length, list.length)
      for (const { path } of items.filter(({ type }) => type === 'directory'))
        assert.ok(
          list.some((file) => file.startsWith(`${path}/`)),
          path,
        )
    }),
    { seed: SEED, numRuns: 50 },
  )
})

test('a limit or cursor that nobody gave is refused', () => {
  assert.equal(treePage(new URLSearchParams('recursive=true')), undefined)
  for (const query of [
    'limit=0',
    'limit=-1',
    'limit=x',
    'limit=1e3',
    'cursor=-1',
    'cursor=',
    'cursor=99999999999',
  ])
    assert.throws(
      () => treePage(new URLSearchParams(query)),
      (error) => hasCode(error, 'bad-request'),
      query,
    )
})

test('booleans are read in both spellings and by value, not presence', () => {
  for (const text of ['true', 'True', 'TRUE', '1']) assert.equal(isTrue(text), true, text)
  for (const text of ['false', 'False', '0', '', 'yes', null, undefined])
    assert.equal(isTrue(text), false, String(text))
})

test('both forms of a paths-info body are read, and others refused', () => {
  const read = (type: string | undefined, text: string) => formPaths(type, Buffer.from(text))
  const form = 'application/x-www-form-urlencoded'
  assert.deepEqual(read(form, 'paths=a%2Bb&paths=c+d&expand=True'), { paths: ['a+b', 'c d'], expand: true })
  assert.deepEqual(read('application/json; charset=utf-8', '{"paths":["a+b"],"expand":false}'), {
    paths: ['a+b'],
    expand: false,
  })
  assert.deepEqual(read('application/json', '{"paths":"a"}'), { paths: ['a'], expand: false })
  for (const [type, text] of [
    ['application/json', '{'],
    ['application/json', '[]'],
    ['application/json', '{"paths":[1]}'],
    ['text/plain', '{"paths":["a"]}'],
    [undefined, '{"paths":["a"]}'],
  ] as const)
    assert.throws(
      () => read(type, text),
      (error) => hasCode(error, 'bad-request'),
      `${type} ${text}`,
    )
})

test('a passed answer shows no Xet, leads nowhere but to us, and is JSON or text', () => {
  const base = 'http://127.0.0.1:8001'
  const hub = {
    status: 200,
    contentType: 'application/json; charset=utf-8',
    errorCode: undefined,
    errorMessage: 'bad\r\nX-Evil: 1 \u2028',
    link: '<https://huggingface.co/api/models/o/n/commits/main?cursor=a%3D>; rel="next"',
    body: Buffer.from('{"a":[{"xetHash":"1","keep":2}],"xetEnabled":true}'),
  }
  const answer = passedAnswer(hub, base)
  assert.equal(String(answer.body), '{"a":[{"keep":2}]}')
  assert.equal(answer.headers.Link, `<${base}/api/models/o/n/commits/main?cursor=a%3D>; rel="next"`)
  assert.match(answer.headers['X-Error-Message'] ?? '', /^bad\?\?X-Evil: 1 \?$/)
  const html = passedAnswer({ ...hub, contentType: 'text/html', body: Buffer.from('<script>') }, base)
  assert.equal(html.headers['Content-Type'], 'text/plain; charset=utf-8')
  for (const link of [
    '<https://huggingface.co/login>; rel="next"',
    '<javascript:x>; rel="next"',
    'x',
    undefined,
  ])
    assert.equal(ownLink(link, base), undefined, link)
  assert.match(
    ownLink('</api/x?c=1>; rel=next', base) ?? '',
    /^<http:\/\/127\.0\.0\.1:8001\/api\/x\?c=1>; rel="next"$/,
  )
  assert.deepEqual(withoutXet({ XetHash: 1, x: null }), { x: null })
})

test('every error code has a Hub answer with its table\u2019s code and a message, and a node answer', () => {
  for (const [code, row] of Object.entries(ERROR_TABLE) as [
    ErrorCode,
    { http: number; hubCode?: string },
  ][]) {
    const answer = hubErrorAnswer(new ShoalError(code, 'why \u00e9'), true)
    if (row.hubCode !== undefined) assert.equal(answer.headers['X-Error-Code'], row.hubCode, code)
    assert.ok((answer.headers['X-Error-Message'] ?? '').length > 0, code)
    assert.ok(answer.status >= 400 && answer.status <= 599, code)
    assert.ok(nodeErrorAnswer(new ShoalError(code, 'why')).status >= 400, code)
  }
  assert.equal(headerText('a\r\nb\u0000é'), 'a??b??')
})

test('the Hub\u2019s own choice of 401, 403 or 404 is kept, and nothing else of its statuses', () => {
  const status = (code: ErrorCode, httpStatus: number | undefined, hasToken: boolean) =>
    hubErrorAnswer(new ShoalError(code, 'm', httpStatus === undefined ? {} : { httpStatus }), hasToken).status
  assert.deepEqual(
    [
      status('repo-gated', 401, true),
      status('repo-gated', 403, false),
      status('repo-gated', undefined, false),
      status('repo-gated', undefined, true),
      status('repo-not-found', undefined, false),
      status('repo-not-found', undefined, true),
      status('repo-not-found', 200, true),
      status('origin-unreachable', 404, true),
    ],
    [401, 403, 401, 403, 401, 404, 404, 503],
  )
  const disabled = hubErrorAnswer(new ShoalError('repo-disabled', 'm', { httpStatus: 403 }), true)
  assert.equal(disabled.headers['X-Error-Message'], 'Access to this resource is disabled.')
  assert.equal(disabled.headers['X-Error-Code'], undefined)
})

test('a missing file names the commit only when the catalog is sure of it', () => {
  const sure = hubErrorAnswer(new ShoalError('file-not-found', 'm', { commit: 'c'.repeat(40) }), false)
  assert.equal(sure.headers['X-Repo-Commit'], 'c'.repeat(40))
  assert.equal(
    hubErrorAnswer(new ShoalError('file-not-found', 'm'), false).headers['X-Repo-Commit'],
    undefined,
  )
})

test('an error that is none of ours tells nothing of itself', () => {
  const answer = hubErrorAnswer(new Error('password=1'), false)
  assert.equal(answer.status, 500)
  assert.doesNotMatch(JSON.stringify(answer.headers) + String(answer.body), /password/)
})

test('allowed hosts are the loopback names and our address with the port, and what is configured', () => {
  assert.deepEqual(
    [...allowedHosts({ host: '10.0.0.5', port: 8001 }, ['GPU1', 'gpu2:80', 'fd00::1'])].sort(),
    [
      '10.0.0.5:8001',
      '127.0.0.1:8001',
      '[::1]:8001',
      '[fd00::1]:8001',
      'gpu1:8001',
      'gpu2:80',
      'localhost:8001',
    ],
  )
  assert.ok(
    ![...allowedHosts({ host: '0.0.0.0', port: 8001 }, [])].some((host) => host.startsWith('0.0.0.0')),
  )
  assert.ok(allowedHosts({ host: '127.0.0.1', port: 80 }, []).has('localhost'))
})

test('the loop guard hears only of requests that pass everything else, with all values of its header', () => {
  const heard: (string | undefined)[] = []
  const ask = (host: string, ...more: string[]) =>
    guard(
      { method: 'GET', target: '/x', rawHeaders: ['Host', host, ...more] },
      {
        hosts: new Set(['a:1']),
        admitsVia: (via) => {
          heard.push(via)
          return via === undefined
        },
      },
    )
  assert.equal(ask('b:1', LOOP_HEADER, 'me').ok, false)
  assert.equal(ask('a:1', 'Origin', 'http://b', LOOP_HEADER, 'me').ok, false)
  assert.deepEqual(heard, [])
  assert.equal(ask('a:1').ok, true)
  const refused = ask('a:1', 'X-Shoal-Via', 'one', LOOP_HEADER, 'two')
  assert.equal(refused.ok ? 0 : refused.status, 508)
  assert.deepEqual(heard, [undefined, 'one, two'])
})
