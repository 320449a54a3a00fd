// Bandwidth limits as arithmetic: the mean holds whatever the pieces, bursts are small, rates change at run time.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TokenBucket } from '@shoal/agent/plan/token-bucket.ts'
import { seededRandom } from '@shoal/protocol/time.ts'
import { seeds } from '../support/seed.ts'

const RATE = 2_000_000

/** Moves random pieces one after the other, waiting as told. @returns bytes moved in `ms` */
function movedIn(bucket: TokenBucket, fromMs: number, ms: number, pieceBytes: () => number): number {
  let now = fromMs
  let moved = 0
  while (now < fromMs + ms) {
    const bytes = pieceBytes()
    now += bucket.take(bytes, now)
    if (now <= fromMs + ms) moved += bytes
  }
  return moved
}

test('whatever the sizes of the pieces, the mean over 3 s is the rate within 5 %', (t) => {
  for (const seed of seeds(t, 20)) {
    const random = seededRandom(seed)
    const largest = 1 + Math.floor(random.next() * 100_000)
    const pieceBytes = () => 1_000 + Math.floor(random.next() * largest)
    const moved = movedIn(new TokenBucket(RATE, 0), 0, 3_000, pieceBytes)
    assert.ok(Math.abs(moved / 3 - RATE) < 0.05 * RATE, `${moved / 3} bytes a second (SEED=${seed})`)
  }
  assert.ok(movedIn(new TokenBucket(100, 0), 0, 3_000, () => 1) <= 310)
})

test('a pause earns a burst of 100 ms and not more, however long it was', () => {
  const bucket = new TokenBucket(RATE, 0)
  assert.equal(bucket.take(200_000, 3_600_000), 0)
  assert.equal(bucket.take(2_000, 3_600_000), 1)
})

test('several that take at once wait one behind the other', () => {
  const bucket = new TokenBucket(RATE, 0)
  bucket.take(200_000, 0)
  assert.deepEqual(
    [1, 2, 3].map(() => bucket.take(20_000, 0)),
    [10, 20, 30],
  )
})

test('without a rate nobody waits, and a rate set later holds from then on', () => {
  const bucket = new TokenBucket(undefined, 0)
  assert.equal(bucket.take(1e12, 1), 0)
  bucket.setRate(RATE, 1_000)
  const moved = movedIn(bucket, 1_000, 10_000, () => 10_000)
  assert.ok(Math.abs(moved / 10 - RATE) < 0.02 * RATE, `${moved / 10}`)
  bucket.setRate(RATE / 2, 11_000)
  const half = movedIn(bucket, 11_000, 10_000, () => 10_000)
  assert.ok(Math.abs(half / 10 - RATE / 2) < 0.02 * RATE, `${half / 10}`)
  bucket.setRate(undefined, 21_000)
  assert.equal(bucket.take(1e12, 21_000), 0)
})

test('a debt is paid off at a higher rate sooner and at a lower one no later, and a clock that stands still or goes back gives nothing', () => {
  const bucket = new TokenBucket(RATE, 0)
  assert.equal(bucket.take(200_000 + RATE, 0), 1_000)
  bucket.setRate(2 * RATE, 0)
  assert.equal(bucket.take(0, 0), 500)
  assert.equal(bucket.take(0, -5_000), 500)
  bucket.setRate(RATE / 1_000, 0)
  assert.equal(bucket.take(0, 0), 500)
})

test('a piece takes about 20 ms at the rate, within bounds', () => {
  assert.equal(new TokenBucket(RATE, 0).pieceBytes, 40_000)
  assert.equal(new TokenBucket(1_000, 0).pieceBytes, 4_096)
  assert.ok(new TokenBucket(undefined, 0).pieceBytes >= 4 * 1024 * 1024)
})

test('a rate of 0 or below is a programming error', () => {
  for (const rate of [0, -1, Number.NaN, Number.POSITIVE_INFINITY])
    assert.throws(() => new TokenBucket(rate, 0), /not a rate/)
})
