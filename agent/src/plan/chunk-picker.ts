// PURE. Which chunks of a blob are still to be asked for, and how many hosts hold each: the book-keeping behind
// "rarest first" that stays fast at 35,000 chunks. Knows nothing of sources' scores or of time.
import type { ChunkMap } from '@shoal/protocol/chunks.ts'

/** At most this many candidates are looked at for one pick: near-rarest at constant cost. */
const SAMPLE = 256

export class ChunkPicker {
  readonly #copies: Uint16Array
  /** Indices to be asked for, in no order, and where each stands in that list (-1: not in it). */
  readonly #open: number[] = []
  readonly #place: Int32Array
  #rotation: number

  /** @param rotation where sampling starts: different on every host, so that hosts do not all pick the same chunk */
  constructor(held: ChunkMap, rotation: number) {
    this.#copies = new Uint16Array(held.chunkCount)
    this.#place = new Int32Array(held.chunkCount).fill(-1)
    this.#rotation = rotation >>> 0
    for (let index = 0; index < held.chunkCount; index++) if (!held.has(index)) this.open(index)
  }

  get openCount(): number {
    return this.#open.length
  }

  isOpen(index: number): boolean {
    return (this.#place[index] ?? -1) >= 0
  }

  /** The chunk is to be asked for (again). */
  open(index: number): void {
    if (this.isOpen(index)) return
    this.#place[index] = this.#open.length
    this.#open.push(index)
  }

  /** The chunk is held or asked for. */
  close(index: number): void {
    const place = this.#place[index] ?? -1
    if (place < 0) return
    const last = this.#open.pop()
    if (last !== undefined && last !== index) {
      this.#open[place] = last
      this.#place[last] = place
    }
    this.#place[index] = -1
  }

  copies(index: number): number {
    return this.#copies[index] ?? 0
  }

  addCopy(index: number): void {
    this.#copies[index] = Math.min((this.#copies[index] ?? 0) + 1, 0xffff)
  }

  removeCopy(index: number): void {
    this.#copies[index] = Math.max((this.#copies[index] ?? 0) - 1, 0)
  }

  /** An open chunk that `holds` with the fewest copies, among a rotating sample. */
  rarest(holds: (index: number) => boolean): number | undefined {
    const count = this.#open.length
    let best: number | undefined
    let bestCopies = Number.POSITIVE_INFINITY
    let looked = 0
    for (let step = 0; step < count && looked < SAMPLE; step++) {
      const index = this.#open[(this.#rotation + step) % count]
      if (index === undefined || !holds(index)) continue
      looked++
      const copies = this.copies(index)
      if (copies < bestCopies) {
        bestCopies = copies
        best = index
        if (copies <= 1) break
      }
    }
    this.#rotation = (this.#rotation + 97) >>> 0
    return best
  }

  /** All open chunks for which `test` holds, lowest first, at most `limit`. */
  lowest(test: (index: number) => boolean, limit: number, from = 0): number[] {
    const found: number[] = []
    for (let index = from; index < this.#place.length && found.length < limit; index++) {
      if (this.isOpen(index) && test(index)) found.push(index)
    }
    return found
  }
}
