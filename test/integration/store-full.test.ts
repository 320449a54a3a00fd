import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { storeLayout } from '@shoal/agent/store/layout.ts'
import { hasCode } from '@shoal/protocol/errors.ts'
import { fill, publishWhole, readWhole } from '../contract/blob-store.contract.ts'
import { openDiskParts } from '../support/disk-parts.ts'
import { makeBlob } from '../support/made-blob.ts'
import { tempFolder } from '../support/temp-folder.ts'

const signal = new AbortController().signal
const MIB = 1024 * 1024
const isFull = (error: unknown) => hasCode(error, 'store-full')

/** A folder on a small file system of its own; undefined, said loudly, where none can be mounted. */
async function smallDisk(context: TestContext, options: string): Promise<string | undefined> {
  const path = await mkdtemp(join(tmpdir(), 'shoal-test-disk-'))
  let mounted = false
  context.after(async () => {
    // Lazily: hooks run in the order they were made, and the store is closed after this one.
    if (mounted) execFileSync('umount', ['-l', path])
    await rm(path, { recursive: true, force: true })
  })
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `${options},mode=700`, 'shoal-test', path], { stdio: 'pipe' })
    mounted = true
    return path
  } catch {
    const why = process.getuid?.() === 0 ? 'mount failed although this is root' : 'this is not root'
    console.log(`SKIPPED, no small disk: ${why}`)
    context.skip(`needs a tmpfs: ${why}`)
    return undefined
  }
}

test('a download that does not fit the disk is refused before its first byte', async (context) => {
  const path = await smallDisk(context, 'size=8m')
  if (path === undefined) return
  const { store, layout, stop } = await openDiskParts(path, { keepFreeBytes: MIB })
  context.after(stop)
  const made = makeBlob(1, 20 * MIB)
  await assert.rejects(store.openPartial(made.blob, made.geometry), (error) => {
    assert.ok(hasCode(error, 'store-full'))
    assert.equal(error.details.neededBytes, 20 * MIB)
    assert.ok(Number(error.details.freeBytes) > 5 * MIB && Number(error.details.freeBytes) <= 7 * MIB)
    return true
  })
  assert.deepEqual(await readdir(layout.partials), [])
  assert.equal((await store.usage()).reservedBytes, 0)
})

test('a disk that others fill up stops the write, keeps what is there readable, and goes on when there is space', async (context) => {
  const path = await smallDisk(context, 'size=12m')
  if (path === undefined) return
  const { store, stop } = await openDiskParts(path)
  context.after(stop)
  const kept = makeBlob(2, MIB)
  await publishWhole(store, kept)
  const made = makeBlob(3, 6 * MIB)
  const partial = await store.openPartial(made.blob, made.geometry)
  await partial.write(0, made.chunk(0), made.voucher(0))
  const filler = join(path, 'somebody-elses')
  // dd fills until it cannot.
  execFileSync('sh', ['-c', 'dd if=/dev/zero of="$1" bs=64k 2>/dev/null || true', 'sh', filler])
  await assert.rejects(fill(partial, made), isFull)
  const heldThen = partial.held.held
  assert.ok(heldThen < made.geometry.chunkCount)
  assert.deepEqual(await readWhole(store, kept), kept.bytes)
  const small = makeBlob(4, 100_000)
  await assert.rejects(store.put(small.blob, small.bytes), isFull)
  assert.equal(store.isComplete(small.blob), false)
  await rm(filler)
  await fill(partial, made)
  assert.equal(await partial.verifyWhole(signal), true)
  await partial.publish()
  assert.deepEqual(await readWhole(store, made), made.bytes)
  await store.put(small.blob, small.bytes)
})

test('a disk without free inodes refuses new blobs as a full one does and keeps serving', async (context) => {
  const path = await smallDisk(context, 'size=32m,nr_inodes=60')
  if (path === undefined) return
  const { store, stop } = await openDiskParts(path)
  context.after(stop)
  const kept = makeBlob(5, 300_000)
  await publishWhole(store, kept)
  let made = 0
  for (; made < 60; made++) {
    try {
      await writeFile(join(path, `filler-${made}`), '')
    } catch {
      break
    }
  }
  const other = makeBlob(6, 300_000)
  await assert.rejects(store.openPartial(other.blob, other.geometry), isFull)
  await assert.rejects(store.put(other.blob, other.bytes), isFull)
  assert.deepEqual(await readWhole(store, kept), kept.bytes)
  for (let file = 0; file < made; file++) await rm(join(path, `filler-${file}`))
  await publishWhole(store, other)
  assert.deepEqual(await readdir(storeLayout(path).temp), [])
})

test('the ledger is what du says, through writing, discarding, publishing, repairing and removing', async (context) => {
  const path = await tempFolder(context)
  const { store, layout, stop } = await openDiskParts(path, { limitBytes: 50 * MIB })
  context.after(stop)
  const folders = [layout.blobs, layout.partials, layout.quarantine]
  /** Bytes of file content in blocks; journals, reports and folders are not content. */
  const diskBytes = () =>
    execFileSync('find', [...folders, '-type', 'f', '-size', '+15k', '-printf', '%b\n'], { encoding: 'utf8' })
      .split('\n')
      .reduce((sum, blocks) => sum + Number(blocks) * 512, 0)
  const check = async (step: string) => assert.equal((await store.usage()).usedBytes, diskBytes(), step)
  const a = makeBlob(10, 2 * MIB)
  const b = makeBlob(11, MIB)
  const partial = await store.openPartial(a.blob, a.geometry)
  for (let index = 0; index < 10; index++) await partial.write(index, a.chunk(index), a.voucher(index))
  await check('ten chunks')
  await publishWhole(store, b)
  await check('a complete blob beside them')
  assert.equal((await store.usage()).reservedBytes, 2 * MIB - 10 * 64 * 1024)
  await fill(partial, a)
  await partial.verifyWhole(signal)
  await partial.publish()
  await check('both complete')
  await store.quarantine(b.blob, [3])
  await check('one set aside')
  const again = await store.reopenAsPartial(b.blob, b.geometry, [])
  await fill(again, b)
  await again.verifyWhole(signal)
  await again.publish()
  await check('repaired')
  await store.remove(a.blob)
  await check('one removed')
  await store.remove(b.blob)
  await check('nothing left')
  assert.deepEqual(
    await store.usage().then(({ usedBytes, reservedBytes }) => [usedBytes, reservedBytes]),
    [0, 0],
  )
})
