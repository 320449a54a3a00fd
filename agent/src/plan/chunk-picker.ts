// PURE. Which chunks of a blob are still to be asked for, and how many hosts hold each: the book-keeping behind
// "rarest first" that stays fast at 35,000 chunks. Knows nothing of sources' scores or of time.
import { ChunkMap } from '@shoal/protocol/chunks.ts'

/** At most this many candidates are looked at for one pick: near-rarest at constant cost. */
const SAMPLE = 256

export class ChunkPicker {
  readonly chunkCount: number
  readonly #copies: Uint16Array
  readonly #open: ChunkMap
  #reopened = 0
  /** Where sampling starts; moves on with every chunk that is taken. */
  #rotation: number

  /** @param rotation where sampling starts: different on every host, so that hosts do not all pick the same chunk */
  constructor(held: ChunkMap, rotation: number) {
    this.chunkCount = held.chunkCount
    this.#copies = new Uint16Array(held.chunkCount)
    this.#open = new ChunkMap(held.chunkCount)
    this.#rotation = held.chunkCount === 0 ? 0 : (rotation >>> 0) % held.chunkCount
    for (let index = 0; index < held.chunkCount; index++) if (!held.has(index)) this.#open.add(index)
  }

  get openCount(): number {
    return this.#open.held
  }

  /** Grows whenever a chunk becomes open again or loses a known copy: what was skipped must be looked at anew. */
  get reopened(): number {
    return this.#reopened
  }

  isOpen(index: number): boolean {
    return this.#open.has(index)
  }

  /** The chunk is to be asked for (again). True if it was not open. */
  open(index: number): boolean {
    if (!this.#open.add(index)) return false
    this.#reopened++
    return true
  }

  /** The chunk is held or asked for. True if it was open. */
  close(index: number): boolean {
    if (!this.#open.delete(index)) return false
    this.#rotation = (this.#rotation + 97) % this.chunkCount
    return true
  }

  /** Hosts known to hold the chunk, not counting those that hold all: they change nothing about which is rarest. */
  copies(index: number): number {
    return this.#copies[index] ?? 0
  }

  addCopy(index: number): void {
    this.#copies[index] = Math.min((this.#copies[index] ?? 0) + 1, 0xffff)
  }

  removeCopy(index: number): void {
    this.#copies[index] = Math.max((this.#copies[index] ?? 0) - 1, 0)
    this.#reopened++
  }

  /** Open chunks that `holds` has. */
  openIn(holds: ChunkMap | 'all'): number {
    if (holds === 'all') return this.#open.held
    let count = 0
    for (
      let index = this.nextOpen(0, holds);
      index < this.chunkCount;
      index = this.nextOpen(index + 1, holds)
    )
      count++
    return count
  }

  /** First open chunk from `from` on (that `holds` has); `chunkCount` if none. */
  nextOpen(from: number, holds: ChunkMap | 'all' = 'all'): number {
    return this.#open.firstCommon(holds === 'all' ? this.#open : holds, from)
  }

  /** An open chunk that `holds` has with the fewest copies, among a rotating sample; undefined if it has none. */
  rarest(holds: ChunkMap | 'all', allowed: (index: number) => boolean = () => true): number | undefined {
    let best: number | undefined
    let bestCopies = Number.POSITIVE_INFINITY
    const rarestPossible = holds === 'all' ? 0 : 1
    let looked = 0
    for (const [from, before] of [
      [this.#rotation, this.chunkCount],
      [0, this.#rotation],
    ] as const) {
      for (
        let index = this.nextOpen(from, holds);
        index < before && looked < SAMPLE;
        index = this.nextOpen(index + 1, holds)
      ) {
        if (!allowed(index)) continue
        looked++
        if (this.copies(index) >= bestCopies) continue
        best = index
        bestCopies = this.copies(index)
        if (bestCopies <= rarestPossible) return best
      }
    }
    return best
  }
}
