// What the hashing workers and their pool say to each other. Shapes only.
import type { BlobAlgorithm } from '@shoal/protocol/ids.ts'

export interface HashRequest {
  readonly path: string
  readonly algorithm: BlobAlgorithm
  readonly sizeBytes: number
  /** Also gives the BLAKE3 of each chunk of this geometry (`ChunkGeometry.text`). */
  readonly chunks?: string | undefined
}

export interface HashResult {
  /** Digest of the whole file, or of what there was of it. */
  readonly hex: string
  /** Bytes that could be read; less than `sizeBytes` when the file is short or unreadable in places. */
  readonly bytes: number
  /** 32 bytes a chunk, in order; zeros for a chunk that could not be read. Empty unless asked for. */
  readonly chunkDigests: Uint8Array
}

export type ToHashWorker =
  | { readonly kind: 'start'; readonly id: number; readonly request: HashRequest }
  /** Bytes up to `bytes` are on disk. */
  | { readonly kind: 'grow'; readonly id: number; readonly bytes: number }
  | { readonly kind: 'cancel'; readonly id: number }

export type FromHashWorker =
  | { readonly kind: 'done'; readonly id: number; readonly result: HashResult }
  | { readonly kind: 'failed'; readonly id: number; readonly errno: string; readonly message: string }
