// The stock JavaScript client of the Hub, unmodified, against our endpoint.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  checkRepoAccess,
  datasetInfo,
  downloadFile,
  fileDownloadInfo,
  fileExists,
  HubApiError,
  listCommits,
  listFiles,
  modelInfo,
  pathsInfo,
  snapshotDownload,
  spaceInfo,
  whoAmI,
} from '@huggingface/hub'
import { type MemoryAgent, startMemoryAgent } from '../support/memory-agent.ts'
import { GOOD_TOKEN, STRANGER_TOKEN } from '../support/memory-catalog.ts'
import { tempFolder } from '../support/temp-folder.ts'

const WEIGHTS = Buffer.from(Array.from({ length: 500_000 }, (_, index) => (index * 17) % 253))
const FILES = {
  'config.json': { bytes: Buffer.from('{}') },
  'model.safetensors': { bytes: WEIGHTS, lfs: true },
  'sub/dir/with space + plus é.txt': { bytes: Buffer.from('text') },
  'sub/__init__.py': { bytes: Buffer.alloc(0) },
}

function fill({ catalog }: MemoryAgent) {
  catalog.add({ spec: 'datasets/org/set', files: FILES })
  catalog.add({ spec: 'spaces/org/space', files: FILES })
  return catalog.add({ spec: 'org/model', revisions: ['main', 'HEAD', 'refs/pr/1'], files: FILES })
}

async function bufferOf(blob: Blob | null | undefined): Promise<Buffer> {
  return Buffer.from(blob ? await blob.arrayBuffer() : new ArrayBuffer(0))
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

test('listFiles lists all, by directory, page by page over our own address, at any revision', async (t) => {
  const agent = await startMemoryAgent(t)
  fill(agent)
  const hubUrl = agent.url
  for (const revision of ['main', 'refs/pr/1']) {
    const files = await collect(listFiles({ repo: 'org/model', revision, recursive: true, hubUrl }))
    assert.deepEqual(
      files.map(({ type, path }) => `${type} ${path}`).sort(),
      ['directory sub', 'directory sub/dir', ...Object.keys(FILES).map((path) => `file ${path}`)].sort(),
      revision,
    )
    const weights = files.find(({ path }) => path === 'model.safetensors')
    assert.deepEqual([weights?.size, weights?.lfs?.size], [WEIGHTS.byteLength, WEIGHTS.byteLength])
    assert.equal(weights?.xetHash, undefined)
  }
  const top = await collect(listFiles({ repo: 'datasets/org/set', hubUrl }))
  assert.deepEqual(top.map(({ path }) => path).sort(), ['config.json', 'model.safetensors', 'sub'])
  const inside = await collect(listFiles({ repo: 'org/model', path: 'sub/dir', hubUrl }))
  assert.deepEqual(
    inside.map(({ path }) => path),
    ['sub/dir/with space + plus é.txt'],
  )
  const paged = await fetch(`${hubUrl}/api/models/org/model/tree/main?recursive=True&limit=2`)
  const link = paged.headers.get('link') ?? ''
  assert.match(link, new RegExp(`^<${hubUrl}/api/models/org/model/tree/main\\?.*cursor=2.*>; rel="next"$`))
})

test('downloadFile gives every file whole, and null for one that is not there', async (t) => {
  const agent = await startMemoryAgent(t)
  fill(agent)
  for (const repo of ['org/model', 'datasets/org/set', 'spaces/org/space']) {
    for (const [path, { bytes }] of Object.entries(FILES)) {
      const blob = await downloadFile({ repo, path, hubUrl: agent.url })
      assert.deepEqual(await bufferOf(blob), bytes, `${repo} ${path}`)
    }
    assert.equal(await downloadFile({ repo, path: 'gone', hubUrl: agent.url }), null)
  }
  const slice = (
    await downloadFile({ repo: 'org/model', path: 'model.safetensors', hubUrl: agent.url })
  )?.slice(9, 99)
  assert.deepEqual(await bufferOf(slice), WEIGHTS.subarray(9, 99))
  const pointer = await downloadFile({
    repo: 'org/model',
    path: 'model.safetensors',
    raw: true,
    hubUrl: agent.url,
  })
  assert.match((await pointer?.text()) ?? '', /^version https/)
})

test('fileExists, fileDownloadInfo, pathsInfo and the info calls work', async (t) => {
  const agent = await startMemoryAgent(t)
  const { commit } = fill(agent)
  const hubUrl = agent.url
  assert.equal(await fileExists({ repo: 'org/model', path: 'config.json', hubUrl }), true)
  assert.equal(await fileExists({ repo: 'org/model', path: 'gone', hubUrl }), false)
  const info = await fileDownloadInfo({ repo: 'org/model', path: 'model.safetensors', hubUrl })
  assert.equal(info?.size, WEIGHTS.byteLength)
  assert.equal(info?.xet, undefined)
  const model = await modelInfo({ name: 'org/model', hubUrl, additionalFields: ['sha'] })
  assert.deepEqual([model.name, model.private, model.gated, model.sha], ['org/model', false, false, commit])
  assert.equal((await datasetInfo({ name: 'org/set', hubUrl })).name, 'org/set')
  assert.equal((await spaceInfo({ name: 'org/space', hubUrl })).name, 'org/space')
  const paths = ['config.json', 'sub', 'gone']
  const found = await pathsInfo({ repo: 'org/model', paths, expand: true, hubUrl })
  assert.deepEqual(
    found.map(({ path, type, lastCommit }) => [path, type, lastCommit.id]),
    [
      ['config.json', 'file', commit],
      ['sub', 'directory', commit],
    ],
  )
  const form = await fetch(`${hubUrl}/api/models/org/model/paths-info/main`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: 'paths=config.json&paths=sub%2Fdir%2Fwith+space+%2B+plus+%C3%A9.txt&expand=False',
  })
  const items = (await form.json()) as { path: string; lastCommit?: unknown }[]
  assert.deepEqual(
    items.map(({ path, lastCommit }) => [path, lastCommit]),
    [
      ['config.json', undefined],
      ['sub/dir/with space + plus é.txt', undefined],
    ],
  )
})

test('snapshotDownload makes a cache whose files are the right bytes', async (t) => {
  const agent = await startMemoryAgent(t)
  fill(agent)
  const cacheDir = await tempFolder(t)
  const folder = await snapshotDownload({ repo: 'org/model', cacheDir, hubUrl: agent.url })
  for (const [path, { bytes }] of Object.entries(FILES))
    assert.deepEqual(await readFile(join(folder, path)), bytes, path)
})

test('a gated repo is read by who may and refused to others, as checkRepoAccess says', async (t) => {
  const agent = await startMemoryAgent(t)
  agent.catalog.add({ spec: 'org/gated', access: 'gated', files: FILES })
  const ask = { repo: 'org/gated', path: 'config.json', hubUrl: agent.url }
  const blob = await downloadFile({ ...ask, accessToken: GOOD_TOKEN })
  assert.equal(await blob?.text(), '{}')
  for (const [token, status] of [
    [undefined, 401],
    [STRANGER_TOKEN, 403],
  ] as const) {
    const refused = (error: unknown) => error instanceof HubApiError && error.statusCode === status
    const credentials = token === undefined ? {} : { accessToken: token }
    await assert.rejects(downloadFile({ ...ask, ...credentials }), refused)
    await assert.rejects(checkRepoAccess({ repo: 'org/gated', hubUrl: agent.url, ...credentials }), refused)
  }
  await checkRepoAccess({ repo: 'org/gated', hubUrl: agent.url, accessToken: GOOD_TOKEN })
})

test('whoAmI and listCommits are the Hub\u2019s own answers, with its pages under our address', async (t) => {
  const agent = await startMemoryAgent(t)
  const { commit } = fill(agent)
  const hubUrl = agent.url
  const first = '/api/models/org/model/commits/main?limit=100'
  const second = '/api/models/org/model/commits/main?limit=100&cursor=x'
  const commits = (id: string) => ({
    body: Buffer.from(
      JSON.stringify([{ id, title: 't', message: '', authors: [], date: '2026-01-01T00:00:00.000Z' }]),
    ),
  })
  agent.hub.answers.set('/api/whoami-v2', {
    body: Buffer.from(
      JSON.stringify({ type: 'user', id: '1', name: 'me', fullname: 'Me', orgs: [], auth: {}, xetHash: 'x' }),
    ),
  })
  agent.hub.answers.set(first, { ...commits('a'), link: `<https://huggingface.co${second}>; rel="next"` })
  agent.hub.answers.set(second, commits('b'))
  assert.equal((await whoAmI({ accessToken: GOOD_TOKEN, hubUrl })).name, 'me')
  const seen = await collect(listCommits({ repo: 'org/model', hubUrl, batchSize: 100 }))
  assert.deepEqual(
    seen.map(({ oid }) => oid),
    ['a', 'b'],
  )
  assert.equal((await fetch(`${hubUrl}/api/whoami-v2`)).status, 401)
  agent.hub.answers.clear()
  const known = await collect(listCommits({ repo: 'org/model', hubUrl }))
  assert.deepEqual(
    known.map(({ oid }) => oid),
    [commit],
    'without the Hub: what this host knows',
  )
  const refs = (await (await fetch(`${hubUrl}/api/models/org/model/refs?include_prs=1`)).json()) as {
    branches: { name: string; targetCommit: string }[]
    pullRequests: { ref: string }[]
  }
  assert.deepEqual(refs.branches, [{ name: 'main', ref: 'refs/heads/main', targetCommit: commit }])
  assert.deepEqual(
    refs.pullRequests.map(({ ref }) => ref),
    ['refs/pr/1'],
  )
})
