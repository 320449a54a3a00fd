// PURE. How large the pieces are in which a file on disk is handed to one client. Large ones move bytes at the speed of the machine; small
// ones bound the memory that a slow client holds. Counts bytes and time; reads and sends nothing.

/** A piece for a client that is slow, and the most that is always given, whatever else uses memory. */
export const SMALL_PIECE_BYTES = 64 * 1024
/** A piece for a client of which nothing is known yet. */
export const MIDDLE_PIECE_BYTES = 256 * 1024
/** Measured beside 128 KiB to 4 MiB over loopback: at 1 MiB and more the machine's own speed is reached. */
export const LARGE_PIECE_BYTES = 2 * 1024 * 1024
/** The kernel takes the first megabytes for any client, also for one that never reads: until then its speed is not known. */
export const PROVES_NOTHING_BYTES = 8 * 1024 * 1024

/** A client gets pieces that it takes in about this time. */
const PIECE_MS = 100
/** How much of what was measured counts on when the next piece is measured. */
const REMEMBERED = 0.75

const SIZES = [LARGE_PIECE_BYTES, MIDDLE_PIECE_BYTES, SMALL_PIECE_BYTES] as const

/** One client's answer: starts in the middle, goes up when bytes leave fast, down when they do not. */
export class ReadPace {
  #sentBytes = 0
  #recentBytes = 0
  #recentMs = 0

  /** Bytes of the next piece, when there is memory for it. */
  get pieceBytes(): number {
    const bytesPerMs = this.#recentMs === 0 ? Number.POSITIVE_INFINITY : this.#recentBytes / this.#recentMs
    const most = this.#sentBytes < PROVES_NOTHING_BYTES ? MIDDLE_PIECE_BYTES : LARGE_PIECE_BYTES
    return SIZES.find((size) => size <= most && size <= bytesPerMs * PIECE_MS) ?? SMALL_PIECE_BYTES
  }

  /** So many bytes were handed over, and the client took them in that time. */
  took(bytes: number, tookMs: number): void {
    this.#sentBytes += bytes
    this.#recentBytes = this.#recentBytes * REMEMBERED + bytes
    this.#recentMs = this.#recentMs * REMEMBERED + tookMs
  }
}
