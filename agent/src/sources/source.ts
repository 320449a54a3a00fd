// Port: anything a chunk can come from. A source moves bytes and knows nothing of proof; the downloader proves.
import type { ChunkGeometry } from '@shoal/protocol/chunks.ts'
import type { ShoalError } from '@shoal/protocol/errors.ts'
import type { BlobId } from '@shoal/protocol/ids.ts'
import type { ChunkVoucher } from '@shoal/protocol/messages.ts'
import type { Pace } from '../limits-port.ts'

export interface ChunkRequest {
  readonly blob: BlobId
  readonly geometry: ChunkGeometry
  readonly index: number
  /** Exactly the chunk's length; the source fills it from the front. Contents are unproven until the promise resolves and the downloader has checked them. */
  readonly into: Uint8Array
}

export interface FetchOptions {
  /** Aborts the work itself. The source must not touch `into` after its promise has settled. */
  readonly signal: AbortSignal
  /**
   * Told whenever more of `into` is filled: bytes from the front so far. Told of fewer than before when what came was nonsense,
   * before any of it is overwritten.
   */
  readonly onProgress: (filledBytes: number) => void
  /** Told of a failed try that the source is going to repeat by itself. */
  readonly onTrouble?: (error: ShoalError) => void
  /** Limit on what this download takes, beside those of the source: bytes pass both. */
  readonly pace?: Pace | undefined
}

export interface FetchedChunk {
  /** What the holder says the bytes are. Peers send one; the origin has none. */
  readonly voucher?: ChunkVoucher | undefined
  /** BLAKE3 of the bytes, where whoever moved them has computed it. */
  readonly digest?: Uint8Array | undefined
  /** Requests that the holder serves or that wait there, itself not counted any more. */
  readonly line?: number | undefined
}

export interface ChunkSource {
  /** Stable and unique: a peer id, or `origin` for the Hub and its mirrors. */
  readonly id: string
  readonly kind: 'peer' | 'origin'
  /**
   * Fills `request.into` completely or throws.
   * @throws ShoalError `peer-*`, `origin-*`, `bad-message`, `aborted`
   */
  fetch(request: ChunkRequest, options: FetchOptions): Promise<FetchedChunk>
}
