// PURE. Says when a transfer is so slow that it is better begun again elsewhere: bytes over a window, against a floor.
// Silence is not its business (a deadline without progress catches that). No clock of its own.

/** Slowest transfer worth keeping, in bytes a second, shared by all transfers that run at once. */
export const MIN_BYTES_PER_SECOND = 64 * 1024
export const RATE_WINDOW_MS = 10_000

export class RateFloor {
  readonly #bytesPerSecond: () => number
  readonly #windowMs: number
  #windowStart: number
  #windowBytes = 0

  /** @param bytesPerSecond asked at the end of each window: the floor may depend on how many transfers share the line */
  constructor(bytesPerSecond: () => number, now: number, windowMs = RATE_WINDOW_MS) {
    this.#windowMs = windowMs
    this.#bytesPerSecond = bytesPerSecond
    this.#windowStart = now
  }

  /** Counts bytes that arrived. False when the window just ended was below the floor. */
  moved(bytes: number, now: number): boolean {
    this.#windowBytes += bytes
    const elapsedMs = now - this.#windowStart
    if (elapsedMs < this.#windowMs) return true
    const fastEnough = (this.#windowBytes / elapsedMs) * 1000 >= this.#bytesPerSecond()
    this.#windowStart = now
    this.#windowBytes = 0
    return fastEnough
  }
}
