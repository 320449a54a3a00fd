// The clock that unit tests trust must itself be right.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { deadline, sleep } from '@shoal/protocol/time.ts'
import { virtualClock } from '../support/virtual-clock.ts'

test('timers run in order of time, those of one moment in the order they were set', async () => {
  const clock = virtualClock()
  const ran: string[] = []
  clock.after(20, () => ran.push(`c at ${clock.now()}`))
  clock.after(10, () => ran.push(`a at ${clock.now()}`))
  clock.after(10, () => ran.push(`b at ${clock.now()}`))
  clock.after(31, () => ran.push('too late'))
  await clock.advance(30)
  assert.deepEqual(ran, ['a at 10', 'b at 10', 'c at 20'])
  assert.equal(clock.now(), 30)
  assert.equal(clock.pending, 1)
})

test('a timer set by another timer runs within the same advance, at its own moment', async () => {
  const clock = virtualClock(100)
  const ran: number[] = []
  clock.after(5, () => clock.after(5, () => ran.push(clock.now())))
  await clock.advance(10)
  assert.deepEqual(ran, [110])
})

test('code that sleeps in a loop goes around as often as in real time', async () => {
  const clock = virtualClock()
  let rounds = 0
  const stop = new AbortController()
  const loop = (async () => {
    while (!stop.signal.aborted) {
      await sleep(clock, 10, stop.signal)
      rounds++
    }
  })()
  await clock.advance(100)
  assert.equal(rounds, 10)
  stop.abort()
  await assert.rejects(loop, { code: 'aborted' })
  assert.equal(clock.pending, 0)
})

test('a cancelled timer does not run and is not pending', async () => {
  const clock = virtualClock()
  let ran = false
  clock.after(1, () => {
    ran = true
  })()
  await clock.advance(10)
  assert.equal(ran, false)
  assert.equal(clock.pending, 0)
})

test('setting the wall clock moves neither timers nor now', async () => {
  const clock = virtualClock(0, 1_000)
  const slow = new ShoalError('peer-timeout', 'too slow')
  using limit = deadline(clock, 100, () => slow)
  clock.setWallTime(999_999_999)
  await clock.advance(99)
  assert.equal(limit.signal.aborted, false)
  assert.equal(clock.wallTime(), 999_999_999 + 99)
  await clock.advance(1)
  assert.equal(limit.signal.reason, slow)
})
