import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdir, open, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { type TestContext, test } from 'node:test'
import { loadHashing } from '@shoal/agent/hashing.ts'
import { blobOfFlatName, storeLayout } from '@shoal/agent/store/layout.ts'
import { fixedSlices } from '@shoal/protocol/chunks.ts'
import { hasCode } from '@shoal/protocol/errors.ts'
import { seededRandom } from '@shoal/protocol/time.ts'
import { fill, readWhole } from '../contract/blob-store.contract.ts'
import { openDiskParts } from '../support/disk-parts.ts'
import { type MadeBlob, makeBlob } from '../support/made-blob.ts'
import { seedStorage } from '../support/seeded-storage.ts'
import { tempFolder } from '../support/temp-folder.ts'

const seed = Number(process.env.SEED ?? Math.floor(performance.timeOrigin) % 2 ** 31)
const kills = Number(process.env.KILLS ?? 20)
console.log(`SEED=${seed} KILLS=${kills}`)
const signal = new AbortController().signal

/** Runs the writer until it has said `lines` lines or is done. */
async function runWriter(path: string, made: MadeBlob, blobSeed: number, order: number, lines: number) {
  const program = join(import.meta.dirname, '../support/store-writer.ts')
  const args = [program, path, String(blobSeed), String(made.bytes.byteLength), String(order)]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  const said: string[] = []
  for await (const line of createInterface({ input: child.stdout })) {
    said.push(line)
    if (said.length === lines) child.kill('SIGKILL')
  }
  const [code, killedBy] = await exited
  assert.ok(code === 0 || killedBy === 'SIGKILL', `the writer ended with ${code}`)
  return said
}

test('a writer killed anywhere loses no chunk it said was written, and leaves no wrong one', async (context) => {
  const path = await tempFolder(context)
  const layout = storeLayout(path)
  const random = seededRandom(seed)
  const { blake3 } = await loadHashing()
  let killed = 0
  let slowestStartMs = 0
  for (let blobSeed = 1; killed < kills; blobSeed++) {
    const made = makeBlob(blobSeed, 9 * 1024 * 1024 + 17)
    const owed = new Set<number>()
    for (let done = false; !done; ) {
      const lines = killed < kills ? 1 + Math.floor(random.next() * 60) : Number.POSITIVE_INFINITY
      const order = Math.floor(random.next() * 2 ** 31)
      const said = await runWriter(path, made, blobSeed, order, lines)
      if (said.at(-1) !== 'published') killed++
      // What was being forgotten when it was killed may be there or not.
      for (const line of said) {
        const [word, index] = line.split(' ')
        if (word === 'chunk') owed.add(Number(index))
        if (word === 'discarding') owed.delete(Number(index))
      }
      const startedAt = performance.now()
      const { store, stop } = await openDiskParts(path)
      slowestStartMs = Math.max(slowestStartMs, performance.now() - startedAt)
      assert.deepEqual(await readdir(layout.temp), [], 'temporary files are gone')
      done = store.isComplete(made.blob)
      if (done) {
        assert.deepEqual(await readWhole(store, made), made.bytes)
        assert.equal((await store.verify(made.blob, signal)).ok, true)
        assert.deepEqual(await readdir(layout.partials), [], 'partial folders are gone')
      } else {
        const partial = await store.openPartial(made.blob, made.geometry)
        const lost = [...owed].filter((index) => !partial.held.has(index))
        assert.deepEqual(lost, [], `chunks lost (seed ${seed})`)
        for (const index of partial.held.indices()) {
          const { start, end } = made.geometry.range(index)
          const bytes = Buffer.alloc(end - start)
          await partial.read(bytes, start)
          assert.deepEqual(blake3(bytes), made.voucher(index).digest, `chunk ${index} (seed ${seed})`)
        }
        await partial.close()
      }
      const { usedBytes } = await store.usage()
      const held = store.list().reduce((sum, { heldBytes }) => sum + heldBytes, 0)
      assert.equal(usedBytes, held, 'the ledger is what is there')
      await stop()
    }
  }
  console.log(`${killed} kills, slowest start afterwards ${slowestStartMs.toFixed(0)} ms`)
})

/** Leaves a partial blob as a power loss after `synced` chunks may: later chunks written, marked, and wrong on disk. */
async function afterPowerLoss(context: TestContext, spoil: (data: string) => Promise<void>) {
  const path = await tempFolder(context)
  const layout = storeLayout(path)
  const made = makeBlob(7, 640 * 1024)
  const first = await openDiskParts(path)
  const partial = await first.store.openPartial(made.blob, made.geometry)
  for (const index of [0, 1, 2, 3]) await partial.write(index, made.chunk(index), made.voucher(index))
  // The journal as it is before the sync that closing makes.
  const journal = await readFile(layout.partial(made.blob).journal)
  await first.stop()
  await writeFile(layout.partial(made.blob).journal, journal)
  await spoil(layout.partial(made.blob).data)
  await writeFile(layout.session, JSON.stringify({ bootId: 'another boot' }))
  return { path, made }
}

test('after a power loss chunks that were not synced count only if their digest fits', async (context) => {
  const { path, made } = await afterPowerLoss(context, async (data) => {
    const bytes = await readFile(data)
    bytes.fill(0, 64 * 1024, 128 * 1024)
    await writeFile(data, bytes.subarray(0, 3 * 64 * 1024 + 100))
  })
  const { store, stop } = await openDiskParts(path)
  context.after(stop)
  assert.deepEqual([...(store.partialChunks(made.blob)?.held.indices() ?? [])], [0, 2])
  const partial = await store.openPartial(made.blob, made.geometry)
  assert.deepEqual([...partial.held.indices()], [0, 2])
  await fill(partial, made)
  assert.equal(await partial.verifyWhole(signal), true)
  await partial.publish()
})

test('chunks checked after a power loss stay checked when the next start comes without one', async (context) => {
  const { path, made } = await afterPowerLoss(context, async (data) => {
    const bytes = await readFile(data)
    bytes.fill(7, 0, 64 * 1024)
    await writeFile(data, bytes)
  })
  await (await openDiskParts(path)).stop()
  const { store, stop } = await openDiskParts(path)
  context.after(stop)
  assert.deepEqual([...(store.partialChunks(made.blob)?.held.indices() ?? [])], [1, 2, 3])
})

test('more unsynced chunks than a start checks count for nothing until a writer or the next start has checked them', async (context) => {
  const path = join(await tempFolder(context), 'store')
  const geometry = fixedSlices(8 * 4 * 1024 * 1024, 4 * 1024 * 1024)
  await seedStorage(path, { partialBlobs: 40, chunksPerBlob: 8, chunkBytes: 4 * 1024 * 1024 })
  const layout = storeLayout(path)
  const blobs = (await readdir(layout.partials)).flatMap((name) => blobOfFlatName(name) ?? [])
  const first = await openDiskParts(path)
  const held = blobs.map((blob) => first.store.partialChunks(blob)?.held.held)
  // Half of the chunks are held, two of them not synced: 32 blobs are checked, 256 MiB.
  assert.equal(held.filter((count) => count === 4).length, 32)
  const unchecked = blobs.filter((_, place) => held[place] === 2)
  const [good, bad, later] = unchecked
  assert.ok(unchecked.length === 8 && good !== undefined && bad !== undefined && later !== undefined)
  for (const blob of [bad, later]) {
    const spoilt = await open(layout.partial(blob).data, 'r+')
    await spoilt.write(Buffer.from([1]), 0, 1, geometry.range(4).start)
    await spoilt.close()
  }
  for (const [blob, indices] of [
    [good, [0, 2, 4, 6]],
    [bad, [0, 2, 6]],
  ] as const) {
    const partial = await first.store.openPartial(blob, geometry)
    assert.deepEqual([...partial.held.indices()], indices)
    await partial.close()
  }
  const { usedBytes } = await first.store.usage()
  const listed = first.store.list().reduce((sum, { heldBytes }) => sum + heldBytes, 0)
  assert.equal(usedBytes, listed, 'the ledger is what is there')
  await first.stop()
  const { store, stop } = await openDiskParts(path)
  context.after(stop)
  const wrong = new Set([bad, later])
  for (const blob of blobs) assert.equal(store.partialChunks(blob)?.held.held, wrong.has(blob) ? 3 : 4)
})

test('a data file cut behind our back loses its chunks for good, also when it grows again', async (context) => {
  const path = await tempFolder(context)
  const layout = storeLayout(path)
  const made = makeBlob(8, 640 * 1024)
  const first = await openDiskParts(path)
  const partial = await first.store.openPartial(made.blob, made.geometry)
  for (const index of [0, 5, 6]) await partial.write(index, made.chunk(index), made.voucher(index))
  await first.stop()
  await truncate(layout.partial(made.blob).data, 64 * 1024)
  const second = await openDiskParts(path)
  const again = await second.store.openPartial(made.blob, made.geometry)
  assert.deepEqual([...again.held.indices()], [0])
  await again.write(9, made.chunk(9), made.voucher(9))
  await second.stop()
  const third = await openDiskParts(path)
  context.after(third.stop)
  assert.deepEqual([...(third.store.partialChunks(made.blob)?.held.indices() ?? [])], [0, 9])
})

test('half things are finished or removed at start', async (context) => {
  const path = await tempFolder(context)
  const layout = storeLayout(path)
  const [whole, half, gone] = [makeBlob(11, 200_000), makeBlob(12, 200_000), makeBlob(13, 200_000)]
  const first = await openDiskParts(path)
  for (const made of [whole, half, gone]) {
    const partial = await first.store.openPartial(made.blob, made.geometry)
    await fill(partial, made)
    if (made === whole) {
      await partial.verifyWhole(signal)
      await partial.publish()
    } else await partial.close()
  }
  await first.stop()
  // Killed between rename and the end of publish; before the first journal record; with a sidecar and no blob.
  await writeFile(join(layout.temp, 'draft'), 'half a file')
  const journal = layout.partial(half.blob).journal
  await truncate(journal, 10)
  const sidecar = layout.sidecar(whole.blob)
  const orphan = layout.sidecar(gone.blob)
  await mkdir(dirname(orphan), { recursive: true })
  await copyFile(sidecar, orphan)
  await mkdir(layout.partial(whole.blob).directory)
  await rm(layout.partial(gone.blob).data)
  const { store, stop } = await openDiskParts(path)
  context.after(stop)
  assert.deepEqual(await readdir(layout.partials), [])
  assert.deepEqual(await readdir(layout.temp), [])
  await assert.rejects(stat(orphan))
  assert.deepEqual(await readWhole(store, whole), whole.bytes)
  assert.equal(store.list().length, 1)
})

test('a start with 10,000 chunks on record and 100 complete blobs takes well under 3 s', async (context) => {
  const path = await tempFolder(context)
  const first = await openDiskParts(path)
  const made = makeBlob(20, 10_000 * 1024, { chunkBytes: 1024 })
  const partial = await first.store.openPartial(made.blob, made.geometry)
  await fill(partial, made)
  for (let small = 0; small < 100; small++) {
    const { blob, bytes } = makeBlob(1000 + small, 50)
    await first.store.put(blob, bytes)
  }
  await first.stop()
  const startedAt = performance.now()
  const { store, stop } = await openDiskParts(path)
  const startMs = performance.now() - startedAt
  context.after(stop)
  assert.equal(store.partialChunks(made.blob)?.held.held, 10_000)
  assert.equal(store.list().length, 101)
  console.log(`start with 10,000 chunks and 100 blobs on record: ${startMs.toFixed(0)} ms`)
  assert.ok(startMs < 2000, `start took ${startMs} ms`)
  const openedAt = performance.now()
  const again = await store.openPartial(made.blob, made.geometry)
  console.log(`opening the partial blob: ${(performance.now() - openedAt).toFixed(0)} ms`)
  assert.equal(again.voucher(9_999)?.signature[0], 9_999 % 256)
  await again.close()
})

test('a second agent on the same storage path is refused and the first one unharmed', async (context) => {
  const path = await tempFolder(context)
  const first = await openDiskParts(path)
  context.after(first.stop)
  const made = makeBlob(30, 300_000)
  const partial = await first.store.openPartial(made.blob, made.geometry)
  await partial.write(0, made.chunk(0), made.voucher(0))
  await assert.rejects(openDiskParts(path), (error) => hasCode(error, 'store-locked'))
  const program = `
    import { openDiskParts } from '@shoal/test/support/disk-parts.ts'
    try { await openDiskParts(${JSON.stringify(path)}) } catch (error) { console.log(error.code, error.message) }`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    cwd: import.meta.dirname,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let said = ''
  for await (const piece of child.stdout) said += String(piece)
  assert.match(said, /^store-locked another Shoal agent is already using /)
  await fill(partial, made)
  assert.equal(await partial.verifyWhole(signal), true)
  await partial.publish()
})
