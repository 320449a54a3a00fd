// What readers were given of a chunk while it was still arriving from the origin. Whatever is stored in the end must begin with
// exactly those bytes: here they are remembered and compared. Knows nothing of where they came from.

export class EarlyBytes {
  /** How much of each chunk was given, in bytes from its front. */
  readonly #given = new Map<number, number>()
  /** Those bytes, kept when what they came from broke off. */
  readonly #kept = new Map<number, Uint8Array>()

  gave(index: number, bytes: number): void {
    this.#given.set(index, Math.max(bytes, this.#given.get(index) ?? 0))
  }

  /** `buffer` will be used for something else. @param stored the chunk is on disk: nothing more to remember */
  flightOver(index: number, buffer: Uint8Array, stored: boolean): void {
    const given = this.#given.get(index)
    if (given === undefined) return
    this.#given.delete(index)
    const known = this.#kept.get(index)?.byteLength ?? 0
    if (!stored && given > known) this.#kept.set(index, Buffer.from(buffer.subarray(0, given)))
  }

  /** False when a reader was given something else than these bytes, which are about to be stored. */
  agrees(index: number, bytes: Uint8Array): boolean {
    const kept = this.#kept.get(index)
    if (kept === undefined) return true
    this.#kept.delete(index)
    return Buffer.compare(kept, bytes.subarray(0, kept.byteLength)) === 0
  }
}
