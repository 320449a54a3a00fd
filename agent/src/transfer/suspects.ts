// After a whole file had the wrong digest: which chunks to fetch again from the origin, and who is to blame. A voucher proves
// who said it, not that it is true. Samples each foreign author first, so that one liar does not cost the honest ones' chunks.
import type { ChunkVoucher } from '@shoal/protocol/messages.ts'
import type { PartialBlob } from '../store/blob-store.ts'
import type { Vouchers } from '../vouchers.ts'

/** Chunks of each author that are compared with the origin's in a sampling round. */
const SAMPLES = 2
const SAMPLING_ROUNDS = 2

export class Suspects {
  readonly #vouchers: Vouchers
  /** What foreign authors said of chunks that are fetched again: only the origin's bytes may take their place. */
  readonly #questioned = new Map<number, ChunkVoucher>()
  readonly #liars = new Set<string>()
  #rounds = 0
  #refetchedAll = false

  constructor(vouchers: Vouchers) {
    this.#vouchers = vouchers
  }

  /** A peer's chunk is of no use: its place is questioned, or its author has lied about this blob. */
  refuses(index: number, voucher: ChunkVoucher): boolean {
    return this.#questioned.has(index) || this.#liars.has(keyOf(voucher.author))
  }

  /**
   * Chunks to fetch again, from the origin. Rounds 1 and 2 sample; the third takes every foreign chunk. When nobody else vouched
   * for anything, the origin or this disk was wrong: everything, once. undefined: nothing is left to try.
   */
  nextRound(partial: PartialBlob): number[] | undefined {
    this.#rounds++
    const again: number[] = []
    for (const indices of this.#foreign(partial).values())
      again.push(...(this.#rounds <= SAMPLING_ROUNDS ? sample(indices, this.#rounds - 1) : indices))
    for (const index of again) {
      const voucher = partial.voucher(index)
      if (voucher !== undefined) this.#questioned.set(index, voucher)
    }
    if (again.length > 0) return again
    if (this.#refetchedAll) return undefined
    this.#refetchedAll = true
    return [...partial.held.indices()]
  }

  /**
   * The origin's bytes for a chunk are here.
   * @returns authors (raw keys) proven to have vouched for something else, each once
   */
  proven(index: number, own: ChunkVoucher): readonly Uint8Array[] {
    const questioned = this.#questioned.get(index)
    if (questioned === undefined) return []
    this.#questioned.delete(index)
    if (Buffer.compare(questioned.digest, own.digest) === 0) return []
    const key = keyOf(questioned.author)
    if (this.#liars.has(key)) return []
    this.#liars.add(key)
    return [questioned.author]
  }

  vouchedBy(author: Uint8Array, partial: PartialBlob): number[] {
    return this.#foreign(partial).get(keyOf(author)) ?? []
  }

  #foreign(partial: PartialBlob): Map<string, number[]> {
    const byAuthor = new Map<string, number[]>()
    for (const index of partial.held.indices()) {
      const voucher = partial.voucher(index)
      if (voucher === undefined || this.#vouchers.isOwn(voucher)) continue
      const key = keyOf(voucher.author)
      const indices = byAuthor.get(key)
      if (indices === undefined) byAuthor.set(key, [index])
      else indices.push(index)
    }
    return byAuthor
  }
}

/** A few of them, spread over the file and different in each round. */
function sample(indices: readonly number[], round: number): number[] {
  const step = Math.max(1, Math.floor(indices.length / SAMPLES))
  return indices.filter((_, at) => at % step === round % step).slice(0, SAMPLES)
}

function keyOf(author: Uint8Array): string {
  return Buffer.from(author).toString('base64')
}
