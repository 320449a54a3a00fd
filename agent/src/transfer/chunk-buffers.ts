// The bound on memory that arriving chunks may use, over all downloads. Lends buffers and takes them back for reuse: a chunk is up to
// 4 MiB, and allocating and zeroing one for each request would cost more than moving its bytes.
import { DEFAULT_CHUNK_BYTES } from '@shoal/protocol/chunks.ts'

/** Smaller buffers are not worth keeping. */
const LEAST_KEPT_BYTES = 256 * 1024

/** Buffers for chunks, kept for the next one: collecting 4 MiB after each chunk costs as much as decrypting it. */
export class SpareBuffers {
  readonly #maxBytes: number
  readonly #isShared: boolean
  /** By size: a power of two. */
  readonly #free = new Map<number, ArrayBufferLike[]>()
  #keptBytes = 0

  /**
   * @param maxBytes that are kept while nobody uses them
   * @param isShared worker threads can be given the buffers
   */
  constructor(maxBytes: number, isShared = false) {
    this.#maxBytes = maxBytes
    this.#isShared = isShared
  }

  /** Free buffers, for reuse. */
  get keptBytes(): number {
    return this.#keptBytes
  }

  /** Exactly `length` bytes of arbitrary content. */
  take(length: number): Uint8Array {
    if (length < LEAST_KEPT_BYTES) return new Uint8Array(this.#allocate(length), 0, length)
    const sizeBytes = 2 ** Math.ceil(Math.log2(length))
    const kept = this.#free.get(sizeBytes)?.pop()
    if (kept !== undefined) this.#keptBytes -= sizeBytes
    return new Uint8Array(kept ?? this.#allocate(sizeBytes), 0, length)
  }

  /** Nobody uses the buffer any more. */
  keep(buffer: Uint8Array): void {
    const { byteLength: sizeBytes } = buffer.buffer
    if (sizeBytes < LEAST_KEPT_BYTES || this.#keptBytes + sizeBytes > this.#maxBytes) return
    this.#keptBytes += sizeBytes
    const kept = this.#free.get(sizeBytes)
    if (kept === undefined) this.#free.set(sizeBytes, [buffer.buffer])
    else kept.push(buffer.buffer)
  }

  /** Lets go of kept buffers until no more than `bytes` are left. */
  dropBeyond(bytes: number): void {
    for (const [sizeBytes, kept] of this.#free)
      while (this.#keptBytes > bytes && kept.pop() !== undefined) this.#keptBytes -= sizeBytes
  }

  #allocate(sizeBytes: number): ArrayBufferLike {
    return this.#isShared ? new SharedArrayBuffer(sizeBytes) : Buffer.allocUnsafeSlow(sizeBytes).buffer
  }
}

export class ChunkBuffers {
  readonly #limitBytes: number
  readonly #spare: SpareBuffers
  readonly #waiting = new Set<() => void>()
  #lentBytes = 0
  #isShort = false

  /** @param isShared worker threads can be given the buffers */
  constructor(limitBytes: number, isShared = false) {
    this.#limitBytes = limitBytes
    this.#spare = new SpareBuffers(limitBytes, isShared)
  }

  get lentBytes(): number {
    return this.#lentBytes
  }

  /** Free buffers, for reuse. */
  get keptBytes(): number {
    return this.#spare.keptBytes
  }

  /** How many chunks of the largest usual size may be asked for now. */
  get room(): number {
    if (this.#isShort) return 0
    return Math.max(0, Math.floor((this.#limitBytes - this.#lentBytes) / DEFAULT_CHUNK_BYTES))
  }

  /** Exactly `length` bytes of arbitrary content. Never refuses: callers look at {@link room} first. */
  take(length: number): Uint8Array {
    this.#lentBytes += length
    const buffer = this.#spare.take(length)
    this.#spare.dropBeyond(this.#limitBytes - this.#lentBytes)
    return buffer
  }

  /** Nobody may use the buffer any more. */
  give(buffer: Uint8Array): void {
    this.#lentBytes -= buffer.byteLength
    if (!this.#isShort) this.#spare.keep(buffer)
    this.#spare.dropBeyond(this.#limitBytes - this.#lentBytes)
    this.#wake()
  }

  /** While memory is short there is no room, and nothing is kept for reuse. */
  beShort(isShort: boolean): void {
    this.#isShort = isShort
    if (isShort) this.#spare.dropBeyond(0)
    else this.#wake()
  }

  /** Calls `wake` once when a buffer is given back. The returned function takes that back. */
  whenGiven(wake: () => void): () => void {
    this.#waiting.add(wake)
    return () => this.#waiting.delete(wake)
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) {
      this.#waiting.delete(wake)
      wake()
    }
  }
}
