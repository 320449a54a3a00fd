// PURE. Background mode: takes what nobody else wants of a link, after LEDBAT (RFC 6817). The queue before the link is measured as the
// time a packet takes beyond the shortest known; while there is one the rate falls, fast; without one it grows, slowly. Sets nothing.

/** A longer queue than this is somebody's: TCP fills queues to the brim, this leaves them all but empty. */
const TARGET_MS = 3
/** 1 Mbit/s: below it other hosts would take this one for dead. */
export const BACKGROUND_FLOOR = 125_000
const FIRST_RATE = 8 * BACKGROUND_FLOOR
const MOST = 1e12
/** A queue that stands for so long is no burst of our own; until then the rate is only held. */
const CONFIRM_MS = 300
/** When the queue is our own doing: what comes in is about the rate we allow. */
const OWN_CUT = 0.8
/** When less comes in than we allow, others took their part: then there is a foreground. */
const FOREIGN_SHARE = 0.8
const FOREIGN_CUT = 0.3
/** The queue has stood since the last cut: it is not ours. */
const NEXT_CUT = 0.35
/** What is on its way, in windows that are open and buffers that are full, comes in spite of a cut: no second one before this. */
const OWN_SETTLE_MS = 600
const FOREIGN_SETTLE_MS = 400
const NEXT_SETTLE_MS = 300
/** Growth begins after so long without a queue. */
const QUIET_MS = 150
/** Each second: up to what the link carried last, and beyond it. */
const FAST_GROWTH = 3
const SLOW_GROWTH = 1.35
/** Nobody needs a rate that is never reached. */
const HEADROOM = 1.5

export class BackgroundRate {
  #rate = FIRST_RATE
  /** Up to here growth is fast. */
  #known = MOST
  #at: number
  #quietSince: number | undefined
  #queuedSince: number | undefined
  /** There was no queue since the last cut: a new one is judged anew. */
  #emptied = true
  #settledAt = Number.NEGATIVE_INFINITY

  constructor(now: number) {
    this.#at = now
  }

  get bytesPerSecond(): number {
    return this.#rate
  }

  /**
   * @param queueMs how long a packet waits before the link; infinite: it was lost
   * @param flowing bytes a second that came in over the last moments
   * @returns the rate from now on, {@link BACKGROUND_FLOOR} at least
   */
  sample(queueMs: number, flowing: number, now: number): number {
    const elapsedMs = Math.min(1_000, Math.max(0, now - this.#at))
    this.#at = now
    if (queueMs > TARGET_MS) this.#queued(flowing, now)
    else if (queueMs <= TARGET_MS / 2) this.#quiet(flowing, now, elapsedMs)
    return this.#rate
  }

  #queued(flowing: number, now: number): void {
    this.#quietSince = undefined
    this.#queuedSince ??= now
    if (now < this.#settledAt || now - this.#queuedSince < CONFIRM_MS) return
    const carried = Math.min(this.#rate, flowing)
    if (this.#emptied) {
      const foreign = flowing < FOREIGN_SHARE * this.#rate
      this.#known = Math.max(BACKGROUND_FLOOR, OWN_CUT * carried)
      this.#cut(carried * (foreign ? FOREIGN_CUT : OWN_CUT), foreign ? FOREIGN_SETTLE_MS : OWN_SETTLE_MS, now)
    } else this.#cut(this.#rate * NEXT_CUT, NEXT_SETTLE_MS, now)
  }

  #cut(rate: number, settleMs: number, now: number): void {
    this.#rate = Math.max(BACKGROUND_FLOOR, Math.min(this.#rate, rate))
    this.#emptied = false
    this.#settledAt = now + settleMs
  }

  #quiet(flowing: number, now: number, elapsedMs: number): void {
    this.#quietSince ??= now
    this.#queuedSince = undefined
    this.#emptied = true
    if (now - this.#quietSince < QUIET_MS) return
    const most = Math.max(FIRST_RATE, HEADROOM * flowing)
    if (this.#rate >= most) return
    const factor = this.#rate < this.#known ? FAST_GROWTH : SLOW_GROWTH
    this.#rate = Math.min(MOST, most, this.#rate * factor ** (elapsedMs / 1_000))
  }
}

/** Probes of which the shortest counts. */
const SHORTEST_OF = 3
const BASE_PART_MS = 60_000
const BASE_PARTS = 10
/** A queue that never empties for so long is no queue: the way has become longer. */
const NEW_WAY_MS = 30 * 60_000

/** The shortest time of the last minutes, and how much longer the way takes now. */
export class BaseDelay {
  readonly #parts: { readonly since: number; least: number }[] = []
  readonly #last: number[] = []
  #emptyAt: number | undefined

  /**
   * Of some in a row the shortest counts. Somebody who fills the link makes a queue that stands; a burst of our own makes one that is
   * gone with the next probe, and so does a program that is not given the processor for a moment.
   * @returns the queue in milliseconds
   */
  sample(delayMs: number, now: number): number {
    this.#last.push(delayMs)
    if (this.#last.length > SHORTEST_OF) this.#last.shift()
    const shortest = Math.min(...this.#last)
    let part = this.#parts.at(-1)
    if (part === undefined || now - part.since >= BASE_PART_MS) {
      part = { since: now, least: delayMs }
      this.#parts.push(part)
    }
    part.least = Math.min(part.least, delayMs)
    this.#emptyAt ??= now
    const stuck = now - this.#emptyAt
    // While there is a queue all the time, what was known before it is all that tells of it.
    const mayForget = stuck < BASE_PART_MS || stuck > NEW_WAY_MS
    while (this.#parts.length > (mayForget ? BASE_PARTS : NEW_WAY_MS / BASE_PART_MS)) this.#parts.shift()
    const queueMs = shortest - Math.min(...this.#parts.map(({ least }) => least))
    if (queueMs <= TARGET_MS) this.#emptyAt = now
    return Math.max(0, queueMs)
  }
}
