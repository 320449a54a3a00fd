// The bound on memory that arriving chunks may use, over all downloads. Lends buffers and takes them back for reuse: a chunk is up to
// 4 MiB, and allocating and zeroing one for each request would cost more than moving its bytes.
import { DEFAULT_CHUNK_BYTES } from '@shoal/protocol/chunks.ts'

/** Smaller buffers are not worth keeping. */
const LEAST_KEPT_BYTES = 256 * 1024

export class ChunkBuffers {
  readonly #limitBytes: number
  /** By size: a power of two. */
  readonly #free = new Map<number, ArrayBufferLike[]>()
  readonly #waiting = new Set<() => void>()
  #lentBytes = 0
  #keptBytes = 0
  #isShort = false

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes
  }

  get lentBytes(): number {
    return this.#lentBytes
  }

  /** Free buffers, for reuse. */
  get keptBytes(): number {
    return this.#keptBytes
  }

  /** How many chunks of the largest usual size may be asked for now. */
  get room(): number {
    if (this.#isShort) return 0
    return Math.max(0, Math.floor((this.#limitBytes - this.#lentBytes) / DEFAULT_CHUNK_BYTES))
  }

  /** Exactly `length` bytes of arbitrary content. Never refuses: callers look at {@link room} first. */
  take(length: number): Uint8Array {
    this.#lentBytes += length
    if (length < LEAST_KEPT_BYTES) return Buffer.allocUnsafeSlow(length)
    const sizeBytes = 2 ** Math.ceil(Math.log2(length))
    const kept = this.#free.get(sizeBytes)?.pop()
    if (kept !== undefined) this.#keptBytes -= sizeBytes
    else this.#dropBeyond(this.#limitBytes - sizeBytes)
    return new Uint8Array(kept ?? Buffer.allocUnsafeSlow(sizeBytes).buffer, 0, length)
  }

  /** Nobody may use the buffer any more. */
  give(buffer: Uint8Array): void {
    this.#lentBytes -= buffer.byteLength
    const { byteLength: sizeBytes } = buffer.buffer
    const mayKeep = !this.#isShort && this.#lentBytes + this.#keptBytes + sizeBytes <= this.#limitBytes
    if (sizeBytes >= LEAST_KEPT_BYTES && mayKeep) {
      this.#keptBytes += sizeBytes
      const kept = this.#free.get(sizeBytes)
      if (kept === undefined) this.#free.set(sizeBytes, [buffer.buffer])
      else kept.push(buffer.buffer)
    }
    this.#wake()
  }

  /** While memory is short there is no room, and nothing is kept for reuse. */
  beShort(isShort: boolean): void {
    this.#isShort = isShort
    if (isShort) this.#dropBeyond(0)
    else this.#wake()
  }

  /** Lets go of kept buffers until what is lent and kept is no more than `bytes`, as far as that is possible. */
  #dropBeyond(bytes: number): void {
    for (const [sizeBytes, kept] of this.#free)
      while (this.#lentBytes + this.#keptBytes > bytes && kept.pop() !== undefined)
        this.#keptBytes -= sizeBytes
  }

  #wake(): void {
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
