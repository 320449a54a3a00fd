// How close a pull came to its bound, and whom the rest is put down to.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type BestRates,
  CAUSES,
  type Doing,
  efficiencyOf,
  IDLE,
  ObservedRates,
  TimeAccount,
  withinLimits,
} from '@shoal/agent/plan/pull-efficiency.ts'
import { seededRandom } from '@shoal/protocol/time.ts'
import { seeds } from '../support/seed.ts'

const UNKNOWN: BestRates = { total: undefined, origin: undefined, peers: undefined }
const ORIGIN: Doing = { ...IDLE, originFlights: 2 }
const PEERS: Doing = { ...IDLE, peerFlights: 4 }

/** Steps of so many milliseconds each, in which so many bytes came. */
function accountOf(
  steps: readonly (readonly [doing: readonly Doing[] | 'asking' | 'waiting', ms: number, bytes: number])[],
): TimeAccount {
  const account = new TimeAccount(0)
  let now = 0
  let bytes = 0
  for (const [doing, ms, moved] of steps) {
    account.note(doing, bytes, now)
    now += ms
    bytes = moved
  }
  account.note('waiting', bytes, now)
  return account
}

test('a pull at the best rate this host ever had is fully efficient', () => {
  const account = accountOf([[[PEERS], 4_000, 4_000_000]])
  const result = efficiencyOf(
    account,
    { originBytes: 0, peerBytes: 4_000_000 },
    { ...UNKNOWN, total: 1_000_000 },
  )
  assert.deepEqual([result?.efficiency, result?.boundMs, result?.actualMs], [1, 4_000, 4_000])
  assert.deepEqual(Object.values(result?.lostMs ?? {}), [0, 0, 0, 0, 0])
})

test('time in which nothing was on its way is a stall, and time of a slow host is put down to peers', () => {
  const account = accountOf([
    [[PEERS], 2_000, 2_000_000],
    [[IDLE], 1_000, 0],
    [[PEERS], 4_000, 2_000_000],
  ])
  const result = efficiencyOf(
    account,
    { originBytes: 0, peerBytes: 4_000_000 },
    { ...UNKNOWN, total: 1_000_000 },
  )
  assert.deepEqual([result?.boundMs, result?.actualMs], [4_000, 7_000])
  assert.deepEqual(result?.lostMs, { origin: 0, peers: 2_000, stall: 1_000, verification: 0, disk: 0 })
})

test('asking which files there are is waiting for the origin; checking and syncing have names of their own', () => {
  const account = accountOf([
    ['asking', 500, 0],
    [[ORIGIN], 1_000, 1_000_000],
    [[{ ...IDLE, writing: 1 }], 100, 0],
    [[{ ...IDLE, verifying: true }], 200, 0],
    [[{ ...IDLE, syncing: true }], 300, 0],
  ])
  const result = efficiencyOf(
    account,
    { originBytes: 1_000_000, peerBytes: 0 },
    { ...UNKNOWN, total: 1_000_000, origin: 1_000_000 },
  )
  assert.deepEqual([result?.boundMs, result?.actualMs], [1_000, 2_100])
  assert.deepEqual(result?.lostMs, { origin: 500, peers: 0, stall: 0, verification: 200, disk: 400 })
})

test('an origin that is slower than this host bounds the pull by what it gave', () => {
  const account = accountOf([[[ORIGIN], 10_000, 1_000_000]])
  const best = { total: 10_000_000, origin: 125_000, peers: undefined }
  const result = efficiencyOf(account, { originBytes: 1_000_000, peerBytes: 0 }, best)
  assert.deepEqual([result?.boundMs, result?.efficiency], [8_000, 0.8])
  assert.equal(result?.lostMs.origin, 2_000)
})

test("pauses and waiting for a turn are nobody's loss", () => {
  const account = accountOf([
    ['waiting', 60_000, 0],
    [[PEERS], 1_000, 1_000_000],
    ['waiting', 60_000, 0],
  ])
  const result = efficiencyOf(
    account,
    { originBytes: 0, peerBytes: 1_000_000 },
    { ...UNKNOWN, total: 1_000_000 },
  )
  assert.deepEqual([result?.actualMs, result?.efficiency], [1_000, 1])
})

test('several files at once share the time by what they wait for', () => {
  const account = accountOf([
    [
      [
        { ...IDLE, originFlights: 1, peerFlights: 3 },
        { ...IDLE, verifying: true },
      ],
      800,
      0,
    ],
  ])
  assert.deepEqual(
    [account.spent('origin').ms, account.spent('peers').ms, account.spent('verification').ms],
    [200, 600, 0],
  )
})

test('nothing fetched has no efficiency, and a short pull is held against its own mean', () => {
  assert.equal(
    efficiencyOf(accountOf([['asking', 10, 0]]), { originBytes: 0, peerBytes: 0 }, UNKNOWN),
    undefined,
  )
  const short = accountOf([
    [[PEERS], 100, 100_000],
    [[{ ...IDLE, verifying: true }], 100, 0],
  ])
  const result = efficiencyOf(short, { originBytes: 0, peerBytes: 100_000 }, UNKNOWN)
  assert.deepEqual([result?.boundMs, result?.efficiency, result?.lostMs.verification], [100, 0.5, 100])
})

test('for any history the efficiency is 0 to 1 and the losses add up to what the pull took too long', (t) => {
  for (const seed of seeds(t, 300)) {
    const random = seededRandom(seed)
    const below = (limit: number) => Math.floor(random.next() * limit)
    const kinds: readonly (readonly Doing[] | 'asking' | 'waiting')[] = [
      [ORIGIN],
      [PEERS],
      [IDLE],
      [{ ...IDLE, verifying: true }],
      [{ ...IDLE, syncing: true }],
      'waiting',
      'asking',
    ]
    const steps = Array.from(
      { length: 1 + below(8) },
      () => [kinds[below(7)] ?? 'asking', below(3_000), below(1e6)] as const,
    )
    const fetched = { originBytes: below(1e6), peerBytes: below(1e6) }
    const rate = () => (below(3) === 0 ? undefined : 1 + below(1e6))
    const result = efficiencyOf(accountOf(steps), fetched, { total: rate(), origin: rate(), peers: rate() })
    if (result === undefined) continue
    assert.ok(result.efficiency >= 0 && result.efficiency <= 1, `SEED=${seed}`)
    const lost = CAUSES.reduce((sum, cause) => sum + result.lostMs[cause], 0)
    assert.ok(
      Math.abs(lost - (result.actualMs - result.boundMs)) < 1e-6 * Math.max(1, result.actualMs),
      `SEED=${seed}`,
    )
    for (const cause of CAUSES) assert.ok(result.lostMs[cause] >= 0, `SEED=${seed}`)
  }
})

test('the best rate is that of a whole second, by source, and an hour later it is forgotten', () => {
  const rates = new ObservedRates()
  assert.deepEqual(rates.best(0), UNKNOWN)
  for (let now = 0; now <= 4_000; now += 100)
    rates.note(now < 2_000 ? 'peer' : 'origin', now < 2_000 ? 20_000 : 10_000, now)
  const best = rates.best(4_000)
  assert.equal(best.total, 200_000)
  assert.equal(best.peers, 200_000)
  assert.equal(best.origin, 100_000)
  assert.equal(rates.best(4_000 + 2 * 3_600_000).total, undefined)
})

test('under a limit no more is hoped for than the limit allows, and nothing is known that was not measured', () => {
  const best = { total: 10, origin: 8, peers: 9 }
  assert.deepEqual(withinLimits(best, { down: undefined, origin: undefined }), best)
  assert.deepEqual(withinLimits(best, { down: 5, origin: 3 }), { total: 5, origin: 3, peers: 5 })
  assert.deepEqual(withinLimits(UNKNOWN, { down: 5, origin: 3 }), UNKNOWN)
})
