// PURE. What other hosts say an origin told them about one budget, and how far that counts. A host's word may make this one wait, for a
// bounded time and never against what the origin itself says here; who is found wrong is not listened to for a while.
import type { BucketWord, OriginBucket } from './origin-buckets.ts'
import { shareSeed } from './origin-share.ts'

/** A back-off that one host tells of counts for so long in each period; one that two tell of, until its end. */
export const TOLD_BLOCK_MS = 60_000
/** The longest that the Hub's windows are, and a little: no back-off that hosts tell of counts longer. */
export const LONGEST_BLOCK_MS = 301_000
const PERIOD_MS = 10 * 60_000
/** A host whose word the origin's own answer contradicts is not listened to for so long. */
export const DISTRUST_MS = 10 * 60_000
/** Who told of a bucket within this time is asking it. */
export const ASKING_MS = 90_000
/** When one host's word has run out, the hosts try one after the other, so far apart: the next hears what the one before was told. */
const PROBE_STEP_MS = 3_000
/** Hosts remembered for a bucket. */
export const MAX_TELLERS = 64
/** Times of reset that differ by more are of different windows. */
const SAME_WINDOW_MS = 5_000
/** The Hub's counters may lag behind each other a little. */
const COUNT_SLACK = 20

interface Word {
  readonly toldAt: number
  readonly remaining: number | undefined
  readonly resetAt: number
  readonly blockedUntil: number
  /** When its first back-off of this period was told; undefined before it told of any. */
  readonly periodFrom: number | undefined
}

export interface ToldRemaining {
  readonly remaining: number
  readonly resetAt: number
}

export class ToldLimits {
  readonly #self: string
  readonly #words = new Map<OriginBucket, Map<string, Word>>()
  readonly #distrusted = new Map<string, number>()

  constructor(self: string) {
    this.#self = self
  }

  /** @returns false when this host is not listened to */
  hear(teller: string, word: BucketWord, now: number): boolean {
    if (now < (this.#distrusted.get(teller) ?? 0)) return false
    const words = this.#words.get(word.bucket) ?? new Map<string, Word>()
    this.#words.set(word.bucket, words)
    const before = words.get(teller)
    const resetMs = Math.min(word.resetMs ?? 0, LONGEST_BLOCK_MS)
    const empty = word.remaining === 0 ? resetMs : 0
    const blockedMs = Math.min(Math.max(word.blockedMs ?? 0, empty), LONGEST_BLOCK_MS)
    words.delete(teller)
    words.set(teller, {
      toldAt: now,
      remaining: word.remaining,
      resetAt: now + resetMs,
      blockedUntil: now + blockedMs,
      periodFrom: periodOf(before?.periodFrom, blockedMs > 0, now),
    })
    trim(words)
    return true
  }

  /** Until when what others tell keeps this host from asking; 0 when it does not. */
  blockedUntil(bucket: OriginBucket, now: number): number {
    let first = 0
    let second = 0
    let soon = 0
    for (const word of this.#words.get(bucket)?.values() ?? []) {
      if (word.blockedUntil <= now || word.periodFrom === undefined) continue
      const until = Math.min(word.blockedUntil, word.periodFrom + LONGEST_BLOCK_MS)
      if (until > first) [first, second] = [until, first]
      else if (until > second) second = until
      const alone = word.periodFrom + TOLD_BLOCK_MS
      soon = Math.max(soon, Math.min(until, until > alone ? alone + this.#probeDelay(bucket, now) : alone))
    }
    const until = Math.max(second, soon)
    return until > now ? until : 0
  }

  /** The least that hosts told of after `since`; undefined when nobody did. */
  lowest(bucket: OriginBucket, since: number, now: number): ToldRemaining | undefined {
    let lowest: ToldRemaining | undefined
    for (const { toldAt, remaining, resetAt } of this.#words.get(bucket)?.values() ?? []) {
      if (remaining === undefined || toldAt <= since || resetAt <= now || now - toldAt > TOLD_BLOCK_MS)
        continue
      if (lowest === undefined || remaining < lowest.remaining) lowest = { remaining, resetAt }
    }
    return lowest
  }

  /** Other hosts that ask this bucket too, at most {@link MAX_TELLERS}. */
  asking(bucket: OriginBucket, now: number): number {
    let count = 0
    for (const { toldAt } of this.#words.get(bucket)?.values() ?? []) if (now - toldAt <= ASKING_MS) count++
    return count
  }

  /**
   * The origin answered a request that left at `sentAt`. `refused`: it asks for a pause itself. What was told before then and cannot
   * be true is forgotten, and who told it is not listened to.
   * @returns true when somebody's back-off turned out wrong
   */
  answered(
    bucket: OriginBucket,
    own: { readonly refused: boolean; readonly remaining: number | undefined; readonly resetAt: number },
    sentAt: number,
    now: number,
  ): boolean {
    const words = this.#words.get(bucket)
    if (words === undefined || own.refused) return false
    let wrong = false
    for (const [teller, word] of words) {
      if (word.toldAt >= sentAt) continue
      const liesOnBlock = word.blockedUntil > sentAt && own.remaining !== 0
      if (!liesOnBlock && !this.#contradicts(word, own, now)) continue
      wrong ||= liesOnBlock
      words.delete(teller)
      this.#distrusted.delete(teller)
      this.#distrusted.set(teller, now + DISTRUST_MS)
      trim(this.#distrusted)
    }
    return wrong
  }

  #contradicts(
    word: Word,
    own: { readonly remaining: number | undefined; readonly resetAt: number },
    now: number,
  ): boolean {
    if (word.remaining === undefined || own.remaining === undefined || now > word.resetAt - SAME_WINDOW_MS)
      return false
    return (
      Math.abs(own.resetAt - word.resetAt) > SAME_WINDOW_MS || own.remaining > word.remaining + COUNT_SLACK
    )
  }

  /** How long this host lets others go first. */
  #probeDelay(bucket: OriginBucket, now: number): number {
    const own = shareSeed(bucket, this.#self).seed
    let before = 0
    for (const [teller, { toldAt, blockedUntil }] of this.#words.get(bucket) ?? []) {
      // Who was refused itself waits for the end; it is no candidate.
      if (now - toldAt <= ASKING_MS && blockedUntil <= now && shareSeed(bucket, teller).seed > own) before++
    }
    return before * PROBE_STEP_MS
  }
}

function periodOf(before: number | undefined, blocks: boolean, now: number): number | undefined {
  if (before !== undefined && now - before < PERIOD_MS) return before
  return blocks ? now : undefined
}

/** Forgets the oldest beyond the bound. */
function trim<V>(map: Map<string, V>): void {
  for (const oldest of map.keys()) {
    if (map.size <= MAX_TELLERS) return
    map.delete(oldest)
  }
}
