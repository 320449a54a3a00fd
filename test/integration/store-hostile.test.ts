import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  chmod,
  chown,
  lstat,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { storeLayout } from '@shoal/agent/store/layout.ts'
import { hasCode } from '@shoal/protocol/errors.ts'
import { fill, publishWhole, readWhole } from '../contract/blob-store.contract.ts'
import { openDiskParts } from '../support/disk-parts.ts'
import { makeBlob } from '../support/made-blob.ts'
import { tempFolder } from '../support/temp-folder.ts'

const signal = new AbortController().signal
const withCode = (code: Parameters<typeof hasCode>[1]) => (error: unknown) => hasCode(error, code)
const isRoot = process.getuid?.() === 0

async function spoiledBlob(context: TestContext, spoil: (path: string) => Promise<void>) {
  const path = await tempFolder(context)
  const made = makeBlob(1, 300_000)
  const layout = storeLayout(path)
  const { store, stop } = await openDiskParts(path)
  context.after(stop)
  await publishWhole(store, made)
  await spoil(layout.blob(made.blob))
  return { path, layout, store, stop, made }
}

const REPLACEMENTS: readonly (readonly [id: string, command: string])[] = [
  ['a symlink', 'mv "$1" "$1.away" && ln -s "$1.away" "$1"'],
  ['a pipe', 'rm "$1" && mkfifo "$1"'],
  ['a directory', 'rm "$1" && mkdir "$1" && touch "$1/file"'],
  ['nothing', 'rm "$1"'],
  ['a shorter file', 'chmod u+w "$1" && truncate -s 100000 "$1"'],
  ['a longer file', 'chmod u+w "$1" && truncate -s 400000 "$1"'],
]

for (const [id, command] of REPLACEMENTS) {
  test(`a complete blob replaced by ${id} is never served, is found by verify and can be fetched again`, async (context) => {
    const { store, made } = await spoiledBlob(context, async (path) => {
      execFileSync('sh', ['-c', command, 'sh', path])
    })
    await assert.rejects(store.open(made.blob), withCode('store-corrupt'))
    const report = await store.verify(made.blob, signal)
    assert.equal(report.ok, false)
    const partial = await store.reopenAsPartial(made.blob, made.geometry, report.badChunks)
    assert.equal(partial.held.complete, id === 'a longer file')
    await fill(partial, made)
    assert.equal(await partial.verifyWhole(signal), true)
    await partial.publish()
    assert.deepEqual(await readWhole(store, made), made.bytes)
  })

  test(`a store that finds ${id} in the place of a blob starts, and does not follow it`, async (context) => {
    const { path, stop, made } = await spoiledBlob(context, async (file) => {
      execFileSync('sh', ['-c', command, 'sh', file])
    })
    await stop()
    const again = await openDiskParts(path)
    context.after(again.stop)
    if (again.store.isComplete(made.blob))
      await assert.rejects(again.store.open(made.blob), withCode('store-corrupt'))
    else assert.equal(await again.store.open(made.blob), undefined)
  })
}

test('links planted in the place of a partial blob are refused and their target is untouched', async (context) => {
  const path = await tempFolder(context)
  const layout = storeLayout(path)
  const target = join(path, 'precious')
  await writeFile(target, 'precious')
  const made = makeBlob(2, 300_000)
  const { store, stop } = await openDiskParts(path)
  context.after(stop)
  const { directory, data } = layout.partial(made.blob)
  await mkdir(directory, { recursive: true })
  await symlink(target, data)
  const partial = await store.openPartial(made.blob, made.geometry)
  await fill(partial, made)
  await partial.close()
  assert.equal(await readFile(target, 'utf8'), 'precious')
  assert.ok((await lstat(data)).isFile())
})

test('a blob whose record is lost proves itself before it is served again', async (context) => {
  const { layout, store, made } = await spoiledBlob(context, async () => {})
  await rm(layout.sidecar(made.blob))
  // Opened before, so its record is still in memory; another start would not have it.
  await store.stop()
  await store.start()
  assert.deepEqual(await readWhole(store, made), made.bytes)
  const reader = await store.open(made.blob)
  assert.equal(reader?.geometry, undefined)
  await reader?.close()
  await writeFile(layout.sidecar(made.blob), 'not a record')
  await chmod(layout.blob(made.blob), 0o600)
  const wrong = Buffer.from(made.bytes)
  wrong[0] = (wrong[0] ?? 0) ^ 1
  await writeFile(layout.blob(made.blob), wrong)
  await store.stop()
  await store.start()
  await assert.rejects(store.open(made.blob), withCode('store-corrupt'))
})

test('files of the store are private and complete blobs read-only', async (context) => {
  const { layout, made, path } = await spoiledBlob(context, async () => {})
  const modeOf = async (name: string) => (await stat(name)).mode & 0o777
  assert.equal(await modeOf(layout.blob(made.blob)), 0o444)
  for (const name of await readdir(path, { recursive: true })) {
    const found = await stat(join(path, name))
    if (found.isDirectory()) assert.equal(found.mode & 0o777, 0o700, name)
  }
})

test('a storage path that others may write to, or that belongs to somebody else, is refused', async (context) => {
  const path = await tempFolder(context)
  await chmod(path, 0o770)
  await assert.rejects(
    openDiskParts(path),
    (error) => hasCode(error, 'bad-config') && /chmod go-w/.test(error.message),
  )
  await chmod(path, 0o700)
  assert.deepEqual(await readdir(path), [], 'nothing was written')
  if (!isRoot) return context.diagnostic('SKIPPED without root: a storage path of another user')
  await chown(path, 12_345, 12_345)
  await assert.rejects(
    openDiskParts(path),
    (error) => hasCode(error, 'bad-config') && /belongs to user 12345/.test(error.message),
  )
})

test('a store of a later format is refused with a sentence and left as it is', async (context) => {
  const path = await tempFolder(context)
  const layout = storeLayout(path)
  await (await openDiskParts(path)).stop()
  await writeFile(layout.marker, '{"format":2,"new":"field"}')
  const before = await readdir(path, { recursive: true })
  await assert.rejects(
    openDiskParts(path),
    (error) => hasCode(error, 'store-version') && /format 2.*Nothing was changed/.test(error.message),
  )
  assert.deepEqual(await readdir(path, { recursive: true }), before)
})

test('a store whose marker or blobs are gone is not made empty', async (context) => {
  const path = await tempFolder(context)
  const layout = storeLayout(path)
  const made = makeBlob(3, 300_000)
  const first = await openDiskParts(path)
  await publishWhole(first.store, made)
  await first.stop()
  const marker = await readFile(layout.marker)
  for (const content of [undefined, '', 'null', '{"format":"1"}']) {
    if (content === undefined) await rm(layout.marker)
    else await writeFile(layout.marker, content)
    await assert.rejects(openDiskParts(path), withCode('store-corrupt'), `marker ${content}`)
  }
  await writeFile(layout.marker, marker)
  await rename(layout.blobs, `${layout.blobs}.away`)
  await assert.rejects(openDiskParts(path), withCode('store-corrupt'))
  await mkdir(layout.blobs)
  await assert.rejects(openDiskParts(path), withCode('store-corrupt'))
  await rm(layout.blobs, { recursive: true })
  await rename(`${layout.blobs}.away`, layout.blobs)
  const again = await openDiskParts(path)
  context.after(again.stop)
  assert.deepEqual(await readWhole(again.store, made), made.bytes)
})

test('the store needs its index open first: that is its lock', async (context) => {
  const path = await tempFolder(context)
  const { store, index, stop } = await openDiskParts(path)
  await stop()
  await assert.rejects(store.start(), withCode('not-running'))
  await index.start()
  await store.start()
  await store.stop()
  await index.stop()
})
