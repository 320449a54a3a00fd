// The simulated network: links are never overfull, every byte arrives once, shares are fair.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '@shoal/protocol/time.ts'
import { seeds } from '../support/seed.ts'
import { Network } from './network.ts'

const MEGABYTE = 1_000_000

/** Lets it run until nothing moves any more. @returns the time of the last end, in milliseconds */
function finish(network: Network, after: (now: number) => void = () => {}): number {
  let now = 0
  while (network.nextAt < Number.POSITIVE_INFINITY) {
    now = network.nextAt
    network.finishNext(now)
    after(now)
  }
  return now
}

test('two flows over one uplink get half of it each, and all of it when the other has ended', () => {
  const network = new Network()
  const up = network.addLink(MEGABYTE)
  const [one, two] = [network.addLink(MEGABYTE), network.addLink(MEGABYTE)]
  const ends: number[] = []
  let now = 0
  network.start(up, one, MEGABYTE, 0, () => ends.push(now))
  network.start(up, two, MEGABYTE / 2, 0, () => ends.push(now))
  while (network.nextAt < Number.POSITIVE_INFINITY) {
    now = network.nextAt
    network.finishNext(now)
  }
  assert.deepEqual(
    ends.map((end) => Math.round(end)),
    [1_000, 1_500],
  )
})

test('what a narrow downlink leaves of an uplink goes to the other flows', () => {
  const network = new Network()
  const up = network.addLink(MEGABYTE)
  network.start(up, network.addLink(MEGABYTE / 10), MEGABYTE, 0, () => {})
  network.start(up, network.addLink(MEGABYTE), MEGABYTE, 0, () => {})
  assert.ok(Math.abs(network.load(up) - MEGABYTE) <= 0.01 * MEGABYTE, `${network.load(up)}`)
})

test('a flow that stands still moves nothing and leaves its share to others until it goes on', () => {
  const network = new Network()
  const up = network.addLink(MEGABYTE)
  const stalled = network.start(up, network.addLink(MEGABYTE), MEGABYTE, 0, () => {})
  network.start(up, network.addLink(MEGABYTE), MEGABYTE, 0, () => {})
  network.stall(stalled, true, 0)
  assert.equal(Math.round(network.nextAt), 1_000)
  network.finishNext(network.nextAt)
  assert.equal(network.nextAt, Number.POSITIVE_INFINITY)
  assert.equal(network.movedAt(stalled, 5_000), 0)
  network.stall(stalled, false, 5_000)
  assert.equal(Math.round(network.nextAt), 6_000)
})

test('a flow that is broken off says what had not moved, and that was not counted as moved', () => {
  const network = new Network()
  const id = network.start(network.addLink(MEGABYTE), network.addLink(MEGABYTE), MEGABYTE, 0, () => {})
  assert.equal(Math.round(network.stop(id, 250)), 750_000)
  assert.equal(Math.round(network.bytesMoved), 250_000)
})

test('no link carries more than 3 % over its rate and no byte is lost, with flows coming and going by chance', (t) => {
  for (const seed of seeds(t, 20)) {
    const random = seededRandom(seed)
    const network = new Network()
    const rates = Array.from({ length: 20 }, () => MEGABYTE * (0.2 + random.next()))
    const links = rates.map((rate) => network.addLink(rate))
    const pick = (from: number) => links[from + Math.floor(random.next() * 10)] ?? 0
    const carried = links.map(() => 0)
    let expected = 0
    let left = 400
    const begin = (now: number) => {
      left--
      // The first ten are uplinks, the others downlinks.
      const [from, to] = [pick(0), pick(10)]
      const bytes = Math.ceil(MEGABYTE * random.next())
      expected += bytes
      network.start(from, to, bytes, now, () => {
        for (const link of [from, to]) carried[link] = (carried[link] ?? 0) + bytes
      })
    }
    for (let count = 0; count < 60; count++) begin(0)
    const endedAt = finish(network, (now) => {
      if (left > 0) begin(now)
      for (const link of links) {
        const rate = rates[link] ?? 0
        assert.ok(
          network.load(link) <= 1.03 * rate,
          `seed ${seed}: link ${link} carries ${network.load(link)} of ${rate}`,
        )
      }
    })
    assert.ok(Math.abs(network.bytesMoved - expected) <= 1e-6 * expected + 400)
    for (const link of links)
      assert.ok((carried[link] ?? 0) <= 1.03 * (((rates[link] ?? 0) * endedAt) / 1_000))
  }
})
