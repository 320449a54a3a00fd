import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createDiskRecords, type DiskRecords } from '@shoal/agent/store/disk-records.ts'
import { ensureDirectory } from '@shoal/agent/store/store-files.ts'
import {
  parseBlobId,
  parseCommit,
  parseFilePath,
  parseRepoId,
  parseRevision,
  type Repo,
} from '@shoal/protocol/ids.ts'
import type { Manifest } from '@shoal/protocol/manifest.ts'
import { tempFolder } from '../support/temp-folder.ts'

const repo: Repo = { kind: 'model', id: parseRepoId('org/name') }
const commitOf = (number: number) => parseCommit(number.toString(16).padStart(40, '0'))

function manifestOf(of: Repo, number: number, files = 2): Manifest {
  return {
    repo: of,
    commit: commitOf(number),
    access: 'public',
    files: Array.from({ length: files }, (_, index) => ({
      path: parseFilePath(`folder/file ${index}.bin`),
      sizeBytes: index,
      blob: parseBlobId(`sha256:${index.toString(16).padStart(64, '0')}`),
      oid: index.toString(16).padStart(40, '0'),
    })),
    directories: [],
    info: { likes: 3, tags: ['a'] },
    learnedAt: 5,
  }
}

async function open(context: TestContext, root: string): Promise<DiskRecords> {
  const temp = join(root, 'tmp')
  await ensureDirectory(temp)
  const records = createDiskRecords({ path: join(root, 'records'), temp })
  await records.start()
  context.after(() => records.stop())
  return records
}

async function filesUnder(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
}

test('what was put is there after a restart, and no name of a repo is a name on disk', async (context) => {
  const root = await tempFolder(context)
  const before = await open(context, root)
  await before.putManifest(manifestOf(repo, 1))
  await before.putManifest(manifestOf(repo, 2))
  const revision = parseRevision('refs/pr/1')
  const record = { commit: commitOf(2), resolvedAt: 7, from: 'origin' } as const
  await Promise.all([
    before.putRef(repo, revision, record),
    before.putRef(repo, parseRevision('main'), record),
    before.putAccess(repo, 'gated'),
  ])
  await before.stop()
  const after = await open(context, root)
  assert.deepEqual(await after.manifest(repo, commitOf(1)), manifestOf(repo, 1))
  assert.deepEqual((await after.refs(repo)).get(revision), record)
  assert.equal((await after.refs(repo)).size, 2)
  assert.equal(await after.access(repo), 'gated')
  const found = []
  for await (const { commit } of after.manifests()) found.push(commit)
  assert.deepEqual(found.sort(), [commitOf(1), commitOf(2)])
  for (const path of await filesUnder(join(root, 'records')))
    assert.doesNotMatch(path.slice(root.length), /org|name/)
  assert.deepEqual(await readdir(join(root, 'tmp')), [])
})

test('the same id as model and as dataset are two repos, and forgetting one leaves the other', async (context) => {
  const records = await open(context, await tempFolder(context))
  const dataset: Repo = { kind: 'dataset', id: repo.id }
  await records.putManifest(manifestOf(repo, 1))
  await records.putManifest(manifestOf(dataset, 1))
  await records.putAccess(repo, 'private')
  await records.forget(repo)
  await records.forget(repo)
  assert.equal(await records.manifest(repo, commitOf(1)), undefined)
  assert.equal(await records.access(repo), undefined)
  assert.deepEqual(await records.manifest(dataset, commitOf(1)), manifestOf(dataset, 1))
})

function flipMiddle(bytes: Buffer): Buffer {
  const middle = bytes.byteLength >> 1
  bytes[middle] = (bytes[middle] ?? 0) ^ 4
  return bytes
}

for (const [id, damage] of [
  ['one bit flipped', flipMiddle],
  ['cut in half', (bytes: Buffer) => bytes.subarray(0, bytes.byteLength / 2)],
  ['empty', () => Buffer.alloc(0)],
  ['zeros', (bytes: Buffer) => Buffer.alloc(bytes.byteLength)],
  ['not JSON', () => Buffer.from('<html>')],
  ['JSON of something else', () => Buffer.from('{"format":1,"sha256":"00"}\n[]')],
  ['a later format', (bytes: Buffer) => Buffer.from(bytes.toString().replace('"format":1', '"format":2'))],
] as const) {
  test(`a damaged record is a miss, reported, and can be put again: ${id}`, async (context) => {
    const root = await tempFolder(context)
    const before = await open(context, root)
    await before.putManifest(manifestOf(repo, 1))
    await before.putRef(repo, parseRevision('main'), { commit: commitOf(1), resolvedAt: 1, from: 'peer' })
    await before.putAccess(repo, 'gated')
    await before.stop()
    const files = await filesUnder(join(root, 'records'))
    assert.equal(files.length, 3)
    for (const path of files) {
      const bytes = await readFile(path)
      await writeFile(path, damage(bytes))
    }
    const records = await open(context, root)
    assert.equal(await records.manifest(repo, commitOf(1)), undefined)
    assert.equal((await records.refs(repo)).size, 0)
    assert.equal(await records.access(repo), undefined)
    assert.equal(records.damaged, 3)
    for await (const manifest of records.manifests()) assert.fail(`found ${manifest.commit}`)
    await records.putManifest(manifestOf(repo, 1))
    assert.deepEqual(await records.manifest(repo, commitOf(1)), manifestOf(repo, 1))
  })
}

test('a pipe or a directory in the place of a record is a miss and never a hang', async (context) => {
  const root = await tempFolder(context)
  const records = await open(context, root)
  await records.putAccess(repo, 'gated')
  const [path] = await filesUnder(join(root, 'records'))
  assert.ok(path !== undefined)
  execFileSync('sh', ['-c', 'rm "$1" && mkfifo "$1"', 'sh', path])
  assert.equal(await records.access(repo), undefined)
  execFileSync('sh', ['-c', 'rm "$1" && mkdir "$1"', 'sh', path])
  assert.equal(await records.access(repo), undefined)
})

test('the largest manifest costs nothing at start and is read once', async (context) => {
  const root = await tempFolder(context)
  const before = await open(context, root)
  await before.putManifest(manifestOf(repo, 1, 100_000))
  const template = (await filesUnder(join(root, 'records')))[0]
  assert.ok(template !== undefined)
  await before.stop()
  const startedAt = performance.now()
  const records = await open(context, root)
  const startMs = performance.now() - startedAt
  const first = await records.manifest(repo, commitOf(1))
  const firstMs = performance.now() - startedAt - startMs
  assert.equal(first?.files.length, 100_000)
  assert.equal(await records.manifest(repo, commitOf(1)), first, 'the parsed one is kept')
  const { size } = await stat(template)
  console.log(
    `start ${startMs.toFixed(1)} ms; ${(size / 1e6).toFixed(1)} MB manifest ${firstMs.toFixed(0)} ms`,
  )
  assert.ok(startMs < 500, `start took ${startMs} ms`)
  await truncate(template, 10)
  assert.equal((await records.manifest(repo, commitOf(1)))?.files.length, 100_000)
})
