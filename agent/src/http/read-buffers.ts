// The memory through which files on disk go to clients, over all answers: buffers of three sizes, used again, within one budget. Lends a
// smaller buffer when the budget is used up, the smallest always: an answer never waits for another one's client.
import { LARGE_PIECE_BYTES, MIDDLE_PIECE_BYTES, SMALL_PIECE_BYTES } from '../plan/read-pace.ts'

const SIZES = [LARGE_PIECE_BYTES, MIDDLE_PIECE_BYTES, SMALL_PIECE_BYTES] as const
/** Bytes of free buffers that are kept: what two fast clients use. */
const MAX_KEPT_BYTES = 4 * LARGE_PIECE_BYTES

export class ReadBuffers {
  readonly #limitBytes: number
  readonly #free = new Map<number, Buffer[]>(SIZES.map((size) => [size, []]))
  #lentBytes = 0
  #keptBytes = 0
  #isShort = false

  /** @param limitBytes the smallest buffers may exceed it, one for each answer */
  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes
  }

  get lentBytes(): number {
    return this.#lentBytes
  }

  /** Lent and free ones. */
  get heldBytes(): number {
    return this.#lentBytes + this.#keptBytes
  }

  /** The smallest buffer that holds `wantedBytes`, or a smaller one when memory is short. Its content is arbitrary. */
  take(wantedBytes: number): Buffer {
    const size = SIZES.find((one, at) => (SIZES[at + 1] ?? 0) < wantedBytes && this.#fits(one))
    return this.#lend(size ?? SMALL_PIECE_BYTES)
  }

  /** One more large buffer for the same answer; undefined when half of the budget is lent. */
  takeSecond(): Buffer | undefined {
    return !this.#isShort && this.#lentBytes * 2 < this.#limitBytes
      ? this.#lend(LARGE_PIECE_BYTES)
      : undefined
  }

  /** Nobody may use the buffer any more. */
  give(buffer: Buffer): void {
    this.drop(buffer)
    const size = buffer.byteLength
    if (this.#isShort || this.#keptBytes + size > MAX_KEPT_BYTES) return
    this.#keptBytes += size
    this.#free.get(size)?.push(buffer)
  }

  /** Whoever had it last may still use it: it is never lent again. */
  drop(buffer: Buffer): void {
    this.#lentBytes -= buffer.byteLength
  }

  /** While memory is short only the smallest buffers are lent, and none is kept. */
  beShort(isShort: boolean): void {
    this.#isShort = isShort
    if (!isShort) return
    for (const kept of this.#free.values()) kept.length = 0
    this.#keptBytes = 0
  }

  #fits(size: number): boolean {
    return !this.#isShort && this.#lentBytes + size <= this.#limitBytes
  }

  #lend(size: number): Buffer {
    this.#lentBytes += size
    const kept = this.#free.get(size)?.pop()
    if (kept === undefined) return Buffer.allocUnsafeSlow(size)
    this.#keptBytes -= size
    return kept
  }
}
