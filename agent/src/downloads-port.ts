// Port: getting a file's bytes, wherever they are. Readers of one blob share one download (single flight).
import type { ByteRange } from '@shoal/protocol/chunks.ts'
import type { BlobId, Repo, Revision } from '@shoal/protocol/ids.ts'
import type { FileEntry, Manifest } from '@shoal/protocol/manifest.ts'
import type { Caller } from './catalog-port.ts'
import type { Priority } from './plan/download-queue.ts'
import type { Doing } from './plan/pull-efficiency.ts'

/** A file whose reader has already been checked for access. */
export interface WantedFile {
  readonly manifest: Manifest
  readonly entry: FileEntry
  readonly caller: Caller
  /** What the reader asked for; becomes a ref of the Hub view when it is not the commit itself. */
  readonly revision?: Revision | undefined
}

/** Where the bytes of an answer come from, as `X-Shoal-Source` says it. */
export type ByteOrigin = 'disk' | 'peers' | 'origin' | 'mixed'

export interface FileReader {
  readonly sizeBytes: number
  /**
   * A wrong byte of this blob went out to some reader not long ago (its digest failed at the end): a client that comes back
   * with "the rest from byte N" holds a bad prefix and must be given the whole file with status 200.
   */
  readonly suspectPrefix: boolean
  /** Best knowledge at the time of opening. */
  readonly from: ByteOrigin
  /**
   * The bytes of `range` in order, as soon as they may be released. Pull-based: nothing is read ahead of the consumer
   * beyond one piece. Each piece belongs to the consumer. Throws if the blob turns out wrong (after a prefix may have been given):
   * the consumer must then cut its own stream, never end it cleanly.
   */
  bytes(range: ByteRange, signal: AbortSignal): AsyncIterable<Uint8Array>
  /**
   * Present when the whole file is on disk: fills all of `target` from `position`, for consumers with buffers of their own.
   * @throws ShoalError `store-corrupt` | `store-failed`
   */
  readonly read?: (target: Uint8Array, position: number) => Promise<void>
  close(): Promise<void>
}

export interface TransferCounts {
  readonly originBytes: number
  readonly peerBytes: number
  readonly diskBytes: number
}

export interface BlobProgress extends TransferCounts {
  readonly blob: BlobId
  readonly repo: Repo
  readonly path: string
  readonly sizeBytes: number
  readonly heldBytes: number
  /** `paused`: all who want the whole of it are paused; readers are served all the same. */
  readonly state: 'running' | 'verifying' | 'paused' | 'complete' | 'failed' | 'cancelled'
  readonly peers: number
  readonly error: string | undefined
  /** The highest class of those that want it; undefined: nobody wants it just now. */
  readonly priority: Priority | undefined
  readonly bytesPerSecond: number
  readonly doing: Doing
}

export interface FetchWish {
  readonly signal: AbortSignal
  /** By default `pull`. */
  readonly priority?: Priority
  readonly onProgress?: (progress: BlobProgress) => void
}

export interface Downloads {
  /**
   * Opens a file for reading; starts or joins its download when it is not whole on disk. With `first`, the range that will be
   * read, bytes start to come before they are asked for, and a download whose every source fails at once is an error here
   * instead of a silent stream (waits at most a second for that). @throws ShoalError `origin-*`, `no-source`, `store-*`
   */
  open(file: WantedFile, first?: ByteRange): Promise<FileReader>
  /** Resolves when the whole file is complete on this host. */
  fetch(file: WantedFile, wish: FetchWish): Promise<BlobProgress>
  /**
   * What has arrived of a file that is arriving now stays within reach of peers and readers, but nobody fetches more of it for the caller.
   * @returns ends that. May be called twice
   */
  hold(file: WantedFile): () => void
  active(): readonly BlobProgress[]
}
