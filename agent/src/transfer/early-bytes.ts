// What readers were given of a chunk while it was still arriving from the origin. Whatever is stored in the end must begin with
// exactly those bytes: here they are remembered and compared. Knows nothing of where they came from.

/** Bytes given out of a buffer that holds something else by now. */
interface Gone {
  readonly bytes: number
  readonly digest: Uint8Array
}

export class EarlyBytes {
  readonly #digest: (bytes: Uint8Array) => Uint8Array
  /** By chunk: buffers that are being filled, and how much was given of each, from its front. */
  readonly #given = new Map<number, Map<Uint8Array, number>>()
  readonly #gone = new Map<number, Gone[]>()

  constructor(digest: (bytes: Uint8Array) => Uint8Array) {
    this.#digest = digest
  }

  /** A reader was given (or passed over) the first `bytes` of what `buffer` holds of the chunk. */
  gave(index: number, buffer: Uint8Array, bytes: number): void {
    const buffers = this.#given.get(index) ?? new Map<Uint8Array, number>()
    this.#given.set(index, buffers)
    buffers.set(buffer, Math.max(bytes, buffers.get(buffer) ?? 0))
  }

  /** Call before the buffer is filled anew, with this chunk or another. */
  lost(index: number, buffer: Uint8Array): void {
    const buffers = this.#given.get(index)
    const bytes = buffers?.get(buffer)
    if (buffers === undefined || bytes === undefined) return
    buffers.delete(buffer)
    if (buffers.size === 0) this.#given.delete(index)
    const gone = this.#gone.get(index) ?? []
    const digest = this.#digest(buffer.subarray(0, bytes))
    const isKnown = gone.some((one) => one.bytes === bytes && Buffer.compare(one.digest, digest) === 0)
    if (!isKnown) this.#gone.set(index, [...gone, { bytes, digest }])
  }

  /** False when a reader was given something else than these bytes of the chunk. */
  agrees(index: number, bytes: Uint8Array): boolean {
    for (const [buffer, given] of this.#given.get(index) ?? []) {
      if (buffer !== bytes && Buffer.compare(buffer.subarray(0, given), bytes.subarray(0, given)) !== 0)
        return false
    }
    return (this.#gone.get(index) ?? []).every(
      (one) => Buffer.compare(this.#digest(bytes.subarray(0, one.bytes)), one.digest) === 0,
    )
  }

  /** The chunk is on disk: nothing more of it is given early. */
  stored(index: number): void {
    this.#given.delete(index)
    this.#gone.delete(index)
  }
}
