import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  unlink,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { BlobStore } from '@shoal/agent/store/blob-store.ts'
import { createHubView } from '@shoal/agent/store/hub-cache.ts'
import type { HubView } from '@shoal/agent/store/view.ts'
import { pathBelow } from '@shoal/agent/store/view-paths.ts'
import {
  blobParts,
  parseCommit,
  parseFilePath,
  parseRepoId,
  parseRevision,
  type Repo,
} from '@shoal/protocol/ids.ts'
import type { FileEntry, Manifest } from '@shoal/protocol/manifest.ts'
import { publishWhole } from '../contract/blob-store.contract.ts'
import { openDiskParts } from '../support/disk-parts.ts'
import { type MadeBlob, makeBlob } from '../support/made-blob.ts'
import { tempFolder } from '../support/temp-folder.ts'

const repo: Repo = { kind: 'model', id: parseRepoId('org/name') }
const commit = parseCommit('c0ffee'.padEnd(40, '0'))

interface World {
  readonly store: BlobStore
  readonly view: HubView
  readonly folder: string
  readonly root: string
  blobFile(made: MadeBlob): string
}

async function open(context: TestContext): Promise<World> {
  const root = await tempFolder(context)
  const { store, layout, stop } = await openDiskParts(root)
  context.after(stop)
  const view = createHubView({ path: layout.hub, temp: layout.temp, blobFile: layout.blob })
  await view.start()
  return {
    store,
    view,
    root,
    folder: join(view.path, 'models--org--name'),
    blobFile: ({ blob }) => layout.blob(blob),
  }
}

function entryOf(path: string, made: MadeBlob): FileEntry {
  return {
    path: parseFilePath(path),
    sizeBytes: made.bytes.byteLength,
    blob: made.blob,
    oid: '1'.padStart(40, '0'),
  }
}

const weights = makeBlob(1, 300_000)
const config = makeBlob(2, 600, { algorithm: 'git-sha1' })
const etag = (made: MadeBlob) => blobParts(made.blob).hex

test('the view has the layout of a Hub cache, byte for byte', async (context) => {
  const { store, view, folder } = await open(context)
  await publishWhole(store, weights)
  await store.put(config.blob, config.bytes)
  await view.link(repo, commit, entryOf('sub/dir/weights 1.safetensors', weights))
  await view.link(repo, commit, entryOf('config.json', config))
  await view.link(repo, commit, entryOf('config.json', config))
  await view.setRef(repo, parseRevision('main'), commit)
  await view.setRef(repo, parseRevision('refs/pr/1'), commit)
  await view.setRef(repo, parseRevision(commit), commit)
  await view.setMissing(repo, commit, parseFilePath('sub/no such.json'))

  const everything = (await readdir(view.path, { recursive: true })).sort()
  const at = (rest: string) => join('models--org--name', rest)
  assert.deepEqual(
    everything,
    [
      'CACHEDIR.TAG',
      'models--org--name',
      ...[
        '.no_exist',
        `.no_exist/${commit}`,
        `.no_exist/${commit}/sub`,
        `.no_exist/${commit}/sub/no such.json`,
        'blobs',
        ...[etag(config), etag(weights)].sort().map((name) => `blobs/${name}`),
        'refs',
        'refs/main',
        'refs/refs',
        'refs/refs/pr',
        'refs/refs/pr/1',
        'snapshots',
        `snapshots/${commit}`,
        `snapshots/${commit}/config.json`,
        `snapshots/${commit}/sub`,
        `snapshots/${commit}/sub/dir`,
        `snapshots/${commit}/sub/dir/weights 1.safetensors`,
      ].map(at),
    ].sort(),
  )
  const snapshot = join(folder, 'snapshots', commit)
  assert.equal(await readlink(join(snapshot, 'config.json')), `../../blobs/${etag(config)}`)
  assert.equal(
    await readlink(join(snapshot, 'sub/dir/weights 1.safetensors')),
    `../../../../blobs/${etag(weights)}`,
  )
  assert.deepEqual(await readFile(join(snapshot, 'sub/dir/weights 1.safetensors')), weights.bytes)
  assert.equal(await readFile(join(folder, 'refs/main'), 'utf8'), commit)
  assert.equal(await readFile(join(folder, 'refs/refs/pr/1'), 'utf8'), commit)
  assert.equal((await stat(join(folder, '.no_exist', commit, 'sub/no such.json'))).size, 0)
  const tag = await readFile(join(view.path, 'CACHEDIR.TAG'), 'utf8')
  assert.ok(tag.startsWith('Signature: 8a477f597d28d172789f06886806bc55\n'))
})

test('datasets, spaces and repos without an organisation have folders of their own', async (context) => {
  const { store, view } = await open(context)
  await store.put(config.blob, config.bytes)
  for (const [kind, id, name] of [
    ['dataset', 'org/name', 'datasets--org--name'],
    ['space', 'org/name', 'spaces--org--name'],
    ['model', 'gpt2', 'models--gpt2'],
  ] as const) {
    await view.link({ kind, id: parseRepoId(id) }, commit, entryOf('f', config))
    assert.ok((await lstat(join(view.path, name, 'snapshots', commit, 'f'))).isSymbolicLink(), name)
  }
})

test('the bytes of the store and of the view are on disk once', async (context) => {
  const { store, view, root } = await open(context)
  const large = makeBlob(3, 3 * 1024 * 1024)
  await publishWhole(store, large)
  const before = diskBytes(root)
  for (const path of ['a.bin', 'b/c.bin']) await view.link(repo, commit, entryOf(path, large))
  await view.link({ kind: 'model', id: parseRepoId('org/fork') }, commit, entryOf('a.bin', large))
  assert.ok(before >= 3 * 1024 * 1024)
  assert.ok(diskBytes(root) - before < 256 * 1024, `the view took ${diskBytes(root) - before} bytes`)
})

function diskBytes(path: string): number {
  return Number(execFileSync('du', ['-s', '--block-size=1', path], { encoding: 'utf8' }).split('\t')[0])
}

test('a user who clears the view as `hf cache rm` does never hurts the store, and links come back', async (context) => {
  const { store, view, folder, blobFile } = await open(context)
  await publishWhole(store, weights)
  const entry = entryOf('w.bin', weights)
  await view.link(repo, commit, entry)
  const shown = join(folder, 'snapshots', commit, 'w.bin')
  // It deletes what the link resolves to, then the link.
  await unlink(execFileSync('realpath', [shown], { encoding: 'utf8' }).trim())
  await unlink(shown)
  assert.deepEqual(await readFile(blobFile(weights)), weights.bytes)
  const manifest: Manifest = {
    repo,
    commit,
    access: 'public',
    files: [entry, entryOf('not-here.bin', makeBlob(9, 10))],
    directories: [],
    info: {},
    learnedAt: 0,
  }
  await view.restore(manifest, ({ blob }) => store.isComplete(blob))
  assert.deepEqual(await readFile(shown), weights.bytes)
  assert.equal((await stat(shown)).ino, (await stat(blobFile(weights))).ino)
  await assert.rejects(lstat(join(folder, 'snapshots', commit, 'not-here.bin')))
})

test('a file that is not what the store has is replaced, and links that lead nowhere are removed', async (context) => {
  const { store, view, folder, blobFile } = await open(context)
  await publishWhole(store, weights)
  const entry = entryOf('w.bin', weights)
  await view.link(repo, commit, entry)
  const blob = join(folder, 'blobs', etag(weights))
  await rm(blob)
  await writeFile(blob, 'not the file')
  await view.link(repo, commit, entry)
  assert.equal((await stat(blob)).ino, (await stat(blobFile(weights))).ino)
  await view.unlink(repo, commit, entry)
  await assert.rejects(lstat(blob))
  await assert.rejects(lstat(join(folder, 'snapshots', commit, 'w.bin')))
  await symlink('../../blobs/gone', join(folder, 'snapshots', commit, 'w.bin'))
  const manifest: Manifest = {
    repo,
    commit,
    access: 'public',
    files: [entry],
    directories: [],
    info: {},
    learnedAt: 0,
  }
  await view.restore(manifest, () => false)
  await assert.rejects(lstat(join(folder, 'snapshots', commit, 'w.bin')))
})

test('a ref comes with its snapshot folder, and a known 404 never makes a repo', async (context) => {
  const { view, folder } = await open(context)
  await view.setMissing(repo, commit, parseFilePath('nothing.json'))
  await assert.rejects(lstat(folder))
  await view.setRef(repo, parseRevision('main'), commit)
  assert.ok((await stat(join(folder, 'snapshots', commit))).isDirectory())
  await view.remove(repo)
  await view.remove(repo)
  await assert.rejects(lstat(folder))
})

test('a link planted in the place of a folder does not lead the view out of its own', async (context) => {
  const { store, view, folder, root } = await open(context)
  await store.put(config.blob, config.bytes)
  const outside = join(root, 'outside')
  await mkdir(outside)
  await mkdir(join(folder, 'snapshots', commit), { recursive: true })
  await symlink(outside, join(folder, 'snapshots', commit, 'sub'))
  await assert.rejects(view.link(repo, commit, entryOf('sub/config.json', config)))
  await mkdir(join(view.path, 'models--org--other'))
  await symlink(outside, join(view.path, 'models--org--other', 'blobs'))
  await assert.rejects(
    view.link({ kind: 'model', id: parseRepoId('org/other') }, commit, entryOf('f', config)),
  )
  assert.deepEqual(await readdir(outside), [])
})

test('no name leads out of its folder', () => {
  for (const name of [
    '',
    '.',
    '..',
    '../x',
    'a/../../x',
    'a/..',
    '/etc/passwd',
    'a//b',
    'a/',
    'a\\..\\b',
    'C:/x',
    'a\u0000b',
    'a\nb',
    './a',
    `${'x'.repeat(256)}`,
    '\ud800',
  ])
    assert.throws(() => pathBelow('/view/folder', name), /not a path below/, JSON.stringify(name))
  assert.equal(pathBelow('/view/folder', 'a/b ü+.txt'), '/view/folder/a/b ü+.txt')
  assert.equal(pathBelow('/view/folder', '..a'), '/view/folder/..a')
})
