// When a request to an origin may leave, how pauses grow, and when a transfer is too slow to keep.
import assert from 'node:assert/strict'
import test, { describe } from 'node:test'
import type { OriginBucket } from '@shoal/agent/plan/origin-buckets.ts'
import { OriginPace, retryDelayMs } from '@shoal/agent/plan/origin-pace.ts'
import { RateFloor } from '@shoal/agent/plan/rate-floor.ts'
import { LONGEST_BLOCK_MS } from '@shoal/agent/plan/told-limits.ts'
import fc from 'fast-check'

const ok = { status: 200, retryAfterMs: undefined, rateLimits: [] }
const limited = (retryAfterMs?: number) => ({ status: 429, retryAfterMs, rateLimits: [] })

describe('the pace', () => {
  test('nothing waits while nothing was refused', () => {
    const pace = new OriginPace()
    pace.answered('api', ok, 0, 0.5)
    for (const bucket of ['api', 'resolvers', 'content'] as const) assert.equal(pace.delay(bucket, 0), 0)
  })

  test('a 429 of one bucket holds back everything asked of the Hub, but not its storage hosts', () => {
    const pace = new OriginPace()
    pace.answered('resolvers', limited(10_000), 0, 0)
    assert.equal(pace.delay('api', 0), 10_000)
    assert.equal(pace.delay('resolvers', 4_000), 6_000)
    assert.equal(pace.delay('content', 0), 0)
    assert.equal(pace.delay('api', 10_000), 0)
  })

  test('a 429 of a storage host leaves the Hub alone', () => {
    const pace = new OriginPace()
    pace.answered('content', limited(3_000), 0, 0)
    assert.equal(pace.delay('content', 0), 3_000)
    assert.equal(pace.delay('api', 0), 0)
  })

  test('refusals without Retry-After double the wait, an answer in between starts again', () => {
    const pace = new OriginPace()
    const waits: number[] = []
    for (let now = 0, count = 0; count < 4; count++) {
      pace.answered('api', limited(), now, 0)
      waits.push(pace.delay('api', now))
      now += pace.delay('api', now)
    }
    assert.deepEqual(waits, [1_000, 2_000, 4_000, 8_000])
    pace.answered('api', ok, 100_000, 0)
    pace.answered('api', limited(), 100_000, 0)
    assert.equal(pace.delay('api', 100_000), 1_000)
  })

  test('a 503 with Retry-After is obeyed, one without is not a rate limit', () => {
    const pace = new OriginPace()
    pace.answered('api', { ...ok, status: 503 }, 0, 0)
    assert.equal(pace.delay('api', 0), 0)
    pace.answered('api', { ...ok, status: 503, retryAfterMs: 2_000 }, 0, 0)
    assert.equal(pace.delay('api', 0), 2_000)
  })

  test('an empty bucket told on a good answer is waited for, and a second more', () => {
    const pace = new OriginPace()
    pace.answered(
      'api',
      { ...ok, rateLimits: [{ bucket: 'resolvers', remaining: 0, resetSeconds: 9 }] },
      0,
      0,
    )
    assert.equal(pace.delay('resolvers', 0), 10_000)
    assert.equal(pace.delay('api', 0), 0)
  })

  test('the last requests of a bucket are spread over the time until it is full again', () => {
    const pace = new OriginPace()
    pace.answered('api', { ...ok, rateLimits: [{ bucket: 'api', remaining: 9, resetSeconds: 50 }] }, 0, 0)
    const gap = pace.delay('api', 0)
    assert.equal(gap, 5_000)
    pace.take('api', gap)
    assert.equal(pace.delay('api', gap), 5_000)
    pace.answered('api', { ...ok, rateLimits: [{ bucket: 'api', remaining: 900, resetSeconds: 50 }] }, gap, 0)
    assert.equal(pace.delay('api', gap), 0)
  })

  test('nobody ever waits longer than a window of the Hub is, whatever the answers were', () => {
    const bucket = fc.constantFrom<OriginBucket>('api', 'resolvers', 'content')
    const answer = fc.record({
      bucket,
      status: fc.constantFrom(200, 206, 302, 404, 429, 500, 503),
      retryAfterMs: fc.option(fc.integer({ min: 0, max: 60_000 }), { nil: undefined }),
      rateLimits: fc.array(
        fc.record({
          bucket: fc.constantFrom('api', 'resolvers', 'pages', 'x'),
          remaining: fc.nat(3000),
          resetSeconds: fc.nat(1e9),
        }),
        { maxLength: 3 },
      ),
      chance: fc.double({ min: 0, max: 0.999, noNaN: true }),
      later: fc.nat(100_000),
    })
    fc.assert(
      fc.property(fc.array(answer, { maxLength: 30 }), bucket, (answers, asked) => {
        const pace = new OriginPace()
        let now = 0
        for (const one of answers) {
          now += one.later
          pace.answered(one.bucket, one, now, one.chance)
          const wait = pace.delay(asked, now)
          assert.ok(wait >= 0 && wait <= LONGEST_BLOCK_MS + 1, `${wait} ms`)
          if (wait === 0) pace.take(asked, now)
        }
      }),
    )
  })
})

test('pauses between tries grow by the factor up to the limit, from half to whole of it', () => {
  const backoff = { firstMs: 100, factor: 3, maxMs: 1_000 }
  assert.deepEqual(
    [1, 2, 3, 4].map((attempt) => retryDelayMs(attempt, backoff, 1)),
    [100, 300, 900, 1_000],
  )
  assert.deepEqual(
    [1, 2, 3, 4].map((attempt) => retryDelayMs(attempt, backoff, 0)),
    [50, 150, 450, 500],
  )
  assert.equal(retryDelayMs(2_000, backoff, 1), 1_000)
})

describe('the rate floor', () => {
  test('a window below the floor fails, one above it passes, and an unfinished one is not judged', () => {
    const floor = new RateFloor(() => 1_000, 0, 10_000)
    assert.equal(floor.moved(1, 9_999), true)
    assert.equal(floor.moved(1, 10_000), false)
    assert.equal(floor.moved(10_000, 20_000), true)
    assert.equal(floor.moved(0, 30_000), false)
  })

  test('the floor is asked anew for each window', () => {
    let rate = 1_000
    const floor = new RateFloor(() => rate, 0, 1_000)
    assert.equal(floor.moved(500, 1_000), false)
    rate = 500
    assert.equal(floor.moved(500, 2_000), true)
  })
})
