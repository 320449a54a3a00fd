// The Hub endpoint over real sockets: what every answer carries, ranges, conditions, errors, and who is refused what.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { blobDigest } from '@shoal/agent/hashing.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { type MemoryAgent, startMemoryAgent } from '../support/memory-agent.ts'
import { BAD_TOKEN, GOOD_TOKEN, STRANGER_TOKEN } from '../support/memory-catalog.ts'

const WEIGHTS = Buffer.from(Array.from({ length: 300_000 }, (_, index) => (index * 31) % 251))
const CONFIG = Buffer.from('{"a": 1}\n')

function addModel({ catalog }: MemoryAgent) {
  return catalog.add({
    spec: 'org/model',
    revisions: ['main', 'HEAD', 'refs/pr/1'],
    info: { xetEnabled: true, pipeline_tag: 'text-generation', _id: 'abc' },
    files: {
      'config.json': { bytes: CONFIG },
      'model.safetensors': { bytes: WEIGHTS, lfs: true },
      'sub/dir/a+b 模.txt': { bytes: Buffer.from('plus') },
      'sub/empty': { bytes: Buffer.alloc(0) },
    },
  })
}

async function ask(agent: MemoryAgent, path: string, headers: Record<string, string> = {}, method = 'GET') {
  const response = await fetch(`${agent.url}${path}`, { method, headers, redirect: 'manual' })
  return {
    status: response.status,
    headers: response.headers,
    body: Buffer.from(await response.arrayBuffer()),
  }
}

test('a GET gives the whole file in place with every header clients need', async (t) => {
  const agent = await startMemoryAgent(t)
  const { commit } = addModel(agent)
  const { status, headers, body } = await ask(agent, '/org/model/resolve/main/model.safetensors')
  assert.equal(status, 200)
  assert.deepEqual(body, WEIGHTS)
  const sha256 = blobDigest('sha256', WEIGHTS)
  assert.equal(headers.get('x-repo-commit'), commit)
  assert.equal(headers.get('etag'), `"${sha256}"`)
  assert.equal(headers.get('x-linked-etag'), `"${sha256}"`)
  assert.equal(headers.get('x-linked-size'), String(WEIGHTS.byteLength))
  assert.equal(headers.get('content-length'), String(WEIGHTS.byteLength))
  assert.equal(headers.get('accept-ranges'), 'bytes')
  assert.equal(headers.get('content-encoding'), null)
  assert.equal(headers.get('x-shoal-source'), 'disk')
  assert.equal(headers.get('content-type'), 'application/octet-stream')
  assert.match(headers.get('content-disposition') ?? '', /^attachment; filename\*=UTF-8''model\.safetensors/)
  assert.equal(agent.server.sentBytes, WEIGHTS.byteLength)
})

test('a small file is named by its git id and sent as text', async (t) => {
  const agent = await startMemoryAgent(t)
  addModel(agent)
  const { headers } = await ask(agent, '/org/model/resolve/main/config.json', {}, 'HEAD')
  assert.equal(headers.get('etag'), `"${blobDigest('git-sha1', CONFIG)}"`)
  assert.equal(headers.get('content-type'), 'text/plain; charset=utf-8')
})

test('HEAD says what GET says, and opens nothing', async (t) => {
  const agent = await startMemoryAgent(t)
  addModel(agent)
  for (const path of [
    'model.safetensors',
    'config.json',
    'sub/empty',
    'sub/dir/a+b%20%E6%A8%A1.txt',
    'gone',
  ]) {
    for (const route of ['resolve', 'raw']) {
      const url = `/org/model/${route}/main/${path}`
      const head = await ask(agent, url, {}, 'HEAD')
      const openedByHead = agent.downloads.counts.opened
      const get = await ask(agent, url)
      assert.equal(head.status, get.status, url)
      assert.equal(head.body.byteLength, 0, url)
      const ignored = new Set(['date', 'x-shoal-source', 'connection', 'keep-alive'])
      const facts = (headers: Headers) => [...headers].filter(([name]) => !ignored.has(name))
      assert.deepEqual(facts(head.headers), facts(get.headers), url)
      assert.equal(Number(get.headers.get('content-length')), get.body.byteLength, url)
      assert.ok(agent.downloads.counts.opened - openedByHead <= 1, url)
    }
  }
  const before = agent.downloads.counts.opened
  await ask(agent, '/org/model/resolve/main/config.json', {}, 'HEAD')
  assert.equal(agent.downloads.counts.opened, before)
})

test('ranges are answered 206, 416 and 200 as RFC 9110 and the clients want', async (t) => {
  const agent = await startMemoryAgent(t)
  addModel(agent)
  const size = WEIGHTS.byteLength
  const url = '/org/model/resolve/main/model.safetensors'
  const rows: readonly (readonly [
    range: string,
    status: number,
    contentRange: string | null,
    from: number,
    to: number,
  ])[] = [
    ['bytes=0-0', 206, `bytes 0-0/${size}`, 0, 1],
    ['bytes=100-70000', 206, `bytes 100-70000/${size}`, 100, 70_001],
    ['bytes=299990-', 206, `bytes 299990-299999/${size}`, 299_990, size],
    ['bytes=-5', 206, `bytes 299995-299999/${size}`, 299_995, size],
    ['bytes=300000-', 416, `bytes */${size}`, 0, 0],
    ['bytes=0-1,5-6', 200, null, 0, size],
    ['bytes=5-4', 200, null, 0, size],
    ['items=0-1', 200, null, 0, size],
  ]
  for (const [range, status, contentRange, from, to] of rows) {
    const got = await ask(agent, url, { range })
    assert.equal(got.status, status, range)
    assert.equal(got.headers.get('content-range'), contentRange, range)
    if (status !== 416) assert.deepEqual(got.body, WEIGHTS.subarray(from, to), range)
  }
  const stale = await ask(agent, url, { range: 'bytes=1-2', 'if-range': '"other"' })
  assert.equal(stale.status, 200)
  const etag = `"${blobDigest('sha256', WEIGHTS)}"`
  assert.equal((await ask(agent, url, { range: 'bytes=1-2', 'if-range': etag })).status, 206)
})

test('a probe of an empty file gets 200, no bytes and a Content-Range', async (t) => {
  const agent = await startMemoryAgent(t)
  addModel(agent)
  const { status, headers, body } = await ask(agent, '/org/model/resolve/main/sub/empty', {
    range: 'bytes=0-0',
    accept: 'application/vnd.xet-fileinfo+json, */*',
  })
  assert.deepEqual([status, body.byteLength], [200, 0])
  assert.equal(headers.get('content-range'), 'bytes */0')
  assert.equal(headers.get('content-length'), '0')
  assert.doesNotMatch(headers.get('content-type') ?? '', /xet/)
})

test('a client that has the file gets 304, after its access was checked', async (t) => {
  const agent = await startMemoryAgent(t)
  addModel(agent)
  const url = '/org/model/resolve/main/model.safetensors'
  const etag = blobDigest('sha256', WEIGHTS)
  for (const value of [`"${etag}"`, `W/"${etag}"`, `"x", "${etag}"`, '*']) {
    for (const method of ['GET', 'HEAD']) {
      const { status, headers, body } = await ask(agent, url, { 'if-none-match': value }, method)
      assert.deepEqual([status, body.byteLength], [304, 0], `${method} ${value}`)
      assert.equal(headers.get('etag'), `"${etag}"`)
      assert.ok(headers.has('x-repo-commit'))
    }
  }
  assert.equal((await ask(agent, url, { 'if-none-match': '"other"' })).status, 200)
})

test('a client that holds a bad prefix gets the whole file for its "the rest from here"', async (t) => {
  const agent = await startMemoryAgent(t, { downloads: { suspectPrefix: true } })
  addModel(agent)
  const url = '/org/model/resolve/main/model.safetensors'
  const rest = await ask(agent, url, { range: 'bytes=1000-' })
  assert.equal(rest.status, 200)
  assert.equal(rest.headers.get('content-range'), null)
  assert.deepEqual(rest.body, WEIGHTS)
  for (const range of ['bytes=0-', 'bytes=1000-1999', 'bytes=-10'])
    assert.equal((await ask(agent, url, { range })).status, 206, range)
})

test('raw gives the pointer of an LFS file with its git id, without the Hub', async (t) => {
  const agent = await startMemoryAgent(t)
  addModel(agent)
  const { status, headers, body } = await ask(agent, '/org/model/raw/main/model.safetensors')
  assert.equal(status, 200)
  assert.match(
    body.toString(),
    /^version https:\/\/git-lfs\.github\.com\/spec\/v1\noid sha256:[0-9a-f]{64}\nsize 300000\n$/,
  )
  assert.equal(headers.get('etag'), `"${blobDigest('git-sha1', body)}"`)
  assert.deepEqual((await ask(agent, '/org/model/raw/main/config.json')).body, CONFIG)
  const part = await ask(agent, '/org/model/raw/main/model.safetensors', { range: 'bytes=0-6' })
  assert.deepEqual([part.status, part.body.toString()], [206, 'version'])
})

test('a revision is found however the client writes it', async (t) => {
  const agent = await startMemoryAgent(t)
  const { commit } = addModel(agent)
  for (const revision of ['main', 'HEAD', commit, 'refs%2Fpr%2F1', 'refs/pr/1']) {
    const { status, headers } = await ask(agent, `/org/model/resolve/${revision}/config.json`)
    assert.equal(status, 200, revision)
    assert.equal(headers.get('x-repo-commit'), commit, revision)
    assert.equal((await ask(agent, `/api/models/org/model/tree/${revision}`)).status, 200, revision)
  }
})

test('what is missing is said with the Hub\u2019s status and code', async (t) => {
  const agent = await startMemoryAgent(t)
  const { commit } = addModel(agent)
  const auth = { authorization: `Bearer ${GOOD_TOKEN}` }
  const rows: readonly (readonly [
    id: string,
    path: string,
    headers: Record<string, string>,
    status: number,
    code: string | null,
  ])[] = [
    ['repo, anonymous', '/no/repo/resolve/main/f', {}, 401, 'RepoNotFound'],
    ['repo, token', '/no/repo/resolve/main/f', auth, 404, 'RepoNotFound'],
    ['revision', '/org/model/resolve/nope/f', {}, 404, 'RevisionNotFound'],
    ['impossible revision', '/org/model/resolve/HEAD~1/f', {}, 404, 'RevisionNotFound'],
    ['file', '/org/model/resolve/main/gone.txt', {}, 404, 'EntryNotFound'],
    ['directory', '/api/models/org/model/tree/main/gone', {}, 404, 'EntryNotFound'],
    ['file as directory', '/api/models/org/model/tree/main/config.json', {}, 404, 'EntryNotFound'],
    ['bad path', '/org/model/resolve/main/a%00', {}, 400, 'BadRequest'],
    ['xet token', '/api/models/org/model/xet-read-token/main', {}, 404, 'NotFound'],
    ['harness', '/api/agent-harnesses', {}, 404, 'NotFound'],
    ['discussions', '/api/models/org/model/discussions', {}, 501, 'NotSupported'],
    ['nothing', '/what/ever', {}, 404, 'NotFound'],
  ]
  for (const [id, path, headers, status, code] of rows) {
    const got = await ask(agent, path, headers)
    assert.equal(got.status, status, id)
    assert.equal(got.headers.get('x-error-code'), code, id)
    const message = got.headers.get('x-error-message')
    assert.ok(message !== null && message !== '', id)
    assert.equal(typeof (JSON.parse(got.body.toString()) as { error: unknown }).error, 'string', id)
    const pinned = code === 'EntryNotFound' ? commit : null
    assert.equal(got.headers.get('x-repo-commit'), pinned, id)
  }
})

test('an origin that cannot be asked is a 503 that says so, not a missing file', async (t) => {
  const agent = await startMemoryAgent(t)
  addModel(agent)
  agent.catalog.down = new ShoalError('origin-rate-limited', 'the Hub asks us to wait', {
    retryAfterMs: 2500,
  })
  const { status, headers } = await ask(agent, '/org/model/resolve/main/config.json')
  assert.equal(status, 503)
  assert.equal(headers.get('retry-after'), '3')
  assert.equal(headers.get('x-error-message'), 'the Hub asks us to wait')
  assert.equal(headers.get('x-error-code'), null)
})

test('a gated or private file gives nothing to a caller the Hub refuses, however it is asked for', async (t) => {
  const agent = await startMemoryAgent(t)
  const secret = { 'w.bin': { bytes: WEIGHTS, lfs: true }, 'd/c.txt': { bytes: CONFIG } }
  const gated = agent.catalog.add({ spec: 'org/gated', access: 'gated', files: secret })
  agent.catalog.add({ spec: 'org/private', access: 'private', files: secret })
  // The same blobs are public elsewhere: that must open nothing here.
  agent.catalog.add({ spec: 'org/open', files: secret })
  const etag = blobDigest('sha256', WEIGHTS)
  const ways = (repo: string): readonly (readonly [string, string, RequestInit])[] => [
    ['GET', `/org/${repo}/resolve/main/w.bin`, {}],
    ['GET small', `/org/${repo}/resolve/main/d/c.txt`, {}],
    ['GET commit', `/org/${repo}/resolve/${repo === 'gated' ? gated.commit : 'main'}/w.bin`, {}],
    ['HEAD', `/org/${repo}/resolve/main/w.bin`, { method: 'HEAD' }],
    ['Range', `/org/${repo}/resolve/main/w.bin`, { headers: { range: 'bytes=0-0' } }],
    ['304', `/org/${repo}/resolve/main/w.bin`, { headers: { 'if-none-match': `"${etag}"` } }],
    ['absent file', `/org/${repo}/resolve/main/nothing-here`, {}],
    ['raw', `/org/${repo}/raw/main/w.bin`, {}],
    ['raw small', `/org/${repo}/raw/main/d/c.txt`, {}],
    ['tree', `/api/models/org/${repo}/tree/main?recursive=true`, {}],
    ['absent directory', `/api/models/org/${repo}/tree/main/nothing`, {}],
    ['info', `/api/models/org/${repo}?blobs=true`, {}],
    ['auth-check', `/api/models/org/${repo}/auth-check`, {}],
    [
      'paths-info',
      `/api/models/org/${repo}/paths-info/main`,
      { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"paths":["w.bin"]}' },
    ],
  ]
  const callers: readonly (readonly [
    id: string,
    token: string | undefined,
    gated: [number, string | null],
    hidden: [number, string | null],
  ])[] = [
    ['no token', undefined, [401, 'GatedRepo'], [401, 'RepoNotFound']],
    ['bad token', BAD_TOKEN, [401, null], [401, null]],
    ['stranger', STRANGER_TOKEN, [403, 'GatedRepo'], [404, 'RepoNotFound']],
  ]
  for (const round of ['cold', 'cached by one who may']) {
    for (const [caller, token, onGated, onPrivate] of callers) {
      for (const [repo, [status, code]] of [
        ['gated', onGated],
        ['private', onPrivate],
      ] as const) {
        for (const [way, path, init] of ways(repo)) {
          const id = `${round}, ${caller}, ${repo}, ${way}`
          const opened = agent.downloads.counts.opened
          const headers = new Headers(init.headers)
          if (token !== undefined) headers.set('authorization', `bearer ${token}`)
          const response = await fetch(`${agent.url}${path}`, { ...init, headers })
          const body = Buffer.from(await response.arrayBuffer())
          assert.equal(response.status, status, id)
          assert.equal(response.headers.get('x-error-code'), code, id)
          for (const name of [
            'etag',
            'x-repo-commit',
            'x-linked-size',
            'x-linked-etag',
            'content-disposition',
          ])
            assert.equal(response.headers.get(name), null, `${id}: ${name}`)
          assert.ok(!body.includes(etag) && !body.includes('d/c.txt'), id)
          assert.equal(agent.downloads.counts.opened, opened, id)
        }
      }
    }
    for (const repo of ['gated', 'private']) {
      for (const [way, path, init] of ways(repo)) {
        const headers = new Headers(init.headers)
        headers.set('authorization', `BEARER ${GOOD_TOKEN}`)
        const response = await fetch(`${agent.url}${path}`, { ...init, headers })
        await response.arrayBuffer()
        const wanted = { Range: 206, '304': 304, 'absent file': 404, 'absent directory': 404 }[way] ?? 200
        assert.equal(response.status, wanted, `${round}, may read, ${repo}, ${way}`)
      }
    }
  }
})

test('a bad Authorization header is refused before anybody is asked', async (t) => {
  const agent = await startMemoryAgent(t)
  addModel(agent)
  for (const authorization of ['Basic abc', 'Bearer', 'Bearer ', 'hf_x', 'Bearer a b']) {
    const { status, headers } = await ask(agent, '/org/model/resolve/main/config.json', { authorization })
    assert.equal(status, 401, authorization)
    assert.equal(headers.get('x-error-message'), 'Invalid credentials in Authorization header')
  }
  assert.equal(agent.catalog.asked.manifests, 0)
})
