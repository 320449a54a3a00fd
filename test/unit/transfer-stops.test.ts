// Downloads that are stopped, joined, left and removed at awkward moments: nothing is left behind, nothing is lost, nobody is told
// that a file is in the way of itself.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { asShoalError, type ErrorCode, hasCode } from '@shoal/protocol/errors.ts'
import { type Random, seededRandom, sleep } from '@shoal/protocol/time.ts'
import { openDiskParts } from '../support/disk-parts.ts'
import type { FakePeer } from '../support/fake-mesh.ts'
import { createMemoryStore } from '../support/memory-store.ts'
import { seeds } from '../support/seed.ts'
import { type SlowStore, slowStore } from '../support/slow-store.ts'
import { tempFolder } from '../support/temp-folder.ts'
import {
  blobOf,
  CHUNK,
  collect,
  heldIn,
  honestPeer,
  realTime,
  TransferWorld,
} from '../support/transfer-world.ts'
import { type VirtualClock, virtualClock } from '../support/virtual-clock.ts'

const never = new AbortController().signal

interface SlowWorld {
  readonly world: TransferWorld
  readonly store: SlowStore
  readonly random: Random
}

/** What a test would do at its end, done for each round. */
class Round {
  readonly #ends: (() => unknown)[] = []

  after(end?: unknown): void {
    if (typeof end === 'function') this.#ends.push(() => end())
  }

  async end(): Promise<void> {
    for (const end of this.#ends.splice(0)) await end()
  }
}

async function slowWorld(
  t: Parameters<typeof TransferWorld.start>[0],
  seed: number,
  inner = createMemoryStore(),
): Promise<SlowWorld> {
  const clock = virtualClock()
  const random = seededRandom(seed)
  const store = slowStore(inner, clock, random, { atMostMs: 60 })
  const world = await TransferWorld.start(t, { store, clock })
  t.after(() => {
    assert.deepEqual(store.late, [], 'closed partial blobs were used')
    assert.equal(store.openPartials, 0, 'partial blobs were left open')
  })
  world.origin.manner = async (call) => {
    for (let at = 0; at < CHUNK; at += CHUNK / 4) {
      await sleep(clock, random.next() * 80, call.options.signal)
      call.fill(call.right.subarray(at, at + CHUNK / 4), at)
    }
  }
  return { world, store, random }
}

function slowPeer(
  world: TransferWorld,
  clock: VirtualClock,
  random: Random,
  made: ReturnType<typeof blobOf>,
) {
  const peer: FakePeer = world.mesh.add({
    chunk: async (call) => {
      await sleep(clock, random.next() * 100, call.options.signal)
      return honestPeer(made, peer.identity)(call)
    },
  })
}

test('a stop at any moment leaves nothing behind, and the next start goes on with what is held', async (t) => {
  for (const seed of seeds(t, 40)) {
    const inner = createMemoryStore()
    const made = blobOf(40, 8 * CHUNK)
    const round = new Round()
    const first = await slowWorld(round, seed, inner)
    if (seed % 2 === 0) slowPeer(first.world, first.world.clock, first.random, made)
    const file = first.world.file(made)
    const fetching = first.world.downloader.fetch(file, { signal: never }).catch((error: unknown) => error)
    const reading = (async () => {
      const reader = await first.world.downloader.open(file, { start: 0, end: 8 * CHUNK })
      return await collect(reader, { start: 0, end: 8 * CHUNK }).finally(() => reader.close())
    })().catch((error: unknown) => ({ error, bytes: Buffer.alloc(0) }))
    await first.world.clock.advance(first.random.next() * 1_500)
    await first.world.stop()
    await first.world.pass(fetching)
    const { bytes, error } = await first.world.pass(reading)
    assert.equal(Buffer.compare(bytes, made.bytes.subarray(0, bytes.byteLength)), 0, `seed ${seed}`)
    assert.ok(error !== undefined || bytes.byteLength === 8 * CHUNK, `seed ${seed}: a clean end too early`)
    const held = inner.partialChunks(made.blob)?.held.held ?? (inner.isComplete(made.blob) ? 8 : 0)
    await round.end()

    const second = await slowWorld(round, seed + 1000, inner)
    await second.world.fetch(second.world.file(made))
    assert.ok(
      second.world.origin.asked.length <= 8 - held + 2,
      `seed ${seed}: ${held} held, ${second.world.origin.asked.length} asked`,
    )
    assert.equal(Buffer.compare((await heldIn(second.world, made)) ?? Buffer.of(), made.bytes), 0)
    await round.end()
  }
})

test('readers, pulls, aborts and removals at random end right or by their own doing', async (t) => {
  const allowed: ReadonlySet<ErrorCode> = new Set(['aborted', 'store-failed'])
  for (const seed of seeds(t, 15)) {
    const round = new Round()
    const { world, random, store } = await slowWorld(round, seed)
    const made = [blobOf(41, 3 * CHUNK), blobOf(42, CHUNK - 1), blobOf(43, 5 * CHUNK)]
    const actor = async () => {
      for (let turn = 0; turn < 6; turn++) {
        await sleep(world.clock, random.next() * 600)
        const one = made[Math.floor(random.next() * made.length)] ?? blobOf(41, 3 * CHUNK)
        const file = world.file(one)
        const client = new AbortController()
        const giveUp =
          random.next() < 0.3 ? world.clock.after(random.next() * 400, () => client.abort()) : () => {}
        try {
          const what = random.next()
          if (what < 0.4) await world.downloader.fetch(file, { signal: client.signal })
          else if (what < 0.9) {
            const range = { start: 0, end: file.entry.sizeBytes }
            const reader = await world.downloader.open(file, range)
            const { bytes, error } = await collect(reader, range, client.signal)
            await reader.close()
            assert.equal(Buffer.compare(bytes, one.bytes.subarray(0, bytes.byteLength)), 0)
            if (error !== undefined) throw error
            assert.equal(bytes.byteLength, range.end, 'a clean end too early')
          } else {
            await world.downloader.abandon(one.blob)
            // Unless somebody has asked for it again.
            await store.remove(one.blob).catch((error: unknown) => assert.ok(hasCode(error, 'conflict')))
          }
        } catch (error) {
          const code = asShoalError(error)?.code
          if (code === undefined || !allowed.has(code)) throw error
        }
        giveUp()
      }
    }
    await world.pass(Promise.all(Array.from({ length: 5 }, actor)))
    for (const one of made) {
      await world.fetch(world.file(one))
      assert.equal(Buffer.compare((await heldIn(world, one)) ?? Buffer.of(), one.bytes), 0, `seed ${seed}`)
    }
    await world.clock.advance(11_000)
    assert.equal(world.clock.pending, 1, `seed ${seed}: only the swarm still looks around`)
    await round.end()
  }
})

test('a stop while the partial blob is being opened gives the writer’s place back', async (t) => {
  const { world, store } = await slowWorld(t, 1)
  const made = blobOf(44, 2 * CHUNK)
  const fetching = world.downloader.fetch(world.file(made), { signal: never })
  fetching.catch(() => {})
  const stopping = world.downloader.stop()
  await world.pass(stopping)
  await assert.rejects(fetching, { code: 'aborted' })
  const partial = await world.pass(store.openPartial(made.blob, made.geometry))
  await world.pass(partial.close())
})

test('who asks for a file in the moment it becomes complete gets it', async () => {
  for (let delayMs = 0; delayMs < 900; delayMs += 15) {
    const round = new Round()
    const { world } = await slowWorld(round, 7)
    const made = blobOf(45, CHUNK)
    const file = world.file(made)
    const first = world.downloader.fetch(file, { signal: never })
    await world.clock.advance(delayMs)
    const second = world.downloader.open(file, { start: 0, end: CHUNK }).then(async (reader) => {
      const outcome = await collect(reader, { start: 0, end: CHUNK })
      await reader.close()
      return outcome
    })
    const [, { bytes, error }] = await world.pass(Promise.all([first, second]))
    assert.equal(error, undefined, `after ${delayMs} ms`)
    assert.equal(Buffer.compare(bytes, made.bytes), 0, `after ${delayMs} ms`)
    assert.equal(world.counts.origin, CHUNK)
    await round.end()
  }
})

test('a stop right after the last reader left cuts the linger short, and a linger ends with the download', async (t) => {
  const { world } = await slowWorld(t, 3)
  const made = blobOf(46, 2 * CHUNK)
  const file = world.file(made)
  const reader = await world.open(file, { start: 0, end: 2 * CHUNK })
  await reader.close()
  await reader.close()
  await world.clock.advance(3_000)
  assert.ok(world.store.isComplete(made.blob))
  await world.stop()
  assert.equal(world.clock.pending, 0)
})

test('a download whose sources fail for a minute is given up, and nothing of it goes on', async (t) => {
  const { world } = await slowWorld(t, 4)
  const made = blobOf(47, 2 * CHUNK)
  let asked = 0
  world.origin.manner = async () => {
    asked++
    throw Object.assign(new Error('socket hang up'), { name: 'AbortError' })
  }
  const startedAt = world.clock.now()
  await assert.rejects(world.fetch(world.file(made)), { code: 'origin-unreachable' })
  assert.ok(world.clock.now() - startedAt > 50_000)
  assert.ok(asked < 40, `asked ${asked} times`)
})

test('the memory for arriving chunks is a bound over all downloads, and none starves', async (t) => {
  const clock = virtualClock()
  const chunkBytes = 4 * 1024 * 1024
  const world = await TransferWorld.start(t, { clock, chunkBytes, bufferBytes: 2 * chunkBytes })
  let most = 0
  world.origin.manner = async (call) => {
    most = Math.max(most, world.buffers.lentBytes)
    await sleep(clock, 100, call.options.signal)
    call.fill(call.right)
  }
  const made = [1, 2, 3].map((seed) => blobOf(50 + seed, 2 * chunkBytes))
  await world.pass(Promise.all(made.map((one) => world.downloader.fetch(world.file(one), { signal: never }))))
  assert.ok(most <= 4 * chunkBytes, `${most} bytes were lent`)
  assert.equal(world.buffers.lentBytes, 0)
})

test('on a disk, stops leave no open file and chunks that are held are not fetched again', async (t) => {
  const folder = await tempFolder(t)
  const parts = await openDiskParts(folder)
  t.after(() => parts.stop())
  const before = await openFiles()
  const made = blobOf(48, 24 * CHUNK)
  const random = seededRandom(9)
  let asked = 0
  for (let turn = 0; turn < 6; turn++) {
    const clock = realTime()
    const round = new Round()
    const world = await TransferWorld.start(round, { store: parts.store, clock })
    const file = world.file(made)
    world.origin.manner = async (call) => {
      await sleep(clock, 3, call.options.signal)
      call.fill(call.right)
      asked++
    }
    const fetching = world.downloader.fetch(file, { signal: never })
    fetching.catch(() => {})
    if (turn === 5) await world.pass(fetching)
    else await sleep(clock, 5 + random.next() * 20)
    await round.end()
  }
  assert.ok(asked <= 24 + 5 * 4, `${asked} chunks were fetched`)
  assert.equal((await parts.store.verify(made.blob, never)).ok, true)
  assert.equal(await openFiles(), before)
})

async function openFiles(): Promise<number> {
  const { readdir } = await import('node:fs/promises')
  return (await readdir('/proc/self/fd')).length
}
