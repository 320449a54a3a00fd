// Less traffic on a busy host: by how much, down to where, and back.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ForeignLoad, HIGH_LOAD, LOW_LOAD, LoadLimit } from '@shoal/agent/plan/load-limit.ts'
import { seededRandom } from '@shoal/protocol/time.ts'
import { seeds } from '../support/seed.ts'

const FLOOR = 125_000

test('a busy host takes less with each step, never below 1 Mbit/s, and is free again step by step', () => {
  const limit = new LoadLimit()
  assert.equal(limit.sample(0.5, 10e6), undefined)
  assert.equal(limit.sample(1, 10e6), 7e6)
  let last = 7e6
  for (let step = 0; step < 40; step++) {
    const rate = limit.sample(2, last) ?? assert.fail('lifted under load')
    assert.ok(rate <= last && rate >= FLOOR)
    last = rate
  }
  assert.equal(last, FLOOR)
  assert.equal(limit.sample((HIGH_LOAD + LOW_LOAD) / 2, last), FLOOR, 'between the two it is held')
  let steps = 0
  while (limit.sample(0.1, last) !== undefined) steps++
  assert.ok(steps > 10 && steps < 60, `${steps} steps back`)
})

test('where nothing flows nothing is cut', () => {
  assert.equal(new LoadLimit().sample(5, 0), undefined)
})

test('whatever the load and the traffic, a limit is at least 1 Mbit/s', (t) => {
  for (const seed of seeds(t, 50)) {
    const random = seededRandom(seed)
    const limit = new LoadLimit()
    for (let step = 0; step < 500; step++) {
      const rate = limit.sample(random.next() * 2, random.next() < 0.3 ? 0 : random.next() * 1e9)
      assert.ok(rate === undefined || (rate >= FLOOR && rate <= 2e9), `${rate} (SEED=${seed})`)
    }
  }
})

test('its own work is taken off the load average of the same minute', () => {
  const foreign = new ForeignLoad()
  assert.equal(foreign.sample(3, 2, 0, 0), undefined)
  let load: number | undefined
  for (let second = 5; second <= 300; second += 5) load = foreign.sample(3, 2, second * 1_000, second * 1_000)
  assert.ok(Math.abs((load ?? 9) - 1) < 0.01, `(3 - 1) / 2 is 1, not ${load}`)
  for (let second = 305; second <= 310; second += 5) load = foreign.sample(0.2, 2, 300_000, second * 1_000)
  assert.equal(load, 0, 'never below none')
})
