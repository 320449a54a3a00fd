// How much of an answer is handed to a connection at once. Large pieces cost fewer events on a fast link; on a slow one
// the pieces of eight streams stand in one queue, and with large ones each reader sees no progress for many seconds. How
// fast a piece is taken says nothing, for the system buffers megabytes: only the next request on a stream proves that the
// last answer has arrived. Pure: told the times, gives a size.

export const SMALLEST_PIECE_BYTES = 64 * 1024
export const LARGEST_PIECE_BYTES = 1024 * 1024
/** A piece is as large as what the stream carries in this time. */
const PIECE_MS = 20

export class PiecePace {
  readonly #largestBytes: number
  #pieceBytes: number

  constructor(largestBytes = LARGEST_PIECE_BYTES) {
    this.#largestBytes = largestBytes
    this.#pieceBytes = Math.min(largestBytes, SMALLEST_PIECE_BYTES)
  }

  /** Size of the next piece. */
  get pieceBytes(): number {
    return this.#pieceBytes
  }

  /** An answer of `bytes` was sent and has arrived, all within `tookMs`. */
  arrived(bytes: number, tookMs: number): void {
    if (bytes < SMALLEST_PIECE_BYTES) return
    const carried = Math.floor((bytes * PIECE_MS) / Math.max(1, tookMs))
    this.#pieceBytes = Math.min(this.#largestBytes, Math.max(SMALLEST_PIECE_BYTES, carried))
  }
}
