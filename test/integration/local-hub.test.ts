// The local Hub against a stock client that is pointed straight at it, and its answers header by header.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { after, before, describe } from 'node:test'
import { downloadFile, fileExists, listFiles, modelInfo, snapshotDownload } from '@huggingface/hub'
import { readAll, seededContent, sha256Of } from '../support/local-hub/content.ts'
import { type LocalHub, startLocalHub } from '../support/local-hub/hub.ts'
import { spawnLocalHub } from '../support/local-hub/process.ts'
import { rawRequest } from '../support/local-hub/raw-request.ts'
import { tempFolder } from '../support/temp-folder.ts'

const WEIGHTS = seededContent('weights', 3_000_001)
const CONFIG = '{"model_type":"tiny"}'
const FILES = {
  'config.json': CONFIG,
  'tokenizer.json': JSON.stringify({ words: 'lots of words '.repeat(200) }),
  'empty.txt': '',
  'sub folder/a+b é.txt': 'names are hard',
  'model.safetensors': WEIGHTS,
}
const TOKEN = 'hf_reader'

let hub: LocalHub
before(async () => {
  hub = await startLocalHub({
    treePage: 2,
    users: [
      { name: 'reader', token: TOKEN, access: ['org/gated', 'org/private'] },
      { name: 'other', token: 'hf_other', access: [] },
    ],
    repos: [
      { id: 'org/model', files: FILES, tags: ['v1'], pulls: [1] },
      { id: 'gpt', files: { 'config.json': CONFIG } },
      { kind: 'dataset', id: 'org/data', files: { 'README.md': '# data' } },
      { id: 'org/gated', files: { 'a.bin': seededContent(1, 10) }, gated: 'manual' },
      { id: 'org/private', files: { 'a.txt': 'a' }, private: true },
      { id: 'org/disabled', files: { 'a.txt': 'a' }, disabled: true },
    ],
  })
})
after(() => hub.stop())

describe('a stock client, straight to the local Hub', () => {
  test('lists every file over several pages', async () => {
    const found = []
    for await (const entry of listFiles({ repo: 'org/model', recursive: true, hubUrl: hub.url }))
      if (entry.type === 'file') found.push(entry.path)
    assert.deepEqual(found, Object.keys(FILES).sort())
  })

  test('reads plain and LFS files byte for byte', async () => {
    for (const [path, source] of Object.entries(FILES)) {
      const blob = await downloadFile({ repo: 'org/model', path, hubUrl: hub.url })
      const wanted = typeof source === 'string' ? Buffer.from(source) : await readAll(source)
      assert.deepEqual(Buffer.from((await blob?.arrayBuffer()) ?? new ArrayBuffer(1)), wanted, path)
    }
    const data = await downloadFile({
      repo: { type: 'dataset', name: 'org/data' },
      path: 'README.md',
      hubUrl: hub.url,
    })
    assert.equal(await data?.text(), '# data')
  })

  test('downloads a snapshot into a Hugging Face cache', async (context) => {
    const log = context.mock.method(console, 'debug', () => {})
    const folder = await snapshotDownload({
      repo: 'org/model',
      hubUrl: hub.url,
      cacheDir: await tempFolder(context),
    })
    log.mock.restore()
    const bytes = await readFile(join(folder, 'model.safetensors'))
    assert.equal(createHash('sha256').update(bytes).digest('hex'), await sha256Of(WEIGHTS))
  })

  test('knows what exists', async () => {
    assert.equal(await fileExists({ repo: 'org/model', path: 'config.json', hubUrl: hub.url }), true)
    assert.equal(await fileExists({ repo: 'org/model', path: 'none', hubUrl: hub.url }), false)
    assert.equal((await modelInfo({ name: 'org/model', hubUrl: hub.url })).name, 'org/model')
  })
})

describe('resolve', () => {
  test('sends a plain file by a relative redirect, with the commit on both hops', async () => {
    const first = await rawRequest(`${hub.url}/org/model/resolve/main/config.json`)
    assert.equal(first.status, 307)
    const location = first.header('location') ?? ''
    assert.match(location, /^\/api\/resolve-cache\/models\/org\/model\/[0-9a-f]{40}\/config\.json\?/)
    const second = await rawRequest(hub.url + location, { method: 'HEAD' })
    assert.equal(second.status, 200)
    assert.equal(second.header('etag'), `"${hub.oidOf({ repo: 'org/model', path: 'config.json' })}"`)
    assert.equal(second.header('content-length'), String(CONFIG.length))
    assert.equal(second.header('x-repo-commit'), first.header('x-repo-commit'))
  })

  test('sends an LFS file by a signed redirect to another port, with its identity on the redirect', async () => {
    const sha256 = await sha256Of(WEIGHTS)
    const first = await rawRequest(`${hub.url}/org/model/resolve/v1/model.safetensors`, { method: 'HEAD' })
    assert.equal(first.status, 302)
    assert.equal(first.header('x-linked-etag'), `"${sha256}"`)
    assert.equal(first.header('x-linked-size'), '3000001')
    assert.match(first.header('x-repo-commit') ?? '', /^[0-9a-f]{40}$/)
    assert.match(first.header('x-xet-hash') ?? '', /^[0-9a-f]{64}$/)
    const location = first.header('location') ?? ''
    assert.ok(location.startsWith(hub.cdnUrl), location)
    const part = await rawRequest(location, { headers: { Range: 'bytes=100-199' } })
    assert.equal(part.status, 206)
    assert.equal(part.header('content-range'), 'bytes 100-199/3000001')
    assert.deepEqual(part.body, Buffer.from((await readAll(WEIGHTS)).subarray(100, 200)))
    assert.equal((await rawRequest(location, { headers: { Range: 'bytes=3000001-' } })).status, 416)
    assert.equal((await rawRequest(location.replace('Signature=', 'Signature=x'))).status, 403)
  })

  test('refuses a token at the CDN and counts it as a leak', async () => {
    const first = await rawRequest(`${hub.url}/org/model/resolve/main/model.safetensors`)
    const leaksBefore = hub.counts.tokenLeaks
    const leak = await rawRequest(first.header('location') ?? '', {
      headers: { Authorization: 'Bearer hf_x' },
    })
    assert.equal(leak.status, 400)
    assert.equal(hub.counts.tokenLeaks, leaksBefore + 1)
  })

  test('answers 304 to the ETag it gave', async () => {
    const etag = `"${await sha256Of(WEIGHTS)}"`
    const same = await rawRequest(`${hub.url}/org/model/resolve/main/model.safetensors`, {
      headers: { 'If-None-Match': etag },
    })
    assert.equal(same.status, 304)
  })

  test('compresses text for those who accept it, and then tells no length', async () => {
    const url = `${hub.url}/org/model/resolve/main/tokenizer.json`
    const location = (await rawRequest(url)).header('location') ?? ''
    const gzip = await rawRequest(hub.url + location, { headers: { 'Accept-Encoding': 'gzip' } })
    assert.equal(gzip.header('content-encoding'), 'gzip')
    assert.equal(gzip.header('content-length'), undefined)
    const plain = await rawRequest(hub.url + location, { headers: { 'Accept-Encoding': 'identity' } })
    assert.equal(plain.body.toString(), FILES['tokenizer.json'])
  })

  test('gives the pointer of an LFS file on the raw route', async () => {
    const raw = await rawRequest(`${hub.url}/org/model/raw/main/model.safetensors`)
    assert.match(
      raw.body.toString(),
      /^version https:\/\/git-lfs\.github\.com\/spec\/v1\noid sha256:[0-9a-f]{64}\nsize 3000001\n$/,
    )
  })

  test('sends to the new name of a renamed repo', async () => {
    await hub.addRepo({ id: 'org/old', files: { 'a.txt': 'a' } })
    hub.renameRepo('org/old', 'org/new')
    const moved = await rawRequest(`${hub.url}/org/old/resolve/main/a.txt`)
    assert.equal(moved.status, 307)
    assert.equal(moved.header('location'), '/org/new/resolve/main/a.txt')
    assert.equal(
      (await rawRequest(`${hub.url}/api/models/org/old`)).header('location'),
      '/api/models/org/new',
    )
  })
})

describe('refusals', () => {
  const table: readonly [
    id: string,
    path: string,
    token: string | undefined,
    status: number,
    code: string | undefined,
  ][] = [
    ['missing, anonymous', '/api/models/org/none', undefined, 401, 'RepoNotFound'],
    ['missing, user', '/api/models/org/none', TOKEN, 404, 'RepoNotFound'],
    ['private, anonymous', '/org/private/resolve/main/a.txt', undefined, 401, 'RepoNotFound'],
    ['private, stranger', '/api/models/org/private', 'hf_other', 404, 'RepoNotFound'],
    ['private, member', '/api/models/org/private', TOKEN, 200, undefined],
    ['gated, anonymous', '/org/gated/resolve/main/a.bin', undefined, 401, 'GatedRepo'],
    ['gated, stranger', '/org/gated/resolve/main/a.bin', 'hf_other', 403, 'GatedRepo'],
    ['gated, stranger asks', '/api/models/org/gated/auth-check', 'hf_other', 403, 'GatedRepo'],
    ['gated, member', '/org/gated/resolve/main/a.bin', TOKEN, 302, undefined],
    ['gated, tree is open', '/api/models/org/gated/tree/main', undefined, 200, undefined],
    ['revision', '/org/model/resolve/none/config.json', undefined, 404, 'RevisionNotFound'],
    ['revision of info', '/api/models/org/model/revision/none', undefined, 404, 'RevisionNotFound'],
    ['path', '/org/model/resolve/main/none', undefined, 404, 'EntryNotFound'],
    ['directory', '/api/models/org/model/tree/main/none', undefined, 404, 'EntryNotFound'],
    ['disabled', '/api/models/org/disabled', undefined, 403, undefined],
    ['bad token', '/api/models/org/model', 'hf_wrong', 401, undefined],
    ['whoami, anonymous', '/api/whoami-v2', undefined, 401, undefined],
    ['whoami', '/api/whoami-v2', TOKEN, 200, undefined],
    ['one-segment id', '/gpt/resolve/main/config.json', undefined, 307, undefined],
    ['pull request, encoded', '/api/models/org/model/tree/refs%2Fpr%2F1', undefined, 200, undefined],
    ['pull request, raw', '/api/models/org/model/tree/refs/pr/1/sub%20folder', undefined, 200, undefined],
    ['HEAD', '/api/models/org/model/revision/HEAD', undefined, 200, undefined],
  ]
  for (const [id, path, token, status, code] of table) {
    test(`${id}: ${status}${code === undefined ? '' : ` ${code}`}`, async () => {
      const headers = token === undefined ? {} : { Authorization: `Bearer ${token}` }
      const answer = await rawRequest(hub.url + path, { headers })
      assert.equal(answer.status, status)
      assert.equal(answer.header('x-error-code'), code)
      if (id === 'path') assert.match(answer.header('x-repo-commit') ?? '', /^[0-9a-f]{40}$/)
      if (id === 'disabled')
        assert.equal(answer.header('x-error-message'), 'Access to this resource is disabled.')
      if (id === 'bad token')
        assert.equal(answer.header('x-error-message'), 'Invalid credentials in Authorization header')
    })
  }
})

describe('metadata', () => {
  test('paths-info takes both forms, leaves unknown paths out, and names the commit that changed a file', async () => {
    await hub.addRepo({ id: 'org/two', files: { 'a.txt': 'a', 'd/b.txt': 'b' } })
    const before = hub.repo('org/two').refs.get('refs/heads/main')?.sha
    await hub.commit('org/two', { files: { 'd/b.txt': 'bb' } })
    const url = `${hub.url}/api/models/org/two/paths-info/main`
    const json = await rawRequest(url, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: '{"paths":["a.txt","d","none"],"expand":true}',
    })
    const form = await rawRequest(url, {
      method: 'POST',
      headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
      body: 'paths=a.txt&paths=d&paths=none&expand=True',
    })
    assert.equal(json.body.toString(), form.body.toString())
    const entries = JSON.parse(json.body.toString()) as {
      path: string
      type: string
      lastCommit: { id: string }
    }[]
    assert.deepEqual(
      entries.map(({ path, type }) => [path, type]),
      [
        ['a.txt', 'file'],
        ['d', 'directory'],
      ],
    )
    assert.equal(entries[0]?.lastCommit.id, before)
  })

  test('refs and commits tell branches, tags, pull requests and history page by page', async () => {
    const refs = await rawRequest(`${hub.url}/api/models/org/model/refs?include_prs=1`)
    const { branches, tags, converts, pullRequests } = JSON.parse(refs.body.toString())
    assert.deepEqual(
      [branches.length, tags[0].ref, converts.length, pullRequests[0].ref],
      [1, 'refs/tags/v1', 0, 'refs/pr/1'],
    )
    await hub.addRepo({ id: 'org/three', files: { 'a.txt': '1' } })
    await hub.commit('org/three', { files: { 'a.txt': '2' } })
    await hub.commit('org/three', { files: { 'a.txt': null } })
    const page = await rawRequest(`${hub.url}/api/models/org/three/commits/main?limit=2`)
    assert.equal(JSON.parse(page.body.toString()).length, 2)
    const next = /^<(http:[^>]+)>; rel="next"$/.exec(page.header('link') ?? '')?.[1] ?? ''
    assert.equal(JSON.parse((await rawRequest(next)).body.toString()).length, 1)
  })
})

test('rate limits count down in headers, then answer 429 until the window ends', async (context) => {
  const strict = await startLocalHub({
    repos: [{ id: 'org/m', files: { 'a.txt': 'a' } }],
    quotas: { api: { anonymous: 2, user: 2 }, windowSeconds: 1 },
  })
  context.after(() => strict.stop())
  const ask = () => rawRequest(`${strict.url}/api/models/org/m`)
  const first = await ask()
  assert.equal(first.header('ratelimit'), '"api";r=1;t=1')
  assert.equal(first.header('ratelimit-policy'), '"fixed window";"api";q=2;w=1')
  await ask()
  const third = await ask()
  assert.equal(third.status, 429)
  assert.equal((await rawRequest(`${strict.url}/org/m/resolve/main/a.txt`)).status, 307)
  let answer = third
  while (answer.status === 429) answer = await ask()
  assert.equal(answer.status, 200)
})

test('counts tell how often each byte of a file left, and when', async (context) => {
  const own = await startLocalHub({ repos: [{ id: 'org/m', files: { 'w.bin': seededContent(5, 1000) } }] })
  context.after(() => own.stop())
  const name = { repo: 'org/m', path: 'w.bin' }
  const location = (await rawRequest(`${own.url}/org/m/resolve/main/w.bin`)).header('location') ?? ''
  await rawRequest(location, { headers: { Range: 'bytes=0-499' } })
  assert.deepEqual(own.copiesOf(name), { min: 0, max: 1, mean: 0.5 })
  await rawRequest(location, { headers: { Range: 'bytes=400-' } })
  assert.deepEqual(own.copiesOf(name), { min: 1, max: 2, mean: 1.1 })
  const { bytes, parts, firstByteAt = 0, lastByteAt = 0 } = own.countsOf(name)
  assert.equal(bytes, 1100)
  assert.deepEqual(parts, [
    [0, 500],
    [400, 1000],
  ])
  assert.ok(firstByteAt <= lastByteAt)
  assert.equal(own.counts.requests('cdn'), 2)
  assert.equal(own.counts.bytesFrom('cdn'), 1100)
})

test('the Hub as a process of its own is steered from outside', async () => {
  await using other = await spawnLocalHub({
    repos: [{ id: 'org/m', files: { 'a.txt': { text: 'a' }, 'w.bin': { seed: 1, sizeBytes: 5000 } } }],
  })
  const blob = await downloadFile({ repo: 'org/m', path: 'w.bin', hubUrl: other.url })
  assert.equal((await blob?.arrayBuffer())?.byteLength, 5000)
  const { control } = other
  assert.equal((await control.copiesOf({ repo: 'org/m', path: 'w.bin' })).min, 1)
  await control.addFault({ when: { kind: 'info' }, status: 503, times: 1 })
  assert.equal((await rawRequest(`${other.url}/api/models/org/m`)).status, 503)
  assert.equal((await rawRequest(`${other.url}/api/models/org/m`)).status, 200)
  await control.changeRepo('org/m', { private: true })
  assert.equal((await rawRequest(`${other.url}/api/models/org/m`)).status, 401)
  await control.pause('hub')
  await assert.rejects(rawRequest(other.url), { code: 'ECONNREFUSED' })
  await assert.rejects(control.moveBranch('org/none', 'main', 'x'), /no repo org\/none/)
})
