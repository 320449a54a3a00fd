// PURE. When the next request under one budget of an origin may leave: one back-off for everybody who shares it, and slower steps
// as a bucket of its rate limit runs low (hub documentation "rate-limits": `RateLimit`, `Retry-After`). Fed with answers, with
// what other hosts were told (told-limits.ts) and `now`; holds no timer and sends nothing.
import { type BucketWord, ORIGIN_BUCKETS, type OriginBucket } from './origin-buckets.ts'
import { LONGEST_BLOCK_MS, ToldLimits } from './told-limits.ts'

export interface PaceFacts {
  readonly status: number
  /** From `Retry-After`, already capped. */
  readonly retryAfterMs: number | undefined
  readonly rateLimits: readonly {
    readonly bucket: string
    readonly remaining: number
    readonly resetSeconds: number
  }[]
  /** When the request left; without it, now. */
  readonly sentAt?: number
}

/** No wait is longer, whatever an origin asks for; a time of reset within the Hub's own window is waited for. */
export const MAX_PACE_MS = 60_000
/** From this many requests left for each host that asks, the rest is spread over the time until the bucket fills again. */
export const LOW_REMAINING = 20
const FIRST_BACKOFF_MS = 1_000
/** Spread of the moment at which waiting requests come back, so that hosts do not return all at once. */
const JITTER_MS = 500
/** A bucket that this host asked longer ago is not told of. */
const TOLD_FOR_MS = 60_000

interface Lane {
  blockedUntil: number
  gapMs: number
  gapUntil: number
  nextAt: number
  /** What the origin last said, and when. */
  answeredAt: number
  remaining: number | undefined
  resetAt: number
  wasLow: boolean
}

export class OriginPace {
  /** All requests to the Hub's own host wait together; its storage hosts are another matter. */
  #hubBlockedUntil = 0
  #refusalsInRow = 0
  readonly #lanes = new Map<OriginBucket, Lane>()
  readonly #told: ToldLimits

  /** @param self this host, as others are named in {@link hear} */
  constructor(self = '') {
    this.#told = new ToldLimits(self)
  }

  /**
   * Takes in an answer to a request of `bucket`. `chance` is uniform in [0, 1). Times in milliseconds.
   * @returns true when the others of the site should hear of it at once
   */
  answered(bucket: OriginBucket, facts: PaceFacts, now: number, chance: number): boolean {
    const refused = facts.status === 429
    if (!refused && facts.status < 500) this.#refusalsInRow = 0
    this.#lane(bucket).answeredAt = now
    let news = false
    for (const limit of facts.rateLimits) {
      const isLow = this.#limit(bucketNamed(limit.bucket, bucket), limit, now)
      news ||= isLow
    }
    const asksForPause = refused || (facts.status === 503 && facts.retryAfterMs !== undefined)
    const limit = facts.rateLimits.find((one) => bucketNamed(one.bucket, bucket) === bucket)
    const own = {
      refused: asksForPause || facts.status >= 500,
      remaining: limit?.remaining,
      resetAt: this.#lane(bucket).resetAt,
    }
    if (this.#told.answered(bucket, own, facts.sentAt ?? now, now)) news = true
    if (!asksForPause) return news
    this.#refusalsInRow++
    const told = facts.retryAfterMs ?? emptyBucketMs(facts)
    const waitMs = told ?? FIRST_BACKOFF_MS * 2 ** Math.min(this.#refusalsInRow - 1, 6)
    const until =
      now + Math.min(waitMs + chance * JITTER_MS, told === undefined ? MAX_PACE_MS : LONGEST_BLOCK_MS)
    const lane = this.#lane(bucket)
    lane.blockedUntil = Math.max(lane.blockedUntil, until)
    if (bucket !== 'content') this.#hubBlockedUntil = Math.max(this.#hubBlockedUntil, until)
    return true
  }

  /** Another host of the site says what the origin told it. `chance` is uniform in [0, 1). */
  hear(teller: string, word: BucketWord, now: number, chance: number): void {
    const { bucket } = word
    if (!this.#told.hear(teller, word, now)) return
    const lane = this.#lane(bucket)
    const least = this.#told.lowest(bucket, lane.answeredAt, now)
    if (least === undefined || least.remaining === 0) return
    if (!this.#isLow(bucket, least.remaining, now)) return
    const gapMs = gapOf(least, this.#hosts(bucket, now), now)
    this.#spread(lane, gapMs * chance, gapMs, now, Math.min(least.resetAt - now, MAX_PACE_MS))
  }

  /** Milliseconds until a request of `bucket` may leave; 0 = now. Asking reserves nothing. */
  delay(bucket: OriginBucket, now: number): number {
    const lane = this.#lane(bucket)
    const shared = bucket === 'content' ? 0 : this.#hubBlockedUntil
    const step = lane.gapUntil > now ? lane.nextAt : 0
    const told = this.#told.blockedUntil(bucket, now)
    return Math.max(0, shared - now, lane.blockedUntil - now, step - now, told - now)
  }

  /** A request of `bucket` leaves now (or after the delay just told): the next one keeps its distance. */
  take(bucket: OriginBucket, now: number): void {
    const lane = this.#lane(bucket)
    if (lane.gapUntil <= now) return
    lane.nextAt = Math.max(lane.nextAt, now) + lane.gapMs
  }

  /** What this host itself was told lately, for the others of its site. Never what it only heard. */
  words(now: number): readonly BucketWord[] {
    return ORIGIN_BUCKETS.flatMap((bucket): readonly BucketWord[] => {
      const lane = this.#lanes.get(bucket)
      if (lane === undefined) return []
      const blockedMs = Math.ceil(lane.blockedUntil - now)
      if (blockedMs <= 0 && (now - lane.answeredAt > TOLD_FOR_MS || lane.resetAt <= now)) return []
      const known = lane.resetAt > now && lane.remaining !== undefined
      return [
        {
          bucket,
          remaining: known ? lane.remaining : undefined,
          resetMs: known ? Math.ceil(lane.resetAt - now) : undefined,
          blockedMs: blockedMs > 0 ? blockedMs : undefined,
        },
      ]
    })
  }

  /** @returns true when the bucket has just become low or empty */
  #limit(bucket: OriginBucket, limit: PaceFacts['rateLimits'][number], now: number): boolean {
    const lane = this.#lane(bucket)
    const resetMs = resetMsOf(limit.resetSeconds)
    lane.answeredAt = now
    lane.remaining = limit.remaining
    lane.resetAt = now + resetMs
    const wasEmpty = lane.blockedUntil > now
    if (limit.remaining === 0) lane.blockedUntil = Math.max(lane.blockedUntil, now + resetMs)
    const isLow = this.#isLow(bucket, limit.remaining, now) && limit.resetSeconds > 0
    const news = (isLow && !lane.wasLow) || (limit.remaining === 0 && !wasEmpty)
    lane.wasLow = isLow
    if (!isLow) {
      lane.gapUntil = 0
      return news
    }
    const gapMs = gapOf(
      { remaining: limit.remaining, resetAt: now + limit.resetSeconds * 1000 },
      this.#hosts(bucket, now),
      now,
    )
    this.#spread(lane, gapMs, gapMs, now, resetMs)
    return news
  }

  #spread(lane: Lane, firstMs: number, gapMs: number, now: number, forMs: number): void {
    lane.gapMs = gapMs
    if (lane.gapUntil <= now) lane.nextAt = now + firstMs
    lane.gapUntil = now + forMs
  }

  /** The rest would not last if every host that asks took its usual share. */
  #isLow(bucket: OriginBucket, remaining: number, now: number): boolean {
    return remaining <= LOW_REMAINING * this.#hosts(bucket, now)
  }

  #hosts(bucket: OriginBucket, now: number): number {
    return 1 + this.#told.asking(bucket, now)
  }

  #lane(bucket: OriginBucket): Lane {
    let lane = this.#lanes.get(bucket)
    if (lane === undefined) {
      lane = {
        blockedUntil: 0,
        gapMs: 0,
        gapUntil: 0,
        nextAt: 0,
        answeredAt: Number.NEGATIVE_INFINITY,
        remaining: undefined,
        resetAt: 0,
        wasLow: false,
      }
      this.#lanes.set(bucket, lane)
    }
    return lane
  }
}

/** Time between two requests of one host when `hosts` share what is left. */
function gapOf(
  left: { readonly remaining: number; readonly resetAt: number },
  hosts: number,
  now: number,
): number {
  return Math.min(((left.resetAt - now) * hosts) / (left.remaining + 1), MAX_PACE_MS)
}

/** The Hub's windows last five minutes. A reset further away is nonsense, and so is a wait for it. */
function resetMsOf(resetSeconds: number): number {
  const resetMs = (resetSeconds + 1) * 1000
  return resetMs > LONGEST_BLOCK_MS ? MAX_PACE_MS : resetMs
}

/** How the pauses between tries of one request grow. */
export interface Backoff {
  readonly firstMs: number
  readonly factor: number
  readonly maxMs: number
}

/** Wait before retry number `attempt` (from 1) of one request: growing, with jitter from half to whole. */
export function retryDelayMs(attempt: number, backoff: Backoff, chance: number): number {
  return Math.min(backoff.firstMs * backoff.factor ** (attempt - 1), backoff.maxMs) * (0.5 + chance / 2)
}

function bucketNamed(name: string, asked: OriginBucket): OriginBucket {
  return name === 'api' || name === 'resolvers' ? name : asked
}

function emptyBucketMs(facts: PaceFacts): number | undefined {
  const empty = facts.rateLimits.find((limit) => limit.remaining === 0)
  return empty === undefined ? undefined : resetMsOf(empty.resetSeconds)
}
