// What a pull would do, computed from facts: bytes by source, time at known rates, room on the disk.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type KnownRates,
  type PeerHolding,
  type PlannedFile,
  planPull,
  roomOf,
} from '@shoal/agent/plan/pull-plan.ts'
import { type ChunkGeometry, ChunkMap } from '@shoal/protocol/chunks.ts'
import { seededRandom } from '@shoal/protocol/time.ts'
import { seeds } from '../support/seed.ts'

const CHUNK = 1000
const NO_RATES: KnownRates = {
  origin: undefined,
  peers: undefined,
  originLimit: undefined,
  downLimit: undefined,
}
const ROOM = { freeBytes: 1e9, limitBytes: undefined }

/** Chunks of 1,000 bytes: real ones are powers of two, and hard to add up in the head. */
function slices(sizeBytes: number): ChunkGeometry {
  return {
    text: `slices of ${sizeBytes}`,
    sizeBytes,
    chunkCount: Math.ceil(sizeBytes / CHUNK),
    range: (index) => ({ start: index * CHUNK, end: Math.min((index + 1) * CHUNK, sizeBytes) }),
    indexAt: (position) => Math.floor(position / CHUNK),
  }
}

function mapOf(count: number, indices: readonly number[]): ChunkMap {
  const map = new ChunkMap(count)
  for (const index of indices) map.add(index)
  return map
}

function fileOf(sizeBytes: number, fields: Partial<PlannedFile> = {}): PlannedFile {
  return {
    path: 'model.bin',
    blob: `blob of ${sizeBytes}`,
    geometry: slices(sizeBytes),
    held: undefined,
    promised: false,
    peers: [],
    ...fields,
  }
}

function planOf(
  files: readonly PlannedFile[],
  rates = NO_RATES,
  room: Parameters<typeof planPull>[1]['room'] = ROOM,
) {
  return planPull(files, { rates, room, peersAsked: 2 })
}

test('each missing chunk is counted once: disk before near peers, near before far ones, far ones before the origin', () => {
  const plan = planOf([
    fileOf(4_500, {
      held: mapOf(5, [0]),
      peers: [
        { near: false, holds: mapOf(5, [0, 1, 2]) },
        { near: true, holds: mapOf(5, [0, 1, 4]) },
      ],
    }),
  ])
  assert.deepEqual(plan.bytes, { disk: 1_000, near: 1_500, far: 1_000, origin: 1_000 })
  assert.equal(plan.totalBytes, 4_500)
})

test('whole files are counted without their chunks, and empty ones are here', () => {
  const plan = planOf([
    fileOf(3_000, { held: 'all' }),
    fileOf(7_000, { peers: [{ near: true, holds: 'all' }] }),
    fileOf(9_000, { peers: [{ near: false, holds: 'all' }] }),
    fileOf(1_001),
    fileOf(0),
  ])
  assert.deepEqual(plan.bytes, { disk: 3_000, near: 7_000, far: 9_000, origin: 1_001 })
  assert.deepEqual([plan.files, plan.filesHere], [5, 2])
})

test('content under two names is fetched once', () => {
  const plan = planOf([fileOf(3_000, { path: 'a' }), fileOf(3_000, { path: 'b' })])
  assert.deepEqual([plan.bytes.origin, plan.totalBytes, plan.disk.neededBytes], [3_000, 6_000, 3_000])
})

test('what nobody was asked about counts for the origin and is told apart', () => {
  const plan = planOf([fileOf(3_000, { peers: undefined }), fileOf(2_000)])
  assert.deepEqual([plan.bytes.origin, plan.notAskedBytes], [5_000, 3_000])
  const alone = planPull([fileOf(3_000, { peers: undefined })], {
    rates: NO_RATES,
    room: ROOM,
    peersAsked: 0,
  })
  assert.equal(alone.notAskedBytes, 0, 'without peers there was nobody to ask')
})

test('the time is that of the slowest part at its rate, and unknown when a part that matters was never measured', () => {
  const both = [fileOf(4_000), fileOf(8_000, { peers: [{ near: true, holds: 'all' }] })]
  const at = (rates: Partial<KnownRates>) => planOf(both, { ...NO_RATES, ...rates }).time
  assert.deepEqual(at({ origin: 1_000, peers: 4_000 }), { known: true, ms: 4_000 })
  assert.deepEqual(at({ origin: 4_000, peers: 1_000 }), { known: true, ms: 8_000 })
  assert.deepEqual(at({ origin: 4_000, peers: 8_000, originLimit: 500 }), { known: true, ms: 8_000 })
  assert.deepEqual(at({ origin: 4_000, peers: 8_000, downLimit: 1_000 }), { known: true, ms: 12_000 })
  const unknown = at({ peers: 1_000, originLimit: 5 })
  assert.ok(!unknown.known && /the origin/.test(unknown.because), JSON.stringify(unknown))
  assert.deepEqual(planOf([fileOf(3_000, { held: 'all' })]).time, { known: true, ms: 0 })
  const peersOnly = [fileOf(8_000, { peers: [{ near: true, holds: 'all' }] })]
  assert.deepEqual(planOf(peersOnly, { ...NO_RATES, peers: 1_000 }).time, { known: true, ms: 8_000 })
})

test('what does not fit is said in bytes, and room promised to a file that arrives is not asked for twice', () => {
  const tight = { freeBytes: 2_500, limitBytes: undefined }
  const files = [fileOf(3_000), fileOf(2_000, { held: mapOf(2, [0]) })]
  assert.deepEqual(planOf(files, NO_RATES, tight).disk, { ...tight, neededBytes: 4_000, missingBytes: 1_500 })
  const arriving = [fileOf(3_000, { promised: true }), fileOf(2_000)]
  assert.equal(planOf(arriving, NO_RATES, tight).disk.missingBytes, 0)
  assert.deepEqual(planOf(files).evicted, [])
})

test('room is what the disk and the limit of the store leave, never below nothing', () => {
  const usage = { usedBytes: 600, reservedBytes: 100, limitBytes: undefined, freeBytes: 500 }
  assert.equal(roomOf(usage).freeBytes, 500)
  assert.equal(roomOf({ ...usage, limitBytes: 1_000 }).freeBytes, 300)
  assert.equal(roomOf({ ...usage, limitBytes: 10 }).freeBytes, 0)
})

test('for any holdings the sources add up to the size of what is there to have', (t) => {
  for (const seed of seeds(t, 200)) {
    const random = seededRandom(seed)
    const below = (limit: number) => Math.floor(random.next() * limit)
    const some = (count: number): ChunkMap | 'all' => {
      if (below(5) === 0) return 'all'
      return mapOf(
        count,
        Array.from({ length: count }, (_, index) => index).filter(() => below(2) === 0),
      )
    }
    const sizeBytes = below(20_000)
    const { chunkCount } = slices(sizeBytes)
    const peers: PeerHolding[] = Array.from({ length: below(4) }, () => ({
      near: below(2) === 0,
      holds: some(chunkCount),
    }))
    const { bytes } = planOf([
      fileOf(sizeBytes, { held: below(3) === 0 ? undefined : some(chunkCount), peers }),
    ])
    assert.equal(bytes.disk + bytes.near + bytes.far + bytes.origin, sizeBytes, `SEED=${seed}`)
  }
})
