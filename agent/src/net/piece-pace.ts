// How much of an answer is handed to a connection at once. Large pieces cost fewer events on a fast link; on a slow one a
// large piece keeps the other streams and the pings of the connection waiting for seconds, and the reader sees no
// progress. So the size follows how long a piece takes. Pure: told the times, gives a size.

export const SMALLEST_PIECE_BYTES = 64 * 1024
export const LARGEST_PIECE_BYTES = 1024 * 1024
/** A piece that was through sooner may be larger next time, one that took longer must be smaller. */
const QUICK_MS = 20
const SLOW_MS = 100

export class PiecePace {
  readonly #largestBytes: number
  #pieceBytes: number

  constructor(largestBytes = LARGEST_PIECE_BYTES) {
    this.#largestBytes = largestBytes
    this.#pieceBytes = Math.min(largestBytes, 4 * SMALLEST_PIECE_BYTES)
  }

  /** Size of the next piece. */
  get pieceBytes(): number {
    return this.#pieceBytes
  }

  /** A piece of the current size took `tookMs` to be taken. */
  took(tookMs: number): void {
    if (tookMs < QUICK_MS) this.#pieceBytes = Math.min(this.#largestBytes, this.#pieceBytes * 2)
    else if (tookMs > SLOW_MS) {
      const fitting = Math.floor((this.#pieceBytes * SLOW_MS) / tookMs)
      this.#pieceBytes = Math.max(Math.min(SMALLEST_PIECE_BYTES, this.#largestBytes), fitting)
    }
  }
}
