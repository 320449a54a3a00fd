// The bound on memory that arriving chunks may use, over all downloads. Lends buffers and takes them back for reuse: a chunk
// is 4 MiB, and allocating and zeroing one for each request would cost more than moving its bytes.
import { DEFAULT_CHUNK_BYTES } from '@shoal/protocol/chunks.ts'

const MAX_KEPT = 12

export class ChunkBuffers {
  readonly #limitBytes: number
  readonly #free: Uint8Array[] = []
  readonly #waiting = new Set<() => void>()
  #lentBytes = 0

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes
  }

  get lentBytes(): number {
    return this.#lentBytes
  }

  /** How many chunks of the usual size may be asked for now. */
  get room(): number {
    return Math.max(0, Math.floor((this.#limitBytes - this.#lentBytes) / DEFAULT_CHUNK_BYTES))
  }

  /** Exactly `length` bytes of arbitrary content. Never refuses: callers look at {@link room} first. */
  take(length: number): Uint8Array {
    this.#lentBytes += length
    const kept =
      length > DEFAULT_CHUNK_BYTES / 2 && length <= DEFAULT_CHUNK_BYTES ? this.#free.pop() : undefined
    if (kept !== undefined) return kept.subarray(0, length)
    return Buffer.allocUnsafeSlow(
      length > DEFAULT_CHUNK_BYTES / 2 ? Math.max(length, DEFAULT_CHUNK_BYTES) : length,
    ).subarray(0, length)
  }

  /** Nobody may use the buffer any more. */
  give(buffer: Uint8Array): void {
    this.#lentBytes -= buffer.byteLength
    if (buffer.buffer.byteLength === DEFAULT_CHUNK_BYTES && this.#free.length < MAX_KEPT)
      this.#free.push(new Uint8Array(buffer.buffer))
    for (const wake of [...this.#waiting]) {
      this.#waiting.delete(wake)
      wake()
    }
  }

  /** Calls `wake` once when a buffer is given back. The returned function takes that back. */
  whenGiven(wake: () => void): () => void {
    this.#waiting.add(wake)
    return () => this.#waiting.delete(wake)
  }
}
