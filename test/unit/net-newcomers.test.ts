// Waiting for hosts that connected a moment ago: no longer than it takes, and never for long.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Line } from '@shoal/agent/net/line.ts'
import { NEWCOMER_MS, Newcomers } from '@shoal/agent/net/newcomers.ts'
import { virtualClock } from '../support/virtual-clock.ts'

/** Runs `wait` and tells after how much virtual time it resolved. */
async function waited(
  newcomers: Newcomers,
  isReady: (peer: string) => boolean,
  clock = virtualClock(),
): Promise<number> {
  const start = clock.now()
  let took = -1
  void newcomers.wait(isReady).then(() => {
    took = clock.now() - start
  })
  await clock.advance(10_000)
  return took
}

test('without newcomers nobody waits', async () => {
  const clock = virtualClock()
  assert.equal(await waited(new Newcomers(clock), () => false, clock), 0)
})

test('a newcomer is waited for until it is ready, leaves, or is new no more', async () => {
  for (const [id, change, expected] of [
    ['ready', 300, 300],
    ['left', 300, 300],
    ['never', 0, NEWCOMER_MS],
  ] as const) {
    const clock = virtualClock()
    const newcomers = new Newcomers(clock)
    newcomers.arrived('a')
    let ready = false
    if (id === 'ready') clock.after(change, () => (ready = true))
    if (id === 'left') clock.after(change, () => newcomers.left('a'))
    const took = await waited(newcomers, () => ready, clock)
    assert.ok(took >= expected && took <= expected + 20, `${id}: ${took}`)
    assert.equal(await waited(newcomers, () => false, clock), 0, `${id}: and only once`)
    assert.equal(clock.pending, 0)
  }
})

test('hosts that keep coming do not keep anybody waiting for more than the limit', async () => {
  const clock = virtualClock()
  const newcomers = new Newcomers(clock)
  const come = (left: number) => {
    newcomers.arrived(`peer ${left}`)
    if (left > 0) clock.after(100, () => come(left - 1))
  }
  come(50)
  assert.equal(await waited(newcomers, () => false, clock), NEWCOMER_MS)
})

test('a line lets in so many at once, the others in the order they came, and refuses more than its limit', async () => {
  const never = new AbortController().signal
  const line = new Line(2, 3)
  const order: string[] = []
  const enter = (name: string, signal = never) => line.enter(signal).then(() => order.push(name))
  const stop = new AbortController()
  await Promise.all([enter('a'), enter('b')])
  const waiting = [enter('c'), enter('d', stop.signal), enter('e')]
  await assert.rejects(enter('f'), { code: 'peer-busy' })
  stop.abort()
  await assert.rejects(waiting[1] ?? Promise.resolve(), { code: 'aborted' })
  assert.deepEqual(order, ['a', 'b'])
  line.leave()
  await waiting[0]
  line.leave()
  await waiting[2]
  assert.deepEqual(order, ['a', 'b', 'c', 'e'])
  assert.equal(line.empty, false)
  line.leave()
  line.leave()
  assert.equal(line.empty, true)
  await assert.rejects(enter('g', AbortSignal.abort()), { code: 'aborted' })
  assert.equal(line.empty, true)
})
