// PURE. How many requests to keep open over one line: as many as its bandwidth times its delay need, and no more. A request that takes much
// longer than the quickest did waits for the others on the line: more of them would only make every chunk later (the idea
// of TCP Vegas, Brakmo & Peterson 1995). One that does not says that the line has room.

/** Room is left while a request takes at most so many times the quickest. */
const ROOM_RATIO = 1.25
/** Beyond so many times the quickest there are too many. */
const FULL_RATIO = 1.5
/** Weight of the newest sample in the quickest when nothing else of ours was on the line: lines change. */
const WEIGHT = 0.3

export class LineDepth {
  readonly #most: number
  #quickestMs = Number.POSITIVE_INFINITY
  #depth: number

  /** @param first requests open at the beginning @param most never more */
  constructor(first: number, most: number) {
    this.#most = Math.max(1, most)
    this.#depth = Math.min(Math.max(1, first), this.#most)
  }

  /** Requests to keep open now. */
  get depth(): number {
    return Math.floor(this.#depth)
  }

  /** A request of the usual size took so long, with `open` requests of ours on the line when it ended (itself included). */
  ended(tookMs: number, open: number): void {
    const ms = Math.max(tookMs, 0.1)
    // Only a request that had the line to itself shows that it has become slower: the others wait for each other, and to forget
    // by time would take that for the line.
    if (open <= 1 && ms > this.#quickestMs) this.#quickestMs += WEIGHT * (ms - this.#quickestMs)
    else this.#quickestMs = Math.min(this.#quickestMs, ms)
    // With fewer open than allowed, the depth was not what held it back.
    if (ms <= ROOM_RATIO * this.#quickestMs && open >= this.depth)
      this.#depth = Math.min(this.#depth + 1, this.#most)
    else if (ms > FULL_RATIO * this.#quickestMs) this.#depth = Math.max(1, this.#depth - 1 / this.depth)
  }
}
