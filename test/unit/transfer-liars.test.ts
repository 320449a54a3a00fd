// Peers that lie, and an origin that does: the file is right in the end, the liar is out, and no reader ends cleanly with a wrong
// byte. What peers hold, say and sign is the test's; everything that decides is real.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newIdentity } from '@shoal/agent/net/identity.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { seededRandom, sleep } from '@shoal/protocol/time.ts'
import { type FakePeer, holdsOnly, type PeerManner } from '../support/fake-mesh.ts'
import { honestly, silence } from '../support/fake-origin.ts'
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
  vouchFor,
} from '../support/transfer-world.ts'
import { virtualClock } from '../support/virtual-clock.ts'

const CHUNKS = 12
const whole = { start: 0, end: CHUNKS * CHUNK }

type Liar = (made: ReturnType<typeof blobOf>, self: () => FakePeer, author: FakePeer) => PeerManner

/** What the liar does on each request, and whether it is banned for it. */
const lies: Record<string, { readonly manner: Liar; readonly banned: boolean; readonly atMost: number }> = {
  'wrong bytes for an honest voucher': {
    manner: (made, _self, author) => async (call) => {
      call.fill(flipped(made.chunk(call.request.index)))
      return vouchFor(author.identity, call, made.chunk(call.request.index))
    },
    banned: true,
    atMost: 1,
  },
  'right bytes and a voucher that its author has not signed': {
    manner: (made, self, author) => async (call) => {
      const bytes = made.chunk(call.request.index)
      call.fill(bytes)
      return { ...vouchFor(self().identity, call, bytes), author: author.identity.publicKey }
    },
    banned: true,
    atMost: 1,
  },
  'the voucher of another chunk': {
    manner: (made, _self, author) => async (call) => {
      const { request } = call
      const bytes = made.chunk(request.index)
      call.fill(bytes)
      const other = { request: { ...request, index: (request.index + 1) % CHUNKS } }
      return vouchFor(author.identity, other, bytes)
    },
    banned: true,
    atMost: 1,
  },
  'no voucher at all': {
    manner: (made) => async (call) => {
      call.fill(made.chunk(call.request.index))
      return undefined
    },
    banned: true,
    atMost: 1,
  },
  'a short body': {
    manner: (made) => async (call) => {
      call.options.onProgress(100)
      call.request.into.set(made.chunk(call.request.index).subarray(0, 100))
      throw new ShoalError('peer-unreachable', 'the stream ended early')
    },
    banned: false,
    atMost: 3,
  },
  silence: {
    manner: () => (call) => silence(call.options.signal),
    banned: false,
    atMost: 3,
  },
  'chunks that it does not have': {
    manner: () => async () => {
      throw new ShoalError('peer-lacks-chunk', 'not here')
    },
    banned: false,
    atMost: 3,
  },
}

for (const [name, { manner, banned, atMost }] of Object.entries(lies)) {
  test(`a peer that gives ${name} is out, and the reader gets the right file`, async (t) => {
    const world = await TransferWorld.start(t)
    const made = blobOf(20, CHUNKS * CHUNK)
    const file = world.file(made)
    const honest: FakePeer = world.mesh.add({ chunk: (call) => honestPeer(made, honest.identity)(call) })
    const liar: FakePeer = world.mesh.add({ chunk: (call) => manner(made, () => liar, honest)(call) })
    const startedAt = world.clock.now()
    const { bytes, error } = await world.read(file, whole)
    assert.equal(error, undefined)
    assert.equal(Buffer.compare(bytes, made.bytes), 0)
    assert.ok(liar.asked.length > 0, 'it was asked')
    assert.equal(liar.banned, banned)
    assert.equal(honest.banned, false)
    assert.ok(liar.asked.length <= atMost, `it was asked ${liar.asked.length} times`)
    assert.ok(world.clock.now() - startedAt < 6_000, `${world.clock.now() - startedAt} ms`)
    assert.equal(Buffer.compare((await heldIn(world, made)) ?? Buffer.of(), made.bytes), 0)
  })
}

/** An honest holder of one half, and a liar with the other that vouches for what it gives. */
async function halfLies(t: Parameters<typeof TransferWorld.start>[0], seed: number) {
  const world = await TransferWorld.start(t)
  const made = blobOf(seed, CHUNKS * CHUNK)
  const file = world.file(made)
  const half = (from: number) => Array.from({ length: CHUNKS / 2 }, (_, at) => from + at)
  const honest: FakePeer = world.mesh.add({
    chunk: (call) => honestPeer(made, honest.identity)(call),
    have: () => holdsOnly(CHUNKS, half(0)),
  })
  const liar: FakePeer = world.mesh.add({
    chunk: (call) => selfConsistentLie(made, liar.identity)(call),
    have: () => holdsOnly(CHUNKS, half(CHUNKS / 2)),
  })
  return { world, made, file, honest, liar, range: { start: 0, end: CHUNKS * CHUNK } }
}

test('a liar that vouches for its own wrong bytes is found by the digest of the whole and a sample, and honest chunks are kept', async (t) => {
  const { world, made, file, honest, liar, range } = await halfLies(t, 22)
  world.origin.manner = async (call) => {
    // It may only be asked because of the doubt.
    assert.ok(world.counts.corrupt > 0, `chunk ${call.index} was asked of the origin`)
    await honestly(call)
  }
  const { bytes, error } = await world.read(file, range)
  assert.ok(error instanceof ShoalError && error.code === 'blob-corrupt', String(error))
  assert.ok(bytes.byteLength <= (CHUNKS - 1) * CHUNK, 'the last chunk was held back')
  const again = await world.open(file, { start: bytes.byteLength, end: range.end })
  assert.equal(again.suspectPrefix, true)
  await again.close()
  await world.fetch(file)
  assert.equal(liar.banned, true)
  assert.equal(honest.banned, false)
  assert.equal(Buffer.compare((await heldIn(world, made)) ?? Buffer.of(), made.bytes), 0)
  const reader = await world.store.open(made.blob)
  const kept = await Promise.all(
    Array.from({ length: CHUNKS }, async (_, index) =>
      Buffer.from((await reader?.voucher(index))?.author ?? []).equals(honest.identity.publicKey),
    ),
  )
  await reader?.close()
  assert.ok(
    kept.filter(Boolean).length >= CHUNKS / 2 - 4,
    'only samples of the honest chunks were fetched again',
  )
  const { from, suspectPrefix, close } = await world.open(file)
  assert.deepEqual([from, suspectPrefix], ['disk', true])
  await close()
  await world.clock.advance(60 * 60_000)
  const later = await world.open(file)
  assert.equal(later.suspectPrefix, false, 'but not for ever')
  await later.close()
})

test('who begins to read between the wrong digest and the proof against the liar does not end cleanly with its bytes', async (t) => {
  const { world, made, file, liar, range } = await halfLies(t, 23)
  const gate = Promise.withResolvers<void>()
  world.origin.manner = async (call) => {
    await gate.promise
    await honestly(call)
  }
  const first = await world.open(file, range)
  assert.ok((await world.pass(collect(first, range))).error instanceof ShoalError)
  await first.close()
  // The liar's other chunks still lie here.
  const second = await world.open(file, range)
  assert.equal(second.suspectPrefix, true)
  const reading = collect(second, range)
  await world.clock.advance(1_000)
  gate.resolve()
  const { bytes, error } = await world.pass(reading)
  assert.equal(liar.banned, true)
  if (error === undefined) assert.equal(Buffer.compare(bytes, made.bytes), 0)
  else assert.ok(error instanceof ShoalError && error.code === 'blob-corrupt', String(error))
  await second.close()
  const last = await world.read(file, range)
  assert.equal(last.error, undefined)
  assert.equal(Buffer.compare(last.bytes, made.bytes), 0)
})

test('readers that begin at any moment around a wrong digest end right or with an error', async (t) => {
  for (const culprit of ['a peer', 'the origin'] as const) {
    const clock = virtualClock()
    const store = slowStore(createMemoryStore(), clock, seededRandom(5), { atMostMs: 60 })
    const world = await TransferWorld.start(t, { clock, store })
    const made = blobOf(33, CHUNKS * CHUNK)
    const file = world.file(made)
    world.origin.manner = async (call) => {
      const isWrong = culprit === 'the origin' && call.index === 5 && call.attempt === 1
      await sleep(clock, 40, call.options.signal)
      call.fill(isWrong ? flipped(call.right) : call.right)
    }
    const liar: FakePeer = world.mesh.add({
      chunk: (call) => selfConsistentLie(made, liar.identity)(call),
      have: () => (culprit === 'a peer' ? holdsOnly(CHUNKS, [4, 5, 6, 7, 8]) : holdsOnly(CHUNKS, [])),
    })
    const pull = world.downloader.fetch(file, { signal: new AbortController().signal })
    const readings: Promise<void>[] = []
    for (const range of [
      whole,
      { start: 5 * CHUNK, end: 7 * CHUNK },
      { start: 4 * CHUNK, end: 4 * CHUNK + 9 },
    ]) {
      const startOne = async () => {
        const reader = await world.downloader.open(file, range)
        const doubtful = !reader.suspectPrefix && world.counts.corrupt === 0
        const { bytes, error } = await collect(reader, range)
        await reader.close()
        const right = made.bytes.subarray(range.start, range.start + bytes.byteLength)
        // A part that was read before anybody could know is the one thing that cannot be helped.
        const before = doubtful && range !== whole
        if (error === undefined && !before) assert.equal(Buffer.compare(bytes, right), 0, culprit)
        if (error === undefined) assert.equal(bytes.byteLength, range.end - range.start)
        else assert.ok(error instanceof ShoalError && error.code === 'blob-corrupt', String(error))
      }
      for (let delayMs = 0; delayMs < 3_000; delayMs += 25)
        readings.push(sleep(clock, delayMs).then(startOne))
    }
    await world.pass(Promise.all([pull, ...readings]))
    assert.equal(liar.banned, culprit === 'a peer')
    assert.equal(Buffer.compare((await heldIn(world, made)) ?? Buffer.of(), made.bytes), 0)
  }
})

test('what a liar vouched for is not taken from those who pass it on in good faith, and they are not banned', async (t) => {
  const { world, made, file, liar } = await halfLies(t, 34)
  const relay: FakePeer = world.mesh.add({
    chunk: (call) => selfConsistentLie(made, liar.identity)(call),
    have: () => holdsOnly(CHUNKS, [6, 7, 8, 9, 10, 11]),
  })
  let checks = 0
  const { openPartial } = world.store
  world.store.openPartial = async (blob, geometry) => {
    const partial = await openPartial(blob, geometry)
    const { verifyWhole } = partial
    return Object.assign(partial, {
      verifyWhole: (signal: AbortSignal) => {
        checks++
        return verifyWhole.call(partial, signal)
      },
    })
  }
  await world.fetch(file)
  assert.equal(liar.banned, true)
  assert.equal(relay.banned, false)
  assert.equal(checks, 2, 'the second time it was right')
  assert.equal(Buffer.compare((await heldIn(world, made)) ?? Buffer.of(), made.bytes), 0)
})

test('who was opened before the doubt and reads after it gets an error, for the front it holds may be wrong', async (t) => {
  const { world, file, range } = await halfLies(t, 24)
  const reader = await world.open(file, range)
  assert.equal(reader.suspectPrefix, false)
  await world.fetch(file)
  const { error } = await world.pass(collect(reader, { start: 8 * CHUNK, end: range.end }))
  assert.ok(error instanceof ShoalError && error.code === 'blob-corrupt', String(error))
  await reader.close()
})

test('a liar whose wrong chunk no sample meets costs everything others vouched for, once', async (t) => {
  const world = await TransferWorld.start(t)
  const made = blobOf(25, 40 * CHUNK)
  const file = world.file(made)
  const liar: FakePeer = world.mesh.add({
    chunk: (call) => (call.request.index === 17 ? selfConsistentLie : honestPeer)(made, liar.identity)(call),
  })
  await world.fetch(file)
  assert.equal(liar.banned, true)
  assert.equal(Buffer.compare((await heldIn(world, made)) ?? Buffer.of(), made.bytes), 0)
  assert.ok(world.origin.asked.length <= 40, `${world.origin.asked.length} chunks were asked of the origin`)
})

test('chunks in doubt are asked of the origin, not of the peers that hold the same', async (t) => {
  const { world, file, honest } = await halfLies(t, 26)
  const before = () => honest.asked.length
  await world.fetch(file)
  const counted = new Map<number, number>()
  for (const index of honest.asked) counted.set(index, (counted.get(index) ?? 0) + 1)
  assert.ok(before() > 0)
  for (const [index, times] of counted)
    assert.equal(times, 1, `chunk ${index} was asked of the honest peer ${times} times`)
})

test('an origin that is wrong once costs one more fetch; one that stays wrong is an error and leaves nothing', async (t) => {
  const world = await TransferWorld.start(t)
  const made = blobOf(27, 4 * CHUNK)
  const file = world.file(made)
  world.origin.manner = async (call) =>
    call.fill(call.attempt === 1 && call.index === 2 ? flipped(call.right) : call.right)
  await world.fetch(file)
  assert.equal(world.origin.asked.length, 8)
  assert.equal(Buffer.compare((await heldIn(world, made)) ?? Buffer.of(), made.bytes), 0)

  const other = blobOf(28, 4 * CHUNK)
  const wrong = world.file(other, { path: 'wrong.bin' })
  world.origin.asked.length = 0
  world.origin.manner = async (call) => call.fill(call.index === 2 ? flipped(call.right) : call.right)
  const { error } = await world.read(wrong, { start: 0, end: 4 * CHUNK })
  assert.ok(error instanceof ShoalError && error.code === 'blob-corrupt', String(error))
  await assert.rejects(world.fetch(wrong), { code: 'blob-corrupt' })
  assert.equal(world.store.isComplete(other.blob), false)
  assert.equal(world.store.partialChunks(other.blob)?.held.held ?? 0, 0, 'nothing of it is kept')
  assert.ok(world.origin.asked.length <= 16, String(world.origin.asked.length))
})

test('a peer that says nonsense of what it holds is no holder', async (t) => {
  const world = await TransferWorld.start(t)
  const made = blobOf(32, 4 * CHUNK)
  const file = world.file(made)
  const answers = [
    { state: 'partial', wanting: false, held: new Uint8Array(500), claimed: [] },
    { state: 'partial', wanting: false, held: Uint8Array.of(0xff), claimed: [] },
    { state: 'partial', wanting: true, held: Uint8Array.of(1), claimed: [1_000_000, 3, 3] },
  ] as const
  const peers = answers.map((answer) =>
    world.mesh.add({
      identity: newIdentity(),
      have: () => ({ ...answer, claimed: [...answer.claimed] }),
      chunk: async () => {
        throw new ShoalError('peer-lacks-chunk', 'no')
      },
    }),
  )
  await world.fetch(file)
  assert.deepEqual(
    peers.slice(0, 2).map(({ asked }) => asked.length),
    [0, 0],
  )
})
