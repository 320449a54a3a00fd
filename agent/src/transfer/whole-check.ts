// The last word on a blob: the digest of the whole. Publishes what is right; has fetched again what is not, and finds out who
// vouched for it. Asks nobody for chunks itself.
import { ShoalError } from '@shoal/protocol/errors.ts'
import type { BlobId, PeerId } from '@shoal/protocol/ids.ts'
import type { ChunkVoucher } from '@shoal/protocol/messages.ts'
import type { Log } from '../log.ts'
import type { PartialBlob } from '../store/blob-store.ts'
import type { Vouchers } from '../vouchers.ts'
import { Suspects } from './suspects.ts'

export interface WholeCheckHooks {
  readonly log: Log
  readonly vouchers: Vouchers
  readonly peerOfKey: (publicKey: Uint8Array) => PeerId
  /** What readers were given before may be wrong. */
  readonly wrong: (error: ShoalError) => void
  /** The digest of the whole has passed. */
  readonly proven: () => void
  /** A host vouched for what the origin does not have. */
  readonly liar: (peer: PeerId) => void
  /** These chunks are on disk no more and are to be fetched again. @param originOnly peers' copies of them are no use */
  readonly discarded: (indices: readonly number[], originOnly: boolean) => void
}

export class WholeCheck {
  readonly #blob: BlobId
  readonly #path: string
  readonly #hooks: WholeCheckHooks
  readonly #suspects: Suspects
  #proven = false
  /** The digest of the whole was wrong, and is not right yet. */
  #inDoubt = false

  constructor(blob: BlobId, path: string, hooks: WholeCheckHooks) {
    this.#blob = blob
    this.#path = path
    this.#hooks = hooks
    this.#suspects = new Suspects(hooks.vouchers)
  }

  /** The digest of the whole has passed: what is held is the file. */
  get proven(): boolean {
    return this.#proven
  }

  /**
   * Every chunk is held. `complete`: published. `again`: some were discarded.
   * @throws ShoalError `blob-corrupt` when nothing is left to try; `store-*`
   */
  async finish(partial: PartialBlob, signal: AbortSignal): Promise<'complete' | 'again'> {
    if (await partial.verifyWhole(signal)) {
      // Before the file is made safe on disk, which may take seconds: no reader needs to wait for that.
      this.#proven = true
      this.#hooks.proven()
      await partial.publish()
      return 'complete'
    }
    const error = new ShoalError('blob-corrupt', `${this.#path} does not have the digest that the Hub gave`)
    this.#hooks.log.warn({ blob: this.#blob, path: this.#path }, 'the digest of a whole file is wrong')
    this.#inDoubt = true
    this.#hooks.wrong(error)
    const indices = this.#suspects.nextRound(partial)
    if (indices === undefined) {
      // Not to be given to anybody, nor to be taken for good by the next download.
      await partial.discard([...partial.held.indices()])
      throw error
    }
    await this.#discard(partial, indices, true)
    return 'again'
  }

  /** In doubt only what this host has from the origin may be given on. */
  mayGive(partial: PartialBlob, index: number): boolean {
    const voucher = this.#inDoubt ? partial.voucher(index) : undefined
    return voucher === undefined || this.#hooks.vouchers.isOwn(voucher)
  }

  /** A chunk came from the origin. Whoever vouched for something else in its place is found out. */
  async provenByOrigin(partial: PartialBlob, index: number, own: ChunkVoucher): Promise<void> {
    for (const author of this.#suspects.proven(index, own)) {
      const peer = this.#hooks.peerOfKey(author)
      this.#hooks.log.warn({ peer, blob: this.#blob }, 'a host vouched for wrong bytes')
      this.#hooks.liar(peer)
      await this.#discard(partial, this.#suspects.vouchedBy(author, partial), false)
    }
  }

  /** @throws ShoalError `peer-lacks-chunk` when a peer's chunk is of no use, although its voucher is good */
  checkWord(index: number, voucher: ChunkVoucher): void {
    if (this.#suspects.refuses(index, voucher))
      throw new ShoalError(
        'peer-lacks-chunk',
        `chunk ${index} is vouched for by a host that has lost its word`,
      )
  }

  async #discard(partial: PartialBlob, indices: readonly number[], originOnly: boolean): Promise<void> {
    await partial.discard(indices)
    // Only now can no reader come by them any more: those that did must not go on.
    this.#hooks.wrong(new ShoalError('blob-corrupt', `chunks of ${this.#path} turned out wrong`))
    this.#hooks.discarded(indices, originOnly)
  }
}
