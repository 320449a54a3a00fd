// Waiting and deadlines by a clock that stands still, and chance that repeats itself.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hasCode, ShoalError } from '@shoal/protocol/errors.ts'
import {
  abortError,
  deadline,
  seededRandom,
  sleep,
  systemClock,
  systemRandom,
  throwIfAborted,
} from '@shoal/protocol/time.ts'
import { virtualClock } from '../support/virtual-clock.ts'

const tooLate = () => new ShoalError('peer-timeout', 'too late')

test('a sleep ends at its time and not before', async () => {
  const clock = virtualClock()
  let over = false
  const sleeping = sleep(clock, 100).then(() => {
    over = true
  })
  await clock.advance(99)
  assert.equal(over, false)
  await clock.advance(1)
  await sleeping
  assert.equal(clock.pending, 0)
})

test('a sleep ends at once when its signal fires, and leaves no timer behind', async () => {
  const clock = virtualClock()
  const controller = new AbortController()
  const sleeping = sleep(clock, 100, controller.signal)
  const reason = new ShoalError('not-running', 'stopping')
  controller.abort(reason)
  await assert.rejects(sleeping, (error) => error === reason)
  assert.equal(clock.pending, 0)
  await assert.rejects(sleep(clock, 100, controller.signal), (error) => error === reason)
})

test('a sleep that is over leaves nothing on its signal', async () => {
  const clock = virtualClock()
  const { signal } = new AbortController()
  let listeners = 0
  const counted = new Proxy(signal, {
    get(target, key) {
      if (key === 'addEventListener') return () => listeners++
      if (key === 'removeEventListener') return () => listeners--
      return Reflect.get(target, key, target)
    },
  })
  const sleeping = sleep(clock, 5, counted)
  assert.equal(listeners, 1)
  await clock.advance(5)
  await sleeping
  assert.equal(listeners, 0)
})

test('a deadline fires with its own error, at its time, once', async () => {
  const clock = virtualClock()
  using limit = deadline(clock, 50, tooLate)
  await clock.advance(49)
  assert.equal(limit.signal.aborted, false)
  await clock.advance(1)
  assert.ok(hasCode(limit.signal.reason, 'peer-timeout'))
})

test('a deadline that is extended counts from then on', async () => {
  const clock = virtualClock()
  using limit = deadline(clock, 50, tooLate)
  for (let at = 0; at < 5; at++) {
    await clock.advance(40)
    limit.extend()
  }
  assert.equal(limit.signal.aborted, false)
  assert.equal(clock.pending, 1)
  await clock.advance(50)
  assert.equal(limit.signal.aborted, true)
  limit.extend()
  assert.equal(clock.pending, 0)
})

test('a deadline that is disposed of never fires, also when somebody extends it afterwards', async () => {
  const clock = virtualClock()
  const limit = deadline(clock, 50, tooLate)
  limit[Symbol.dispose]()
  limit.extend()
  assert.equal(clock.pending, 0)
  await clock.advance(100)
  assert.equal(limit.signal.aborted, false)
})

test('a deadline fires with its parent and with the parent’s reason', async () => {
  const clock = virtualClock()
  const parent = new AbortController()
  using limit = deadline(clock, 50, tooLate, parent.signal)
  const reason = new ShoalError('not-running', 'stopping')
  parent.abort(reason)
  assert.equal(limit.signal.reason, reason)
  assert.equal(clock.pending, 0)
  using late = deadline(clock, 50, tooLate, parent.signal)
  assert.equal(late.signal.reason, reason)
  assert.equal(clock.pending, 0)
})

test('an abort without a reason of ours becomes one, with what was given as its cause', () => {
  const controller = new AbortController()
  controller.abort(new Error('user went away'))
  const error = abortError(controller.signal)
  assert.equal(error.code, 'aborted')
  assert.equal((error.cause as Error).message, 'user went away')
  assert.throws(() => throwIfAborted(controller.signal), { code: 'aborted' })
  throwIfAborted(undefined)
  throwIfAborted(new AbortController().signal)
})

test('the same seed gives the same numbers, spread evenly from 0 to below 1', () => {
  const numbers = (seed: number) => {
    const random = seededRandom(seed)
    return Array.from({ length: 10_000 }, () => random.next())
  }
  const first = numbers(1)
  assert.deepEqual(numbers(1), first)
  assert.notDeepEqual(numbers(2).slice(0, 3), first.slice(0, 3))
  assert.ok(first.every((number) => number >= 0 && number < 1))
  for (let tenth = 0; tenth < 10; tenth++) {
    const share = first.filter((number) => Math.floor(number * 10) === tenth).length
    assert.ok(share > 850 && share < 1_150, `${share} numbers in tenth ${tenth}`)
  }
})

test('the real clock runs forward and its timers can be taken back', async () => {
  const from = systemClock.now()
  let ran = false
  const cancel = systemClock.after(1, () => {
    ran = true
  })
  cancel()
  await sleep(systemClock, 5)
  assert.ok(systemClock.now() >= from)
  assert.equal(ran, false)
  assert.ok(Math.abs(systemClock.wallTime() - Date.now()) < 1_000)
  const chance = systemRandom.next()
  assert.ok(chance >= 0 && chance < 1)
})
