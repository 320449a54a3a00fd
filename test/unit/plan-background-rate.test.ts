// Background mode as arithmetic, on a made-up link: who fills it is given way to, and what nobody wants is taken.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BACKGROUND_FLOOR, BackgroundRate, BaseDelay } from '@shoal/agent/plan/background-rate.ts'
import { seededRandom } from '@shoal/protocol/time.ts'
import { seeds } from '../support/seed.ts'

const STEP_MS = 150
const LINK = 12_500_000
const BASE_MS = 20
const QUEUE_MS = 50

/** A link that queues what is too much. A foreground takes all it can get, but never more than the background leaves by its own rate. */
class Link {
  readonly rate = new BackgroundRate(0)
  readonly base = new BaseDelay()
  now = 0
  queueMs = 0
  taken = 0
  foreground = 0

  readonly jitterMs: () => number

  constructor(jitterMs: () => number) {
    this.jitterMs = jitterMs
  }

  run(ms: number, others: boolean): void {
    this.taken = 0
    this.foreground = 0
    for (let passed = 0; passed < ms; passed += STEP_MS) {
      this.now += STEP_MS
      const wanted = this.rate.bytesPerSecond
      // Two that both want all of it share it; TCP keeps the queue more than half full.
      const ours = Math.min(wanted, others ? LINK / 2 : LINK)
      if (others) this.queueMs = QUEUE_MS * (0.6 + 0.4 * Math.abs(Math.sin(this.now / 700)))
      else this.queueMs = Math.min(QUEUE_MS, Math.max(0, this.queueMs + ((wanted - LINK) / LINK) * STEP_MS))
      this.taken += (ours * STEP_MS) / 1_000
      this.foreground += others ? ((LINK - ours) * STEP_MS) / 1_000 : 0
      const queueMs = this.base.sample(BASE_MS + this.queueMs + this.jitterMs(), this.now)
      const rate = this.rate.sample(queueMs, ours, this.now)
      assert.ok(rate >= BACKGROUND_FLOOR && Number.isFinite(rate), `${rate}`)
    }
  }
}

test('alone it takes at least 70 % of the link, beside another it leaves it 90 % of what that would have, and comes back', (t) => {
  for (const seed of seeds(t, 20)) {
    const random = seededRandom(seed)
    const link = new Link(() => random.next() * 1.2)
    link.run(8_000, false)
    link.run(20_000, false)
    assert.ok(link.taken >= 0.7 * LINK * 20, `${link.taken / 20 / LINK} of the link alone (SEED=${seed})`)
    link.run(12_000, true)
    assert.ok(link.foreground >= 0.9 * LINK * 12, `${link.foreground / 12 / LINK} left (SEED=${seed})`)
    link.run(8_000, false)
    link.run(10_000, false)
    assert.ok(link.taken >= 0.7 * LINK * 10, `${link.taken / 10 / LINK} after it (SEED=${seed})`)
  }
})

test('within 3 s of another flow the rate is at its floor, and stays there for as long as that flow lasts', () => {
  const link = new Link(() => 0)
  link.run(10_000, false)
  link.run(3_000, true)
  assert.ok(link.rate.bytesPerSecond <= 2 * BACKGROUND_FLOOR, `${link.rate.bytesPerSecond}`)
  for (let minutes = 0; minutes < 20; minutes++) link.run(60_000, true)
  assert.equal(link.rate.bytesPerSecond, BACKGROUND_FLOOR)
})

test('whatever is measured, the rate keeps its bounds, and without a queue it is never cut', (t) => {
  for (const seed of seeds(t, 50)) {
    const random = seededRandom(seed)
    const rate = new BackgroundRate(0)
    let now = 0
    for (let step = 0; step < 2_000; step++) {
      now += Math.floor(random.next() * 3_000)
      const before = rate.bytesPerSecond
      const queueMs = random.next() < 0.1 ? Number.POSITIVE_INFINITY : random.next() * 8
      const after = rate.sample(queueMs, random.next() < 0.2 ? 0 : random.next() * 1e9, now)
      assert.ok(after >= BACKGROUND_FLOOR && after <= 1e12, `${after} (SEED=${seed})`)
      if (queueMs <= 3) assert.ok(after >= before, `cut without a queue (SEED=${seed})`)
      else assert.ok(after <= before, `more in spite of a queue (SEED=${seed})`)
    }
  }
})

test('one burst of its own costs nothing: a queue that is gone with the next probes is none', () => {
  const rate = new BackgroundRate(0)
  const base = new BaseDelay()
  let before = 0
  for (let step = 0; step < 100; step++) {
    const delayMs = step % 4 === 3 ? 60 : 10
    const after = rate.sample(base.sample(delayMs, step * STEP_MS), 5e6, step * STEP_MS)
    assert.ok(after >= before)
    before = after
  }
})

test('a source that is slow by itself does not make the rate grow without end', () => {
  const rate = new BackgroundRate(0)
  for (let step = 0; step < 1_000; step++) rate.sample(0, 2e6, step * STEP_MS)
  assert.ok(rate.bytesPerSecond <= 3.1e6, `${rate.bytesPerSecond}`)
})

test('the shortest time of the last minutes is the base, a queue that stands for half an hour becomes the way', () => {
  const base = new BaseDelay()
  let now = 0
  const at = (delayMs: number, ms: number) => {
    let queueMs = 0
    for (let passed = 0; passed < ms; passed += 1_000) {
      now += 1_000
      queueMs = base.sample(delayMs, now)
    }
    return queueMs
  }
  assert.equal(at(20, 60_000), 0)
  assert.equal(at(50, 15 * 60_000), 30, 'still known')
  assert.equal(at(20, 5_000), 0)
  assert.equal(at(50, 60 * 60_000), 0, 'the way is longer now')
})
