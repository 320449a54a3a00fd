// The site's budget: what hosts tell each other of an origin's limits makes all of them slow down, and a lie makes nobody wait for long.
import assert from 'node:assert/strict'
import test, { describe } from 'node:test'
import type { BucketWord } from '@shoal/agent/plan/origin-buckets.ts'
import { LOW_REMAINING, MAX_PACE_MS, OriginPace } from '@shoal/agent/plan/origin-pace.ts'
import { tellDelayMs } from '@shoal/agent/plan/telling-times.ts'
import {
  ASKING_MS,
  DISTRUST_MS,
  LONGEST_BLOCK_MS,
  MAX_TELLERS,
  TOLD_BLOCK_MS,
  ToldLimits,
} from '@shoal/agent/plan/told-limits.ts'
import fc from 'fast-check'

const ok = { status: 200, retryAfterMs: undefined, rateLimits: [] }
const left = (remaining: number, resetSeconds: number, status = 200) => ({
  status,
  retryAfterMs: undefined,
  rateLimits: [{ bucket: 'resolvers', remaining, resetSeconds }],
})
const blocked = (blockedMs: number): BucketWord => ({ bucket: 'resolvers', blockedMs })

/** Everything `from` has to tell, heard by the others. */
function gossip(from: OriginPace, name: string, to: readonly OriginPace[], now: number): void {
  for (const word of from.words(now)) for (const pace of to) pace.hear(name, word, now, 0)
}

describe('what one host is told, the whole site keeps to', () => {
  test('after a 429 to one host nobody asks that bucket before the reset, and other buckets go on', () => {
    const [one, two, three] = [new OriginPace('1'), new OriginPace('2'), new OriginPace('3')]
    assert.equal(one.answered('resolvers', left(0, 30, 429), 0, 0), true, 'told at once')
    gossip(one, '1', [two, three], 50)
    for (const pace of [two, three]) {
      assert.ok(pace.delay('resolvers', 100) >= 30_900)
      assert.ok(pace.delay('resolvers', 30_000) > 0)
      assert.equal(pace.delay('resolvers', 31_050), 0)
      assert.equal(pace.delay('content', 100), 0)
      assert.equal(pace.delay('api', 100), 0)
    }
  })

  test('a 429 of a storage host is told too', () => {
    const [one, two] = [new OriginPace('1'), new OriginPace('2')]
    one.answered('content', { ...ok, status: 429, retryAfterMs: 20_000 }, 0, 0)
    gossip(one, '1', [two], 0)
    assert.equal(two.delay('content', 0), 20_000)
    assert.equal(two.delay('resolvers', 0), 0)
  })

  test('what was only heard is not told on', () => {
    const [one, two] = [new OriginPace('1'), new OriginPace('2')]
    one.answered('resolvers', left(0, 30, 429), 0, 0)
    gossip(one, '1', [two], 0)
    assert.deepEqual(two.words(0), [])
  })

  test('a bucket that runs low is told once, and again when it has run low anew', () => {
    const pace = new OriginPace('1')
    assert.equal(pace.answered('resolvers', left(400, 100), 0, 0), false)
    assert.equal(pace.answered('resolvers', left(LOW_REMAINING, 100), 0, 0), true)
    assert.equal(pace.answered('resolvers', left(LOW_REMAINING - 1, 100), 0, 0), false)
    assert.equal(pace.answered('resolvers', left(0, 100), 0, 0), true)
    assert.equal(pace.answered('resolvers', left(400, 300), 200_000, 0), false)
    assert.equal(pace.answered('resolvers', left(3, 100), 200_000, 0), true)
  })

  test('hosts that share a budget share what is left of it: none is refused', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 40 }),
        fc.integer({ min: 1, max: 400 }),
        fc.infiniteStream(fc.double({ min: 0, max: 0.999, noNaN: true })),
        (hosts, quota, chances) => {
          const windowMs = 100_000
          const paces = Array.from({ length: hosts }, (_, index) => new OriginPace(String(index)))
          const chance = () => chances.next().value
          // All have asked before, and know of each other.
          for (const [index, pace] of paces.entries()) {
            pace.answered('resolvers', left(quota + hosts, windowMs / 1000), 0, 0)
            gossip(
              pace,
              String(index),
              paces.filter((one) => one !== pace),
              0,
            )
          }
          let used = 0
          let refused = 0
          for (let now = 250; now < windowMs; now += 250) {
            for (const [index, pace] of paces.entries()) {
              if (pace.delay('resolvers', now) > 0) continue
              pace.take('resolvers', now)
              used++
              if (used > quota) refused++
              const facts = left(
                Math.max(0, quota - used),
                Math.ceil((windowMs - now) / 1000),
                used > quota ? 429 : 200,
              )
              const news = pace.answered('resolvers', facts, now, chance())
              if (news)
                gossip(
                  pace,
                  String(index),
                  paces.filter((one) => one !== pace),
                  now,
                )
            }
          }
          // Each may have one request under way when the budget ends.
          assert.ok(refused <= 1, `${refused} of ${used} refused: ${hosts} hosts, ${quota} left`)
        },
      ),
      { numRuns: 25 },
    )
  })
})

describe('a lie', () => {
  test('of one host holds for a minute in ten, however often it is told', () => {
    const pace = new OriginPace('me')
    let held = 0
    for (let now = 0; now < 600_000; now += 1_000) {
      pace.hear('liar', blocked(3_600_000), now, 0)
      if (pace.delay('resolvers', now) > 0) held += 1_000
    }
    assert.ok(held >= TOLD_BLOCK_MS && held <= TOLD_BLOCK_MS + 4_000, `${held} ms`)
  })

  test('pauses in a lie do not begin its time anew', () => {
    const pace = new OriginPace('me')
    let held = 0
    for (let now = 0; now < 600_000; now += 1_000) {
      pace.hear(
        'liar',
        now % 2_000 === 0 ? blocked(60_000) : { bucket: 'resolvers', remaining: 5_000, resetMs: 1_000 },
        now,
        0,
      )
      if (pace.delay('resolvers', now + 1) > 0) held += 1_000
    }
    assert.ok(held <= TOLD_BLOCK_MS + 4_000, `${held} ms`)
  })

  test('that the origin contradicts is forgotten, and its teller not heard again for ten minutes', () => {
    const pace = new OriginPace('me')
    pace.hear('liar', blocked(90_000), 0, 0)
    const news = pace.answered('resolvers', { ...left(900, 200), sentAt: 61_000 }, 61_200, 0)
    assert.equal(news, true, 'the others hear that there is no limit')
    assert.equal(pace.delay('resolvers', 61_200), 0)
    pace.hear('liar', blocked(90_000), 62_000, 0)
    assert.equal(pace.delay('resolvers', 62_000), 0)
    pace.hear('liar', blocked(9_000), 61_200 + DISTRUST_MS, 0)
    assert.equal(pace.delay('resolvers', 61_200 + DISTRUST_MS), 9_000)
  })

  test('an answer to a request that left before the word was told contradicts nothing', () => {
    const pace = new OriginPace('me')
    pace.hear('honest', blocked(30_000), 1_000, 0)
    pace.answered('resolvers', { ...ok, sentAt: 900 }, 1_100, 0)
    assert.ok(pace.delay('resolvers', 1_100) > 29_000)
  })

  test('of hardly anything left slows until the own next answer, and then no more', () => {
    const pace = new OriginPace('me')
    pace.hear('liar', { bucket: 'resolvers', remaining: 1, resetMs: 300_000 }, 0, 0.999)
    const wait = pace.delay('resolvers', 0)
    assert.ok(wait > 0 && wait <= MAX_PACE_MS, `${wait} ms`)
    pace.answered('resolvers', { ...left(900, 200), sentAt: wait }, wait + 100, 0)
    assert.equal(pace.delay('resolvers', wait + 100), 0)
    pace.hear('liar', { bucket: 'resolvers', remaining: 1, resetMs: 300_000 }, wait + 200, 0.999)
    assert.equal(pace.delay('resolvers', wait + 200), 0)
  })

  test('never shortens what the origin asked of this host itself', () => {
    const pace = new OriginPace('me')
    pace.answered('resolvers', left(0, 100, 429), 0, 0)
    pace.hear('liar', { bucket: 'resolvers', remaining: 5_000, resetMs: 300_000 }, 10, 0)
    assert.ok(pace.delay('resolvers', 10) > 100_000)
  })

  test('of many hosts is remembered for few, and counts for no more askers than those', () => {
    const told = new ToldLimits('me')
    for (let one = 0; one < 10_000; one++)
      told.hear(`liar ${one}`, { bucket: 'api', remaining: 1, resetMs: 1 }, 0)
    assert.equal(told.asking('api', 0), MAX_TELLERS)
    assert.equal(told.asking('api', ASKING_MS + 1), 0)
  })
})

test('what two hosts tell holds until the reset, what one tells for a minute: then the hosts try one after the other', () => {
  const pace = new OriginPace('me')
  pace.hear('a', blocked(200_000), 0, 0)
  assert.equal(pace.delay('resolvers', 0), TOLD_BLOCK_MS)
  pace.hear('b', blocked(140_000), 60_000, 0)
  assert.equal(pace.delay('resolvers', 60_000), 140_000)
  const names = Array.from({ length: 12 }, (_, index) => `host ${index}`)
  const paces = new Map(names.map((name) => [name, new OriginPace(name)]))
  for (const [name, one] of paces) {
    for (const other of names)
      if (other !== name) one.hear(other, { bucket: 'api', remaining: 900, resetMs: 60_000 }, 0, 0)
    one.hear('refused', { bucket: 'api', blockedMs: 200_000 }, 1, 0)
  }
  const starts = [...paces.values()].map((one) => one.delay('api', 1)).toSorted((a, b) => a - b)
  for (const [index, start] of starts.entries()) {
    if (index > 0) assert.ok(start - (starts[index - 1] ?? 0) >= 3_000, `${starts.join(' ')} ms`)
  }
})

test('nobody waits longer than a window, whatever others tell and the origin answers', () => {
  const word = fc.record({
    teller: fc.constantFrom('a', 'b', 'c', 'd'),
    word: fc.record({
      bucket: fc.constantFrom('api' as const, 'resolvers' as const, 'content' as const),
      remaining: fc.option(fc.nat(5_000), { nil: undefined }),
      resetMs: fc.option(fc.nat(86_400_000), { nil: undefined }),
      blockedMs: fc.option(fc.nat(86_400_000), { nil: undefined }),
    }),
    answer: fc.option(fc.record({ remaining: fc.nat(5_000), resetSeconds: fc.nat(400) }), { nil: undefined }),
    later: fc.nat(120_000),
    chance: fc.double({ min: 0, max: 0.999, noNaN: true }),
  })
  fc.assert(
    fc.property(fc.array(word, { maxLength: 40 }), (words) => {
      const pace = new OriginPace('me')
      let now = 0
      for (const one of words) {
        now += one.later
        pace.hear(one.teller, one.word, now, one.chance)
        if (one.answer !== undefined)
          pace.answered('resolvers', left(one.answer.remaining, one.answer.resetSeconds), now, one.chance)
        for (const bucket of ['api', 'resolvers', 'content'] as const) {
          const wait = pace.delay(bucket, now)
          assert.ok(wait >= 0 && wait <= LONGEST_BLOCK_MS + 1, `${wait} ms`)
          if (wait === 0) pace.take(bucket, now)
        }
      }
    }),
  )
})

test('a host tells at once what matters, but not twice in a second, and the rest the more rarely the more hear it', () => {
  assert.equal(tellDelayMs(true, Number.NEGATIVE_INFINITY, 5, 100), 0)
  assert.equal(tellDelayMs(true, 100, 5, 600), 500)
  assert.ok(tellDelayMs(false, 0, 100, 0) > tellDelayMs(false, 0, 5, 0))
  assert.ok(tellDelayMs(false, 0, 1_000, 0) >= 250_000)
})
