// The simulation's clock and its timers: order of time, and order of setting among events of one moment.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '@shoal/protocol/time.ts'
import { EventQueue } from './events.ts'
import { Timers } from './timers.ts'

test('events run in order of time, and those of one moment in the order they were set', () => {
  const events = new EventQueue()
  const random = seededRandom(7)
  const ran: { readonly at: number; readonly order: number }[] = []
  for (let order = 0; order < 500; order++) {
    const at = Math.floor(random.next() * 20)
    events.at(at, () => ran.push({ at, order }))
  }
  while (events.nextAt < Number.POSITIVE_INFINITY) events.runNext()
  assert.deepEqual(
    ran,
    ran.toSorted((a, b) => a.at - b.at || a.order - b.order),
  )
  assert.equal(ran.length, 500)
})

test('an event set for the past runs now, and time never goes back', () => {
  const events = new EventQueue()
  events.advanceTo(100)
  let ranAt = 0
  events.at(5, () => {
    ranAt = events.now
  })
  events.runNext()
  assert.equal(ranAt, 100)
})

test('timers that are set, changed and cleared by chance always name the earliest', () => {
  const timers = new Timers()
  const times = new Map<number, number>()
  const random = seededRandom(11)
  for (let step = 0; step < 5_000; step++) {
    const id = Math.floor(random.next() * 50)
    if (random.next() < 0.3) {
      timers.clear(id)
      times.delete(id)
    } else {
      const at = random.next()
      timers.set(id, at)
      times.set(id, at)
    }
    assert.equal(timers.nextAt, Math.min(Number.POSITIVE_INFINITY, ...times.values()))
    if (times.size > 0) assert.equal(times.get(timers.nextId), timers.nextAt)
  }
})
