// Bandwidth limits at run time: what is refused, who waits for whom, what a change does to those that move bytes.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BandwidthLimits } from '@shoal/agent/limits.ts'
import {
  bothPaces,
  LEAST_BYTES_PER_SECOND,
  type LimitValues,
  NO_LIMITS,
  type Pace,
} from '@shoal/agent/limits-port.ts'
import { newIdentity } from '@shoal/agent/net/identity.ts'
import { virtualClock } from '../support/virtual-clock.ts'

const NONE = NO_LIMITS
const RATE = 2_000_000
const never = new AbortController().signal

function limitsOf(values: Partial<LimitValues> = {}) {
  const clock = virtualClock()
  const limits = new BandwidthLimits({ ...NONE, ...values }, clock)
  const moved = (pace: Pace) => {
    const count = { bytes: 0, stop: false }
    const run = async () => {
      while (!count.stop) {
        const bytes = Math.min(64 * 1024, pace.pieceBytes)
        count.bytes += bytes
        await (pace.pass(bytes, never) ?? new Promise<void>((resolve) => clock.after(1, resolve)))
      }
    }
    return { count, ended: run() }
  }
  return { clock, limits, moved }
}

test('each kind of traffic keeps to its limit, and the origin to that of all downloads as well', async () => {
  const { clock, limits, moved } = limitsOf({ up: RATE, down: RATE, origin: RATE / 4 })
  const flows = [limits.uploads(newIdentity().peer), limits.fromOrigin, limits.downloads].map(moved)
  await clock.advance(4_000)
  const [up = 0, origin = 0, peers = 0] = flows.map(({ count }) => count.bytes / 4)
  assert.ok(Math.abs(up - RATE) < 0.05 * RATE, `${up} up`)
  assert.ok(origin <= 1.05 * (RATE / 4) && origin > RATE / 8, `${origin} from the origin`)
  assert.ok(Math.abs(origin + peers - RATE) < 0.05 * RATE, `${origin + peers} down`)
  for (const { count } of flows) count.stop = true
  await clock.advance(1_000)
  await Promise.all(flows.map(({ ended }) => ended))
  assert.equal(clock.pending, 0)
})

test('a peer keeps to its own limit however much the host may give, and other peers have theirs', async () => {
  const { clock, limits, moved } = limitsOf({ up: RATE, upPerPeer: RATE / 8 })
  const [one, two] = [moved(limits.uploads(newIdentity().peer)), moved(limits.uploads(newIdentity().peer))]
  await clock.advance(4_000)
  for (const flow of [one, two]) {
    assert.ok(Math.abs(flow.count.bytes / 4 - RATE / 8) < 0.1 * (RATE / 8), `${flow.count.bytes / 4}`)
    flow.count.stop = true
  }
  await clock.advance(1_000)
})

test('a change holds at once for whoever moves bytes, and what is not named stays', async () => {
  const { clock, limits, moved } = limitsOf({ down: RATE, up: RATE })
  const flow = moved(limits.downloads)
  await clock.advance(2_000)
  assert.deepEqual(limits.change({ down: RATE * 4 }), { ...NONE, down: RATE * 4, up: RATE })
  const before = flow.count.bytes
  await clock.advance(2_000)
  const measured = (flow.count.bytes - before) / 2
  assert.ok(Math.abs(measured - RATE * 4) < 0.1 * RATE * 4, `${measured}`)
  assert.deepEqual(limits.change({ down: undefined }), { ...NONE, up: RATE })
  assert.equal(limits.downloads.pass(1e9, never), undefined)
  flow.count.stop = true
  await clock.advance(1_000)
})

test('each download keeps to the limit of one download beside that of all, and a change holds for those that run', async () => {
  const { clock, limits, moved } = limitsOf({ perDownload: RATE / 4, down: RATE })
  const one = bothPaces(limits.downloads, limits.download())
  const other = bothPaces(limits.fromOrigin, limits.download())
  assert.ok(one !== undefined && other !== undefined)
  const flows = [moved(one), moved(other)]
  await clock.advance(4_000)
  for (const { count } of flows)
    assert.ok(Math.abs(count.bytes / 4 - RATE / 4) < 0.1 * (RATE / 4), `${count.bytes / 4}`)
  limits.change({ perDownload: undefined })
  const before = flows.map(({ count }) => count.bytes)
  await clock.advance(4_000)
  const sum = flows.reduce((total, { count }, at) => total + (count.bytes - (before[at] ?? 0)) / 4, 0)
  assert.ok(Math.abs(sum - RATE) < 0.05 * RATE, `${sum} of all`)
  for (const { count } of flows) count.stop = true
  await clock.advance(1_000)
  await Promise.all(flows.map(({ ended }) => ended))
})

test('whoever waits stops waiting when its signal fires', async () => {
  const { clock, limits } = limitsOf({ down: RATE })
  const abort = new AbortController()
  const waits = limits.downloads.pass(RATE, abort.signal)
  assert.ok(waits !== undefined)
  const ended = assert.rejects(waits, { code: 'aborted' })
  abort.abort()
  await ended
  assert.equal(clock.pending, 0)
})

test('0 up means that peers get nothing; other limits below 1 Mbit/s are refused, all at once, and nothing changes', () => {
  const { limits } = limitsOf({ up: RATE })
  assert.equal(limits.givesToPeers, true)
  assert.throws(
    () => limits.change({ up: 5, down: 0, origin: Number.NaN, upPerPeer: 1e15 }),
    (error: Error) =>
      ['up', 'down', 'origin', 'upPerPeer'].every((key) => error.message.includes(`${key}: `)),
  )
  assert.deepEqual(limits.values(), { ...NONE, up: RATE })
  limits.change({ up: 0 })
  assert.equal(limits.givesToPeers, false)
  limits.change({ up: LEAST_BYTES_PER_SECOND })
  assert.equal(limits.givesToPeers, true)
})
