// Reading files while they arrive: in order, as soon as allowed, never past what is proven, and with nothing left behind.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { sleep } from '@shoal/protocol/time.ts'
import { holdsOnly } from '../support/fake-mesh.ts'
import { honestly, type OriginCall, silence, silently } from '../support/fake-origin.ts'
import { createMemoryStore } from '../support/memory-store.ts'
import { slowStore } from '../support/slow-store.ts'
import {
  blobOf,
  CHUNK,
  collect,
  flipped,
  heldIn,
  honestPeer,
  selfConsistentLie,
  TransferWorld,
} from '../support/transfer-world.ts'
import { virtualClock } from '../support/virtual-clock.ts'

const never = new AbortController().signal

for (const sizeBytes of [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 5 * CHUNK + 7]) {
  test(`a file of ${sizeBytes} bytes is read, kept and shown`, async (t) => {
    const world = await TransferWorld.start(t)
    const made = blobOf(1, sizeBytes)
    const file = world.file(made)
    const { bytes, error } = await world.read(file)
    assert.equal(error, undefined)
    assert.equal(Buffer.compare(bytes, made.bytes), 0)
    assert.equal(Buffer.compare((await heldIn(world, made)) ?? Buffer.of(1), made.bytes), 0)
    assert.deepEqual(world.shown, ['model.bin'])
    assert.equal(world.counts.origin, sizeBytes)
    const again = await world.open(file)
    assert.equal(again.from, 'disk')
    await again.close()
  })
}

test('origin bytes are released while their chunk is arriving, the last chunk only after the digest', async (t) => {
  const world = await TransferWorld.start(t)
  const made = blobOf(2, 3 * CHUNK)
  const file = world.file(made)
  const calls = new Map<number, OriginCall>()
  world.origin.manner = async (call) => {
    calls.set(call.index, call)
    await silence(call.options.signal)
  }
  const reader = await world.open(file, { start: 0, end: 3 * CHUNK })
  const pieces = reader.bytes({ start: 0, end: 3 * CHUNK }, never)[Symbol.asyncIterator]()
  const first = pieces.next()
  await world.clock.advance(500)
  calls.get(0)?.fill(made.bytes.subarray(0, 1000))
  const piece = await world.pass(first)
  assert.equal(Buffer.compare(piece.value, made.bytes.subarray(0, 1000)), 0)
  await reader.close()
  await pieces.return?.()

  // The last chunk alone, of a file that is wanted whole.
  world.origin.manner = async (call) => {
    if (call.index < 2) call.fill(call.right)
    else {
      call.fill(call.right.subarray(0, CHUNK - 1))
      await gate.promise
      call.fill(call.right.subarray(CHUNK - 1), CHUNK - 1)
    }
  }
  const gate = Promise.withResolvers<void>()
  await world.pass(world.downloader.abandon(made.blob))
  const whole = await world.open(file, { start: 0, end: 3 * CHUNK })
  let got = 0
  const reading = (async () => {
    for await (const part of whole.bytes({ start: 0, end: 3 * CHUNK }, never)) got += part.byteLength
  })()
  await world.clock.advance(5_000)
  assert.equal(got, 2 * CHUNK, 'not a byte of the last chunk')
  gate.resolve()
  await world.pass(reading)
  assert.equal(got, 3 * CHUNK)
  await whole.close()
})

test('a reader that stops reading is given nothing ahead, and the download needs no memory for it', async (t) => {
  const world = await TransferWorld.start(t)
  const made = blobOf(3, 40 * CHUNK)
  const file = world.file(made)
  const range = { start: 0, end: 40 * CHUNK }
  let readBytes = 0
  const { open } = world.store
  world.store.open = async (blob) => {
    const complete = await open(blob)
    if (complete === undefined) return undefined
    const read: typeof complete.read = async (target, position) => {
      readBytes += target.byteLength
      await complete.read(target, position)
    }
    return { ...complete, read }
  }
  const reader = await world.open(file, range)
  const pieces = reader.bytes(range, never)[Symbol.asyncIterator]()
  let given = 0
  for (let taken = 0; taken < 2; taken++) given += (await world.pass(pieces.next())).value.byteLength
  await world.clock.advance(60_000)
  assert.ok(world.store.isComplete(made.blob), 'the download went on without it')
  assert.ok(readBytes <= given && given < 40 * CHUNK, `${readBytes} bytes were read for ${given}`)
  assert.equal(world.buffers.lentBytes, 0)
  for (let next = await world.pass(pieces.next()); !next.done; next = await world.pass(pieces.next()))
    given += next.value.byteLength
  assert.equal(given, 40 * CHUNK)
  await reader.close()
})

test('a slow reader of a part is not cut because nothing was gained for minutes', async (t) => {
  const world = await TransferWorld.start(t)
  const made = blobOf(4, 30 * CHUNK)
  const file = world.file(made)
  const range = { start: 0, end: 10 * CHUNK }
  world.origin.manner = async (call) => {
    if (call.index === 3 && call.attempt === 1) throw new ShoalError('origin-unreachable', 'hiccup')
    await honestly(call)
  }
  const reader = await world.open(file, range)
  const pieces = reader.bytes(range, never)[Symbol.asyncIterator]()
  let given = 0
  for (let next = await world.pass(pieces.next()); !next.done; next = await world.pass(pieces.next())) {
    given += next.value.byteLength
    await world.clock.advance(40_000)
  }
  assert.equal(given, 10 * CHUNK)
  await reader.close()
})

test('a range is given exactly, fetches no more than its chunks, and leaves the file incomplete', async (t) => {
  const world = await TransferWorld.start(t)
  const made = blobOf(5, 10 * CHUNK + 5)
  const file = world.file(made)
  const range = { start: 3 * CHUNK - 10, end: 4 * CHUNK + 10 }
  const { bytes, error } = await world.read(file, range)
  assert.equal(error, undefined)
  assert.equal(Buffer.compare(bytes, made.bytes.subarray(range.start, range.end)), 0)
  assert.deepEqual(
    world.origin.asked.toSorted((a, b) => a - b),
    [2, 3, 4],
  )
  assert.equal(world.store.isComplete(made.blob), false)
})

test('the rest of what was read before is not ended before the whole is proven', async (t) => {
  const first = await TransferWorld.start(t)
  const made = blobOf(6, 8 * CHUNK)
  // A liar filled the front of the file on an earlier run; the client comes back for its end.
  const liar = first.mesh.add({ chunk: (call) => selfConsistentLie(made, liar.identity)(call) })
  await first.read(first.file(made), { start: 0, end: 4 * CHUNK })
  assert.equal(first.counts.origin, 0)
  await first.stop()
  const second = await TransferWorld.start(t, { store: first.store })
  const file = second.file(made)
  const { openPartial } = second.store
  second.store.openPartial = async (blob, geometry) => {
    const partial = await openPartial(blob, geometry)
    const { verifyWhole } = partial
    const slowly = (signal: AbortSignal) => sleep(second.clock, 500, signal).then(() => verifyWhole(signal))
    return Object.assign(partial, { verifyWhole: slowly })
  }
  const rest = { start: 4 * CHUNK, end: 8 * CHUNK }
  const { error } = await second.read(file, rest)
  assert.ok(error instanceof ShoalError && error.code === 'blob-corrupt', String(error))
  const again = await second.open(file, rest)
  assert.equal(again.suspectPrefix, true)
  await again.close()
  await second.fetch(file)
  assert.equal(Buffer.compare((await heldIn(second, made)) ?? Buffer.of(), made.bytes), 0)
})

test('two readers share one download', async (t) => {
  const world = await TransferWorld.start(t)
  const made = blobOf(7, 6 * CHUNK)
  const file = world.file(made)
  const outcomes = await Promise.all([
    world.read(file),
    world.read(file),
    world.read(file, { start: 10, end: 99 }),
  ])
  for (const [at, { bytes, error }] of outcomes.entries()) {
    assert.equal(error, undefined, String(at))
    assert.equal(Buffer.compare(bytes, at < 2 ? made.bytes : made.bytes.subarray(10, 99)), 0)
  }
  assert.equal(world.counts.origin, 6 * CHUNK)
})

test('an abort ends the reader at once, and the download after a while unless somebody comes back', async (t) => {
  const world = await TransferWorld.start(t)
  const made = blobOf(8, 6 * CHUNK)
  const file = world.file(made)
  world.origin.manner = async (call) => (call.index === 0 ? honestly(call) : silently(call))
  const client = new AbortController()
  const reader = await world.open(file, { start: 0, end: 6 * CHUNK })
  const reading = collect(reader, { start: 0, end: 6 * CHUNK }, client.signal)
  await world.clock.advance(100)
  client.abort()
  const { bytes, error } = await world.pass(reading)
  assert.ok(error instanceof ShoalError && error.code === 'aborted')
  assert.equal(bytes.byteLength, CHUNK)
  await reader.close()
  await world.clock.advance(9_000)
  assert.equal(world.downloader.active().length, 1, 'it lingers')
  const back = await world.open(file, { start: CHUNK, end: 6 * CHUNK })
  await world.clock.advance(20_000)
  assert.equal(world.downloader.active().length, 1, 'and stays for who came back')
  await back.close()
  await world.clock.advance(10_001)
  assert.equal(world.downloader.active().length, 0)
  assert.equal(world.buffers.lentBytes, 0)
})

// --- bytes given before their chunk was stored -----------------------------------------------------------------------

/** The front of chunk 0 comes wrong from the origin; then `next` decides. */
async function brokenFront(
  t: Parameters<typeof TransferWorld.start>[0],
  next: (call: OriginCall) => Promise<void>,
) {
  const world = await TransferWorld.start(t)
  const made = blobOf(9, 3 * CHUNK)
  const file = world.file(made)
  const wrong = Buffer.from(made.chunk(0))
  wrong[10] = (wrong[10] ?? 0) ^ 1
  world.origin.manner = async (call) => {
    if (call.index !== 0) return honestly(call)
    if (call.attempt > 1) return next(call)
    call.fill(wrong.subarray(0, 1000))
    await read.promise
    throw new ShoalError('origin-unreachable', 'cut')
  }
  const read = Promise.withResolvers<void>()
  const whole = { start: 0, end: 3 * CHUNK }
  const reader = await world.open(file, whole)
  const reading = collect(reader, whole)
  await world.clock.advance(100)
  return { world, made, file, read, reader, reading, whole }
}

test('an origin that breaks off in a chunk and then sends other bytes fails the reader, and the file is right in the end', async (t) => {
  const { world, made, file, read, reader, reading, whole } = await brokenFront(t, honestly)
  read.resolve()
  const { bytes, error } = await world.pass(reading)
  assert.ok(error instanceof ShoalError && error.code === 'blob-corrupt', String(error))
  assert.ok(bytes.byteLength < made.bytes.byteLength)
  await reader.close()
  const back = await world.open(file, { start: 1000, end: 3 * CHUNK })
  assert.equal(back.suspectPrefix, true)
  await back.close()
  const again = await world.read(file, whole)
  assert.equal(again.error, undefined)
  assert.equal(Buffer.compare(again.bytes, made.bytes), 0)
})

test('a second break in the same chunk does not make the first one forgotten', async (t) => {
  const { world, read, reader, reading } = await brokenFront(t, async (call) => {
    if (call.attempt > 2) return honestly(call)
    call.fill(call.right.subarray(0, 2000))
    await second.promise
    throw new ShoalError('origin-unreachable', 'cut again')
  })
  const second = Promise.withResolvers<void>()
  read.resolve()
  await world.clock.advance(1_500)
  second.resolve()
  const { error } = await world.pass(reading)
  assert.ok(error instanceof ShoalError && error.code === 'blob-corrupt', String(error))
  await reader.close()
})

test('what was read of a chunk is compared when another source brings it first', async (t) => {
  const world = await TransferWorld.start(t)
  const made = blobOf(10, 3 * CHUNK)
  const file = world.file(made)
  world.origin.manner = async (call) => {
    if (call.index !== 0) return honestly(call)
    call.fill(flipped(call.right.subarray(0, 1000)))
    await silence(call.options.signal)
  }
  const whole = { start: 0, end: 3 * CHUNK }
  const reader = await world.open(file, whole)
  const reading = collect(reader, whole)
  await world.clock.advance(300)
  const holder = world.mesh.add({ chunk: (call) => honestPeer(made, holder.identity)(call) })
  const { error } = await world.pass(reading)
  assert.ok(holder.asked.includes(0), 'the peer was asked for what the origin did not end')
  assert.ok(error instanceof ShoalError && error.code === 'blob-corrupt', String(error))
  await reader.close()
  const again = await world.read(file)
  assert.equal(again.error, undefined)
  assert.equal(Buffer.compare(again.bytes, made.bytes), 0)
})

test('what is read of a copy that goes on arriving while another one is written is compared too', async (t) => {
  const clock = virtualClock()
  const store = slowStore(createMemoryStore(), clock, { next: () => 0.99 }, { atMostMs: 400 })
  const world = await TransferWorld.start(t, { clock, store })
  const made = blobOf(12, 3 * CHUNK)
  const file = world.file(made)
  const holder = world.mesh.add({
    have: () => holdsOnly(3, []),
    chunk: async (call) => {
      const voucher = await honestPeer(made, holder.identity)(call)
      // The peer's copy is complete and about to be written; more of the origin's comes, and is wrong.
      clock.after(100, () => first?.fill(flipped(made.chunk(0).subarray(1000, 2000)), 1000))
      return voucher
    },
  })
  let first: OriginCall | undefined
  world.origin.manner = async (call) => {
    if (call.index !== 0) return honestly(call)
    first = call
    call.fill(call.right.subarray(0, 1000))
    await silence(call.options.signal)
  }
  const whole = { start: 0, end: 3 * CHUNK }
  const reader = await world.open(file, whole)
  const reading = collect(reader, whole)
  await world.clock.advance(300)
  world.mesh.gossip(holder.peer, [
    { blob: made.blob, geometry: made.geometry.text, state: 'complete', gained: [] },
  ])
  const { error } = await world.pass(reading)
  assert.ok(holder.asked.includes(0))
  assert.ok(error instanceof ShoalError && error.code === 'blob-corrupt', String(error))
  await reader.close()
})

test('an origin that takes back what it sent and sends something else fails the reader', async (t) => {
  const world = await TransferWorld.start(t)
  const made = blobOf(11, 3 * CHUNK)
  const file = world.file(made)
  const read = Promise.withResolvers<void>()
  world.origin.manner = async (call) => {
    if (call.index === 0) {
      call.fill(flipped(call.right.subarray(0, 1000)))
      await read.promise
      call.options.onProgress(0)
    }
    call.fill(call.right)
  }
  const reader = await world.open(file, { start: 0, end: 3 * CHUNK })
  const reading = collect(reader, { start: 0, end: 3 * CHUNK })
  await world.clock.advance(100)
  read.resolve()
  const { error } = await world.pass(reading)
  assert.ok(error instanceof ShoalError && error.code === 'blob-corrupt', String(error))
  assert.ok(world.store.isComplete(made.blob), 'what is kept is right')
  await reader.close()
})
