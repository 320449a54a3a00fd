// The agent's Hub client against the local Hub: what it learns, how it fetches, whom it shows a token.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import test, { after, before, describe } from 'node:test'
import { fixedSlices } from '@shoal/protocol/chunks.ts'
import { hasCode, ShoalError } from '@shoal/protocol/errors.ts'
import {
  type Commit,
  parseCommit,
  parseFilePath,
  parseRepoSpec,
  parseRevision,
  type Repo,
} from '@shoal/protocol/ids.ts'
import type { FileEntry } from '@shoal/protocol/manifest.ts'
import { readAll, seededContent } from '../support/local-hub/content.ts'
import { type LocalHub, startLocalHub } from '../support/local-hub/hub.ts'
import { fetchChunk, testClient } from '../support/origin-client.ts'

const WEIGHTS = seededContent('weights', 3_000_001)
const TOKEN = 'hf_reader'
const CHUNK = 1024 * 1024
const MODEL: Repo = parseRepoSpec('org/model').repo
const MAIN = parseRevision('main')
const signal = new AbortController().signal
const anonymous = { token: undefined, signal }

let hub: LocalHub
before(async () => {
  hub = await startLocalHub({
    treePage: 2,
    users: [
      { name: 'reader', token: TOKEN, access: ['org/gated', 'org/private'] },
      { name: 'other', token: 'hf_other', access: [] },
    ],
    repos: [
      {
        id: 'org/model',
        files: {
          'config.json': '{"model_type":"tiny"}',
          'empty.txt': '',
          'sub folder/a+b é.txt': 'names are hard',
          'model.safetensors': WEIGHTS,
        },
        tags: ['v1'],
        pulls: [1],
      },
      { id: 'gpt', files: { 'config.json': '{}' } },
      { kind: 'dataset', id: 'org/data', files: { 'README.md': '# data' } },
      { id: 'org/gated', files: { 'a.bin': seededContent(1, 10) }, gated: 'manual' },
      { id: 'org/private', files: { 'a.txt': 'a' }, private: true },
      { id: 'org/disabled', files: { 'a.txt': 'a' }, disabled: true },
    ],
  })
})
after(() => hub.stop())

function refusal(code: string, httpStatus: number) {
  return (error: unknown) => {
    assert.ok(error instanceof ShoalError, String(error))
    assert.equal(error.code, code, error.message)
    assert.equal(error.details.httpStatus, httpStatus, error.message)
    return true
  }
}

async function fileOf(client: ReturnType<typeof testClient>, repo: Repo, path: string, token?: string) {
  const { commit } = await client.hub.revision(repo, MAIN, { token, signal })
  const tree = await client.hub.tree(repo, commit, { token, signal })
  const entry = tree.files.find((one) => one.path === path)
  assert.ok(entry !== undefined, `no ${path}`)
  return { repo, commit, entry }
}

describe('metadata', () => {
  test('a branch, a tag, a pull request, HEAD and a commit resolve to the commit; siblings and Xet are left out', async (t) => {
    const { hub: client } = testClient(t, { upstreams: [hub.url] })
    const main = await client.revision(MODEL, MAIN, anonymous)
    for (const name of ['v1', 'HEAD', 'refs/pr/1', main.commit]) {
      const found = await client.revision(MODEL, parseRevision(name), anonymous)
      assert.match(found.commit, /^[0-9a-f]{40}$/, name)
      assert.equal(found.access, 'public', name)
    }
    assert.equal(main.info.id, 'org/model')
    assert.equal(main.info.siblings, undefined)
    assert.doesNotMatch(JSON.stringify(main.info), /xet/i)
  })

  test('all pages of a tree are joined, with sizes and digests of both kinds of file', async (t) => {
    const { hub: client } = testClient(t, { upstreams: [hub.url] })
    const { commit } = await client.revision(MODEL, MAIN, anonymous)
    const tree = await client.tree(MODEL, commit, anonymous)
    const byPath = new Map<string, FileEntry>(tree.files.map((entry) => [entry.path, entry]))
    assert.deepEqual([...byPath.keys()].sort(), [
      'config.json',
      'empty.txt',
      'model.safetensors',
      'sub folder/a+b é.txt',
    ])
    assert.equal(
      byPath.get('model.safetensors')?.blob,
      `sha256:${hub.oidOf({ repo: 'org/model', path: 'model.safetensors' })}`,
    )
    assert.equal(
      byPath.get('config.json')?.blob,
      `git-sha1:${hub.oidOf({ repo: 'org/model', path: 'config.json' })}`,
    )
    assert.deepEqual(
      tree.directories.map((one) => one.path),
      ['sub folder'],
    )
  })

  const refusals: readonly (readonly [
    repo: string,
    revision: string,
    token: string | undefined,
    code: string,
    status: number,
  ])[] = [
    ['org/none', 'main', undefined, 'repo-not-found', 401],
    ['org/none', 'main', TOKEN, 'repo-not-found', 404],
    ['org/private', 'main', undefined, 'repo-not-found', 401],
    ['org/private', 'main', 'hf_other', 'repo-not-found', 404],
    ['org/model', 'none', undefined, 'revision-not-found', 404],
    ['org/model', 'main', 'hf_unknown', 'unauthorized', 401],
  ]
  for (const [repo, revision, token, code, status] of refusals) {
    test(`${repo}@${revision} with ${token ?? 'no token'} is ${code}, status ${status}`, async (t) => {
      const { hub: client } = testClient(t, { upstreams: [hub.url] })
      await assert.rejects(
        client.revision(parseRepoSpec(repo).repo, parseRevision(revision), { token, signal }),
        refusal(code, status),
      )
    })
  }

  test('only a token with access passes the check of a gated and of a private repo', async (t) => {
    const { hub: client } = testClient(t, { upstreams: [hub.url] })
    for (const name of ['org/gated', 'org/private'])
      await client.authCheck(parseRepoSpec(name).repo, { token: TOKEN, signal })
    await client.authCheck(MODEL, anonymous)
    const gated = parseRepoSpec('org/gated').repo
    await assert.rejects(client.authCheck(gated, anonymous), refusal('repo-gated', 401))
    await assert.rejects(client.authCheck(gated, { token: 'hf_other', signal }), refusal('repo-gated', 403))
    const found = await client.revision(gated, MAIN, { token: TOKEN, signal })
    assert.equal(found.access, 'gated')
  })

  test('a renamed repo is followed', async (t) => {
    const { hub: client } = testClient(t, { upstreams: [hub.url] })
    await hub.addRepo({ id: 'org/old', files: { 'a.txt': 'renamed', 'b.bin': seededContent(7, 70_000) } })
    const file = await fileOf(
      { hub: client } as ReturnType<typeof testClient>,
      parseRepoSpec('org/old').repo,
      'b.bin',
    )
    hub.renameRepo('org/old', 'org/new')
    const after = await client.revision(file.repo, MAIN, anonymous)
    assert.equal(after.commit, file.commit)
    const { bytes } = await fetchChunk(
      client.source(file, () => undefined),
      file.entry.blob,
      fixedSlices(70_000),
      0,
    )
    assert.deepEqual(Buffer.from(bytes), await readAll(seededContent(7, 70_000)))
  })

  test('whoami and refs pass through with status and body, and a 404 is not an error', async (t) => {
    const { hub: client } = testClient(t, { upstreams: [hub.url] })
    const me = await client.pass('/api/whoami-v2', { token: TOKEN, signal })
    assert.equal(me.status, 200)
    assert.equal(JSON.parse(Buffer.from(me.body).toString()).name, 'reader')
    assert.equal((await client.pass('/api/whoami-v2', anonymous)).status, 401)
    assert.equal((await client.pass('/api/models/org/none/refs', { token: TOKEN, signal })).status, 404)
    await assert.rejects(client.pass('/api/../org/model', anonymous), (error) =>
      hasCode(error, 'bad-request'),
    )
  })

  test('raw gives the pointer of an LFS file', async (t) => {
    const { hub: client } = testClient(t, { upstreams: [hub.url] })
    const { commit } = await client.revision(MODEL, MAIN, anonymous)
    const path = parseFilePath('model.safetensors')
    const text = Buffer.from(await client.raw({ repo: MODEL, commit, path }, 1024, anonymous)).toString()
    assert.match(
      text,
      /^version https:\/\/git-lfs\.github\.com\/spec\/v1\noid sha256:[0-9a-f]{64}\nsize 3000001\n$/,
    )
    const none = parseFilePath('none.txt')
    await assert.rejects(
      client.raw({ repo: MODEL, commit, path: none }, 1024, anonymous),
      refusal('file-not-found', 404),
    )
  })
})

describe('chunks', () => {
  test('eight chunks at once give the file, with one look-up, and the token never reaches the storage host', async (t) => {
    const client = testClient(t, { upstreams: [hub.url] })
    hub.counts.reset()
    const file = await fileOf(client, MODEL, 'model.safetensors', TOKEN)
    const geometry = fixedSlices(file.entry.sizeBytes, 400_000)
    const source = client.hub.source(file, () => TOKEN)
    assert.equal(source.id, 'origin')
    const parts = await Promise.all(
      Array.from({ length: geometry.chunkCount }, (_, index) =>
        fetchChunk(source, file.entry.blob, geometry, index),
      ),
    )
    for (const { bytes, progress } of parts) {
      assert.deepEqual(
        progress,
        progress.toSorted((a, b) => a - b),
      )
      assert.equal(progress.at(-1), bytes.byteLength)
    }
    const whole = Buffer.concat(parts.map((part) => part.bytes))
    assert.equal(
      createHash('sha256').update(whole).digest('hex'),
      hub.oidOf({ repo: 'org/model', path: 'model.safetensors' }),
    )
    assert.equal(
      client.requests.filter((one) => one.startsWith('resolvers')).length,
      1,
      client.requests.join(),
    )
    assert.equal(client.bytes(), file.entry.sizeBytes)
    assert.deepEqual(hub.copiesOf({ repo: 'org/model', path: 'model.safetensors' }).max, 1)
    assert.equal(hub.counts.tokenLeaks, 0)
  })

  test('small files, odd names and datasets come the same way', async (t) => {
    const client = testClient(t, { upstreams: [hub.url] })
    for (const [repo, path, text] of [
      ['org/model', 'config.json', '{"model_type":"tiny"}'],
      ['org/model', 'sub folder/a+b é.txt', 'names are hard'],
      ['gpt', 'config.json', '{}'],
      ['datasets/org/data', 'README.md', '# data'],
    ] as const) {
      const file = await fileOf(client, parseRepoSpec(repo).repo, path)
      const { bytes } = await fetchChunk(
        client.hub.source(file, () => undefined),
        file.entry.blob,
        fixedSlices(file.entry.sizeBytes),
        0,
      )
      assert.equal(Buffer.from(bytes).toString(), text, path)
    }
  })

  test('a gated file needs the token at the time of the request', async (t) => {
    const client = testClient(t, { upstreams: [hub.url] })
    const file = await fileOf(client, parseRepoSpec('org/gated').repo, 'a.bin', TOKEN)
    let token: string | undefined
    const source = client.hub.source(file, () => token)
    const geometry = fixedSlices(10)
    await assert.rejects(fetchChunk(source, file.entry.blob, geometry, 0), refusal('repo-gated', 401))
    token = 'hf_other'
    await assert.rejects(fetchChunk(source, file.entry.blob, geometry, 0), refusal('repo-gated', 403))
    token = TOKEN
    await fetchChunk(source, file.entry.blob, geometry, 0)
  })

  test('links that expire are asked for again and the file arrives', async (t) => {
    const client = testClient(t, { upstreams: [hub.url] })
    const file = await fileOf(client, MODEL, 'model.safetensors')
    const geometry = fixedSlices(file.entry.sizeBytes, CHUNK)
    const source = client.hub.source(file, () => undefined)
    const first = await fetchChunk(source, file.entry.blob, geometry, 0)
    hub.expireSignedUrls()
    const second = await fetchChunk(source, file.entry.blob, geometry, 1)
    const wanted = await readAll(WEIGHTS)
    assert.deepEqual(Buffer.concat([first.bytes, second.bytes]), wanted.subarray(0, 2 * CHUNK))
    assert.equal(
      client.requests.filter((one) => one.startsWith('resolvers')).length,
      2,
      client.requests.join(),
    )
  })

  test('a mirror takes over while the Hub is down, for metadata and for bytes', async (t) => {
    const client = testClient(t, { upstreams: [hub.url, hub.mirrorUrl], maxRetries: 0 })
    const before = await fileOf(client, MODEL, 'model.safetensors')
    await hub.pause('hub')
    t.after(() => hub.resume())
    const file = await fileOf(client, MODEL, 'model.safetensors')
    assert.equal(file.commit, before.commit)
    const geometry = fixedSlices(file.entry.sizeBytes, CHUNK)
    await fetchChunk(
      client.hub.source(file, () => undefined),
      file.entry.blob,
      geometry,
      2,
    )
  })

  test('with every origin down a request fails after its retries, and the next ones at once', async (t) => {
    const client = testClient(t, { upstreams: [hub.url], maxRetries: 2 })
    await hub.pause()
    t.after(() => hub.resume())
    await assert.rejects(client.hub.revision(MODEL, MAIN, anonymous), (error) =>
      hasCode(error, 'origin-unreachable'),
    )
    assert.equal(client.requests.length, 3)
    await assert.rejects(client.hub.revision(MODEL, MAIN, anonymous), (error) =>
      hasCode(error, 'origin-unreachable'),
    )
    assert.equal(client.requests.length, 3, 'a resting origin is not asked')
  })

  test('a file that changed under its commit is refused', async (t) => {
    const client = testClient(t, { upstreams: [hub.url] })
    const file = await fileOf(client, MODEL, 'model.safetensors')
    const commit: Commit = parseCommit('0'.repeat(40))
    const wrong = { ...file, entry: { ...file.entry, blob: `sha256:${'0'.repeat(64)}` as FileEntry['blob'] } }
    const geometry = fixedSlices(file.entry.sizeBytes, CHUNK)
    await assert.rejects(
      fetchChunk(
        client.hub.source(wrong, () => undefined),
        wrong.entry.blob,
        geometry,
        0,
      ),
      (error) => hasCode(error, 'origin-changed'),
    )
    await assert.rejects(
      fetchChunk(
        client.hub.source({ ...file, commit }, () => undefined),
        file.entry.blob,
        geometry,
        0,
      ),
      refusal('revision-not-found', 404),
    )
  })
})
