// Port: where blobs lie. Content-addressed, read-only once complete; a partial blob belongs to one writer at a time.
// Decides nothing about what to fetch or keep, and never serves a byte that was not marked as proven.
import type { ChunkGeometry, ChunkMap } from '@shoal/protocol/chunks.ts'
import type { BlobId } from '@shoal/protocol/ids.ts'
import type { ChunkVoucher } from '@shoal/protocol/messages.ts'
import type { Service } from '@shoal/protocol/service.ts'

/** A complete blob, open for reading. Stays readable until closed even if the blob is removed meanwhile. */
export interface BlobReader {
  readonly sizeBytes: number
  /** The geometry its chunk digests were made for; undefined when none are on record. */
  readonly geometry: ChunkGeometry | undefined
  /** Fills `target` from `position`; throws `store-corrupt` when the file is shorter than recorded. */
  read(target: Uint8Array, position: number): Promise<void>
  /** What the chunk's bytes were proven to be, if on record. */
  voucher(index: number): Promise<ChunkVoucher | undefined>
  close(): Promise<void>
}

/** A blob that is arriving. All methods may be called concurrently; each chunk is written once. */
export interface PartialBlob {
  readonly blob: BlobId
  readonly geometry: ChunkGeometry
  /** Chunks written and marked: survives `kill -9`; after a power loss unsynced ones are checked again by digest. */
  readonly held: ChunkMap
  voucher(index: number): ChunkVoucher | undefined
  /** Writes a chunk that the caller has proven, then marks it. @throws ShoalError `store-full` | `store-failed` */
  write(index: number, bytes: Uint8Array, voucher: ChunkVoucher): Promise<void>
  /** Fills `target` from `position`. Every chunk touched must be held. */
  read(target: Uint8Array, position: number): Promise<void>
  /** Forgets chunks that turned out wrong, on disk too. */
  discard(indices: readonly number[]): Promise<void>
  /**
   * Checks the digest of the whole blob. `extra` is proven chunk content not yet written (the one held back from readers
   * need not be: readers simply are not given it before this resolves).
   * Hashing runs in a worker behind the arriving prefix, so this is quick for data that came mostly in order.
   * Resolves false on mismatch: nothing is published and the caller decides what to discard.
   */
  verifyWhole(signal: AbortSignal): Promise<boolean>
  /** Makes it a complete blob: sync, rename, sync directory, record. Only after `verifyWhole` gave true. */
  publish(): Promise<void>
  /** Gives up the writer's place. Chunks stay on disk for the next one. */
  close(): Promise<void>
}

export interface BlobRecord {
  readonly blob: BlobId
  readonly sizeBytes: number
  /** Bytes held: equals `sizeBytes` exactly for a complete blob. */
  readonly heldBytes: number
  readonly complete: boolean
}

export interface StoreUsage {
  /** Bytes of complete blobs, of held chunks, and of what lies in quarantine. */
  readonly usedBytes: number
  /** Promised to arriving blobs, not written yet. */
  readonly reservedBytes: number
  /** undefined: as much as the disk has. */
  readonly limitBytes: number | undefined
  /** Free on the file system for us, beyond what is promised. */
  readonly freeBytes: number
}

export interface VerifyReport {
  readonly ok: boolean
  /** Chunks whose digest is on record and does not fit, or that cannot be read. */
  readonly badChunks: readonly number[]
  /** Bytes read. */
  readonly bytes: number
}

export interface BlobStore extends Service {
  /** From memory: no I/O. */
  isComplete(blob: BlobId): boolean
  /** Chunks of a partial blob that is on disk or open; undefined if none. */
  partialChunks(blob: BlobId): { readonly geometry: ChunkGeometry; readonly held: ChunkMap } | undefined
  /** undefined when it is not complete here. @throws ShoalError `store-corrupt` */
  open(blob: BlobId): Promise<BlobReader | undefined>
  /**
   * Opens or resumes a partial blob; reserves space first. What is on disk for another geometry is dropped: ask
   * {@link partialChunks} first to go on with it.
   * @throws ShoalError `store-full`, or `conflict` when it already has a writer or is complete
   */
  openPartial(blob: BlobId, geometry: ChunkGeometry): Promise<PartialBlob>
  /** Takes a whole small blob at once (already in memory), checks its digest, publishes. @throws `blob-corrupt` */
  put(blob: BlobId, bytes: Uint8Array): Promise<void>
  /**
   * Removes complete, partial or quarantined content. Open readers keep theirs. True if something was there.
   * @throws ShoalError `conflict` while it has a writer
   */
  remove(blob: BlobId): Promise<boolean>
  /**
   * Re-hashes a complete blob from disk and changes nothing. A file that is no file any more is not ok in all its chunks.
   * @throws ShoalError `not-found` when it is not complete here
   */
  verify(blob: BlobId, signal: AbortSignal): Promise<VerifyReport>
  /** Takes a complete blob out of service and sets it aside, with what is known to be wrong with it. */
  quarantine(blob: BlobId, badChunks: readonly number[]): Promise<void>
  /**
   * Makes a complete or quarantined blob a partial one again that holds its chunks with digests on record, less the bad ones
   * (as given, and as told to {@link quarantine}), so that a repair fetches only those. Nothing is copied.
   * @throws ShoalError `not-found` | `conflict` | `store-full`
   */
  reopenAsPartial(blob: BlobId, geometry: ChunkGeometry, badChunks: readonly number[]): Promise<PartialBlob>
  list(): readonly BlobRecord[]
  usage(): Promise<StoreUsage>
}
