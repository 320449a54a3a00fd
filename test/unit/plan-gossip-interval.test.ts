// How often hosts gossip: within the budget of each, never too often, never so seldom that nobody is heard of any more.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  gossipIntervalMs,
  HEALTH_BYTES_PER_SECOND,
  HEALTH_COST_BYTES,
  jittered,
  LONGEST_INTERVAL_MS,
  lifetimeMs,
  SHORTEST_INTERVAL_MS,
} from '@shoal/agent/plan/gossip-interval.ts'
import { GOSSIP_MAX_LIFETIME_MS } from '@shoal/protocol/messages.ts'
import fc from 'fast-check'

test('a thousand hosts tell within the budget of each, a handful every ten seconds', () => {
  assert.equal(gossipIntervalMs(5), SHORTEST_INTERVAL_MS)
  const intervalMs = gossipIntervalMs(1_000)
  assert.ok(intervalMs < LONGEST_INTERVAL_MS)
  assert.ok((1_000 * HEALTH_COST_BYTES * 1_000) / intervalMs <= HEALTH_BYTES_PER_SECOND)
})

test('the budget is kept up to the longest interval, and more hosts never tell more often', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 5_000 }),
      fc.integer({ min: 1, max: 20_000 }),
      fc.integer({ min: 100, max: 100_000 }),
      (hosts, costBytes, bytesPerSecond) => {
        const intervalMs = gossipIntervalMs(hosts, costBytes, bytesPerSecond)
        assert.ok(intervalMs >= SHORTEST_INTERVAL_MS && intervalMs <= LONGEST_INTERVAL_MS)
        assert.ok(gossipIntervalMs(hosts + 1, costBytes, bytesPerSecond) >= intervalMs)
        if (intervalMs === LONGEST_INTERVAL_MS) return
        assert.ok((hosts * costBytes * 1_000) / intervalMs <= bytesPerSecond * 1.000_001)
      },
    ),
  )
})

test('whatever the luck, a pause is a fifth longer or shorter at most, and two pauses fit in the lifetime of a message', () => {
  fc.assert(
    fc.property(
      fc.double({ min: SHORTEST_INTERVAL_MS, max: LONGEST_INTERVAL_MS, noNaN: true }),
      fc.double({ min: 0, max: 0.999_999, noNaN: true }),
      (intervalMs, luck) => {
        const pauseMs = jittered(intervalMs, luck)
        assert.ok(pauseMs >= intervalMs * 0.799 && pauseMs <= intervalMs * 1.2)
        assert.ok(lifetimeMs(intervalMs) >= 2 * pauseMs)
        assert.ok(lifetimeMs(intervalMs) <= GOSSIP_MAX_LIFETIME_MS)
      },
    ),
  )
})
