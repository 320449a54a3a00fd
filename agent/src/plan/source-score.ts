// PURE. What this host has learnt about each source: measured rate, how many requests it may have open, whether it is
// cooling down or banned. Shared by all downloads; fed with outcomes and `now`, never with a clock of its own.
import { type ErrorCode, errorRow } from '@shoal/protocol/errors.ts'

/** Requests open at once to a peer that has proven nothing yet: a liar costs one chunk, not a pipeline of them. */
export const FIRST_DEPTH = 1
export const MAX_PEER_DEPTH = 4
/** First cooldown after a failure; doubles with every further one in a row. */
export const COOLDOWN_MS = 1_000
export const MAX_COOLDOWN_MS = 60_000
/** A busy peer is not to blame: ask again soon. */
export const BUSY_COOLDOWN_MS = 150
/**
 * A peer that was busy every time for this long is not counted on, until it answers or is left alone for a while. One that has
 * proven itself is waited for longer: many ask it at once, and each that went to the origin instead would fetch the same again.
 */
export const BUSY_PATIENCE_MS = 5_000
export const PROVEN_BUSY_PATIENCE_MS = 30_000
const BUSY_FORGOTTEN_MS = 2_000
/** How long a peer that sent provably wrong bytes is refused. */
export const BAN_MS = 15 * 60_000
/** Weight of the newest sample in the rate estimate. */
const RATE_WEIGHT = 0.3
/** Bound on sources remembered; the one unseen for longest goes first. */
const MAX_SOURCES = 1_024

interface Score {
  rate: number
  /** Chunks that the rate was measured from. */
  samples: number
  depth: number
  failuresInRow: number
  /** What it holds cannot be counted on while it cools down. After a single time-out it still can: it may only be slow. */
  doubted: boolean
  /** Cooling down after a failure it is to blame for. */
  coolUntil: number
  /** Busy: nothing wrong with it, ask again in a moment. */
  busyUntil: number
  /** When the present row of busy answers began; infinite when there is none. */
  busySince: number
  banUntil: number
  /** When it last sent or said anything at all. */
  signAt: number
}

export interface ScoreView {
  /** Bytes per second, smoothed; 0 when nothing was measured. */
  readonly rateBytesPerSecond: number
  readonly depth: number
  /** May be asked now. */
  readonly usable: boolean
  /** When `usable` becomes true again, if it is not. */
  readonly usableAt: number
  /** Neither banned nor doubted: what it holds counts as reachable even while it is busy (but not for ever) or late once. */
  readonly trusted: boolean
  /** When `trusted` ends if nothing else happens; infinite for a peer that is not busy. */
  readonly trustedUntil: number
}

/** The part of a score that a choice among many sources needs; changes in place. */
export interface Standing {
  readonly rate: number
  readonly samples: number
  readonly depth: number
  readonly coolUntil: number
  readonly busyUntil: number
  readonly banUntil: number
}

const UNHEARD: Standing = { rate: 0, samples: 0, depth: FIRST_DEPTH, coolUntil: 0, busyUntil: 0, banUntil: 0 }

const UNKNOWN: ScoreView = {
  rateBytesPerSecond: 0,
  depth: FIRST_DEPTH,
  usable: true,
  usableAt: 0,
  trusted: true,
  trustedUntil: Number.POSITIVE_INFINITY,
}

export class SourceScores {
  readonly #scores = new Map<string, Score>()

  /** The source sent or said something: whatever it is late with, it is there. */
  sign(source: string, now: number): void {
    this.#touch(source).signAt = now
  }

  /** When the source last gave a sign of life; minus infinity when it never did. */
  signAt(source: string): number {
    return this.#scores.get(source)?.signAt ?? Number.NEGATIVE_INFINITY
  }

  /** A chunk arrived and was proven. */
  success(source: string, bytes: number, durationMs: number): void {
    const score = this.#touch(source)
    score.samples++
    const sample = (bytes * 1000) / Math.max(durationMs, 1)
    score.rate = score.rate === 0 ? sample : score.rate * (1 - RATE_WEIGHT) + sample * RATE_WEIGHT
    score.depth = Math.min(score.depth + 1, MAX_PEER_DEPTH)
    score.failuresInRow = 0
    score.doubted = false
    score.coolUntil = 0
    score.busySince = Number.POSITIVE_INFINITY
  }

  /**
   * A request failed. What follows is read from the error table: blame `source` cools down or bans. A peer that refuses
   * cools down too, or it would be asked for ever; a busy one gets a moment, as does one that is not to blame.
   * @returns true if the source is banned from now on
   */
  failure(source: string, code: ErrorCode, now: number): boolean {
    if (code === 'aborted') return false
    const score = this.#touch(source)
    const row = errorRow(code)
    if (row.ban === true && row.blame === 'source') {
      score.banUntil = now + BAN_MS
      score.depth = FIRST_DEPTH
      return true
    }
    if (row.blame === 'source' || code === 'peer-refused') {
      score.failuresInRow++
      score.doubted = code !== 'peer-timeout' || score.failuresInRow > 1
      score.depth = FIRST_DEPTH
      score.coolUntil =
        now + Math.min(COOLDOWN_MS * 2 ** Math.min(score.failuresInRow - 1, 16), MAX_COOLDOWN_MS)
      return false
    }
    if (code === 'peer-busy') {
      score.signAt = now
      if (score.busyUntil + BUSY_FORGOTTEN_MS <= now || score.busySince > now) score.busySince = now
      score.depth = Math.max(FIRST_DEPTH, score.depth - 1)
    }
    score.busyUntil = now + BUSY_COOLDOWN_MS
    return false
  }

  /** When the source may be asked again, how many requests it may have, and its rate: what a choice among many looks at. */
  standing(source: string): Standing {
    return this.#scores.get(source) ?? UNHEARD
  }

  view(source: string, now: number): ScoreView {
    const score = this.#scores.get(source)
    if (score === undefined) return UNKNOWN
    const trustedAt = Math.max(score.doubted ? score.coolUntil : 0, score.banUntil)
    const usableAt = Math.max(score.coolUntil, score.banUntil, score.busyUntil)
    const patienceEnds = score.busySince + (score.rate > 0 ? PROVEN_BUSY_PATIENCE_MS : BUSY_PATIENCE_MS)
    const isBusy = score.busyUntil + BUSY_FORGOTTEN_MS > now
    return {
      rateBytesPerSecond: score.rate,
      depth: score.depth,
      usable: usableAt <= now,
      usableAt,
      trusted: trustedAt <= now && !(isBusy && patienceEnds <= now),
      trustedUntil: isBusy && patienceEnds > now ? patienceEnds : Number.POSITIVE_INFINITY,
    }
  }

  banned(source: string, now: number): boolean {
    return (this.#scores.get(source)?.banUntil ?? 0) > now
  }

  /** Forgets whoever has been silent for longest, and is not banned if others are not. */
  #forgetOne(): void {
    let least: string | undefined
    let leastAt = Number.POSITIVE_INFINITY
    for (const [source, score] of this.#scores) {
      const at = Math.max(score.signAt, score.banUntil, score.coolUntil, score.busyUntil)
      if (at >= leastAt && least !== undefined) continue
      least = source
      leastAt = at
    }
    if (least !== undefined) this.#scores.delete(least)
  }

  #touch(source: string): Score {
    const known = this.#scores.get(source)
    if (known !== undefined) return known
    if (this.#scores.size >= MAX_SOURCES) this.#forgetOne()
    const score: Score = {
      rate: 0,
      samples: 0,
      depth: FIRST_DEPTH,
      failuresInRow: 0,
      doubted: false,
      coolUntil: 0,
      busyUntil: 0,
      busySince: Number.POSITIVE_INFINITY,
      banUntil: 0,
      signAt: Number.NEGATIVE_INFINITY,
    }
    this.#scores.set(source, score)
    return score
  }
}
