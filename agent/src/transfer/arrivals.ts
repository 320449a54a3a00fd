// A chunk that has arrived, on its way from its buffer to the disk: proven, compared with what readers were given of it while it
// came, written. The one way in. Does not know who is to blame for what does not pass; the error's code says so.
import type { ChunkGeometry } from '@shoal/protocol/chunks.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
import type { BlobId } from '@shoal/protocol/ids.ts'
import type { FetchedChunk } from '../sources/source.ts'
import type { PartialBlob } from '../store/blob-store.ts'
import type { Vouchers } from '../vouchers.ts'
import type { Flight } from './chunk-flights.ts'
import { EarlyBytes } from './early-bytes.ts'
import type { WholeCheck } from './whole-check.ts'

export interface ArrivalHooks {
  readonly vouchers: Vouchers
  readonly check: Pick<WholeCheck, 'provenByOrigin' | 'checkWord'>
  /** A reader was given something else than what is stored. */
  readonly wrong: (error: ShoalError) => void
}

export class Arrivals {
  readonly #blob: BlobId
  readonly #geometry: ChunkGeometry
  readonly #hooks: ArrivalHooks
  readonly #early: EarlyBytes

  constructor(blob: BlobId, geometry: ChunkGeometry, hooks: ArrivalHooks) {
    this.#blob = blob
    this.#geometry = geometry
    this.#hooks = hooks
    this.#early = new EarlyBytes((bytes) => hooks.vouchers.digest(bytes))
  }

  /** A reader was given the first `bytes` of a chunk that is still arriving. */
  releasedEarly({ assignment: { index }, buffer }: Flight, bytes: number): void {
    this.#early.gave(index, buffer, bytes)
  }

  /** What is in the flight's buffer is about to be overwritten. */
  lost({ assignment: { index }, buffer }: Flight): void {
    this.#early.lost(index, buffer)
  }

  /**
   * @param fetched what the peer said that the bytes are, and what they are if whoever moved them knows
   * @returns `duplicate` when the chunk was held already
   * @throws ShoalError `chunk-corrupt` | `bad-message` | `peer-lacks-chunk` | `store-*`
   */
  async land(
    partial: PartialBlob,
    { assignment: { index }, buffer, fromOrigin }: Flight,
    fetched: Pick<FetchedChunk, 'voucher' | 'digest'>,
  ): Promise<'verified' | 'duplicate'> {
    const { vouchers, check } = this.#hooks
    const place = { blob: this.#blob, geometry: this.#geometry, index }
    // Of a peer that came too late as well: it may not get credit for anything else than the chunk.
    const brought = fromOrigin ? undefined : vouchers.check(place, buffer, fetched.voucher, fetched.digest)
    if (partial.held.has(index)) return 'duplicate'
    const voucher = brought ?? vouchers.make(place, buffer)
    if (fromOrigin) await check.provenByOrigin(partial, index, voucher)
    else check.checkWord(index, voucher)
    await partial.write(index, buffer, voucher)
    // Not sooner: while it was written, readers may have gone on with another copy that is still arriving.
    if (!this.#early.agrees(index, buffer))
      this.#hooks.wrong(new ShoalError('blob-corrupt', `chunk ${index} is not what was read of it before`))
    this.#early.stored(index)
    return 'verified'
  }
}
