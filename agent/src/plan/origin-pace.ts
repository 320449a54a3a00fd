// PURE. When the next request to one origin may leave: one back-off for everybody who asks it, and slower steps as a
// bucket of its rate limit runs low (hub documentation "rate-limits": `RateLimit`, `Retry-After`). Fed with answers and
// `now`; holds no timer and sends nothing.

/** The Hub counts API calls and file look-ups apart; `content` is what its storage hosts serve, under no bucket. */
export type OriginBucket = 'api' | 'resolvers' | 'content'

export interface PaceFacts {
  readonly status: number
  /** From `Retry-After`, already capped. */
  readonly retryAfterMs: number | undefined
  readonly rateLimits: readonly {
    readonly bucket: string
    readonly remaining: number
    readonly resetSeconds: number
  }[]
}

/** No wait is longer, whatever an origin asks for. */
export const MAX_PACE_MS = 60_000
/** From this many requests left, the rest is spread over the time until the bucket fills again. */
export const LOW_REMAINING = 20
const FIRST_BACKOFF_MS = 1_000
/** Spread of the moment at which waiting requests come back, so that hosts do not return all at once. */
const JITTER_MS = 500

interface Lane {
  blockedUntil: number
  gapMs: number
  gapUntil: number
  nextAt: number
}

export class OriginPace {
  /** All requests to the Hub's own host wait together; its storage hosts are another matter. */
  #hubBlockedUntil = 0
  #refusalsInRow = 0
  readonly #lanes = new Map<OriginBucket, Lane>()

  /** Takes in an answer to a request of `bucket`. `chance` is uniform in [0, 1). Times in milliseconds. */
  answered(bucket: OriginBucket, facts: PaceFacts, now: number, chance: number): void {
    const refused = facts.status === 429
    if (!refused && facts.status < 500) this.#refusalsInRow = 0
    for (const limit of facts.rateLimits) this.#limit(bucketNamed(limit.bucket, bucket), limit, now)
    if (!refused && !(facts.status === 503 && facts.retryAfterMs !== undefined)) return
    this.#refusalsInRow++
    const told = facts.retryAfterMs ?? emptyBucketMs(facts)
    const waitMs = told ?? FIRST_BACKOFF_MS * 2 ** Math.min(this.#refusalsInRow - 1, 6)
    const until = now + Math.min(waitMs + chance * JITTER_MS, MAX_PACE_MS)
    if (bucket === 'content')
      this.#lane('content').blockedUntil = Math.max(this.#lane('content').blockedUntil, until)
    else this.#hubBlockedUntil = Math.max(this.#hubBlockedUntil, until)
  }

  /** Milliseconds until a request of `bucket` may leave; 0 = now. Asking reserves nothing. */
  delay(bucket: OriginBucket, now: number): number {
    const lane = this.#lane(bucket)
    const shared = bucket === 'content' ? 0 : this.#hubBlockedUntil
    const step = lane.gapUntil > now ? lane.nextAt : 0
    return Math.max(0, shared - now, lane.blockedUntil - now, step - now)
  }

  /** A request of `bucket` leaves now (or after the delay just told): the next one keeps its distance. */
  take(bucket: OriginBucket, now: number): void {
    const lane = this.#lane(bucket)
    if (lane.gapUntil <= now) return
    lane.nextAt = Math.max(lane.nextAt, now) + lane.gapMs
  }

  #limit(bucket: OriginBucket, limit: PaceFacts['rateLimits'][number], now: number): void {
    const lane = this.#lane(bucket)
    const resetMs = Math.min((limit.resetSeconds + 1) * 1000, MAX_PACE_MS)
    if (limit.remaining === 0) lane.blockedUntil = Math.max(lane.blockedUntil, now + resetMs)
    if (limit.remaining > LOW_REMAINING || limit.resetSeconds === 0) {
      lane.gapUntil = 0
      return
    }
    lane.gapMs = Math.min((limit.resetSeconds * 1000) / (limit.remaining + 1), MAX_PACE_MS)
    if (lane.gapUntil <= now) lane.nextAt = now + lane.gapMs
    lane.gapUntil = now + resetMs
  }

  #lane(bucket: OriginBucket): Lane {
    let lane = this.#lanes.get(bucket)
    if (lane === undefined) {
      lane = { blockedUntil: 0, gapMs: 0, gapUntil: 0, nextAt: 0 }
      this.#lanes.set(bucket, lane)
    }
    return lane
  }
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
  return empty === undefined ? undefined : (empty.resetSeconds + 1) * 1000
}
