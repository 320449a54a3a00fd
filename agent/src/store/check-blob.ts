// Looks at complete blobs on disk: all digests again, or only whether a file without a record is what its name says.
// Changes nothing; what to do about a bad blob is for others.
import type { ChunkGeometry } from '@shoal/protocol/chunks.ts'
import { hasCode, ShoalError } from '@shoal/protocol/errors.ts'
import { type BlobId, blobParts } from '@shoal/protocol/ids.ts'
import type { ChunkVoucher } from '@shoal/protocol/messages.ts'
import { blobDigest, type Hashing } from '../hashing.ts'
import { readVouchers } from './blob-reader.ts'
import type { VerifyReport } from './blob-store.ts'
import type { SidecarHeader } from './chunk-codec.ts'
import type { FileHasher } from './file-hasher.ts'
import type { HashRequest, HashResult } from './hash-messages.ts'
import type { StoreLayout } from './layout.ts'
import { INLINE_HASH_BYTES } from './partial-blob.ts'
import { openForReading, readSmallFile } from './store-files.ts'

const DIGEST_BYTES = 32

/** @param header undefined when the blob has no readable sidecar */
export async function checkBlob(
  layout: StoreLayout,
  hashing: Hashing,
  hasher: FileHasher,
  blob: BlobId,
  sizeBytes: number,
  header: SidecarHeader | undefined,
  signal: AbortSignal,
): Promise<VerifyReport> {
  const geometry = header?.geometry
  const vouchers = header === undefined ? new Map() : await readVouchers(layout.sidecar(blob), header)
  const path = layout.blob(blob)
  const request = { path, algorithm: blobParts(blob).algorithm, sizeBytes, chunks: geometry?.text }
  try {
    const result =
      sizeBytes <= INLINE_HASH_BYTES
        ? await hashHere(request, geometry, hashing)
        : await hashInWorker(request, hasher, signal)
    const rightLength = (await lengthOf(path)) === sizeBytes
    const badChunks = badChunksOf(geometry, vouchers, result)
    const ok = result.hex === blobParts(blob).hex && rightLength && badChunks.length === 0
    return { ok, badChunks, bytes: result.bytes }
  } catch (error) {
    // Not a file any more, or not to be opened: nothing of it is what it was.
    if (!hasCode(error, 'store-corrupt')) throw error
    return { ok: false, badChunks: [...Array(geometry?.chunkCount ?? 0).keys()], bytes: 0 }
  }
}

async function hashInWorker(
  request: HashRequest,
  hasher: FileHasher,
  signal: AbortSignal,
): Promise<HashResult> {
  const job = hasher.start(request)
  try {
    job.grow(request.sizeBytes)
    return await job.result(signal)
  } finally {
    job.cancel()
  }
}

/** A small file is hashed before a worker thread would have started. */
async function hashHere(
  request: HashRequest,
  geometry: ChunkGeometry | undefined,
  hashing: Hashing,
): Promise<HashResult> {
  const bytes = await readSmallFile(request.path, INLINE_HASH_BYTES)
  if (bytes === undefined) throw new ShoalError('store-corrupt', `${request.path} is gone`)
  const chunkDigests = new Uint8Array((geometry?.chunkCount ?? 0) * DIGEST_BYTES)
  for (let index = 0; index < (geometry?.chunkCount ?? 0); index++) {
    const range = geometry?.range(index)
    if (range === undefined || range.end > bytes.byteLength) continue
    chunkDigests.set(hashing.blake3(bytes.subarray(range.start, range.end)), index * DIGEST_BYTES)
  }
  return { hex: blobDigest(request.algorithm, bytes), bytes: bytes.byteLength, chunkDigests }
}

function badChunksOf(
  geometry: ChunkGeometry | undefined,
  vouchers: ReadonlyMap<number, ChunkVoucher>,
  result: HashResult,
): number[] {
  const bad: number[] = []
  for (let index = 0; index < (geometry?.chunkCount ?? 0); index++) {
    const digest = result.chunkDigests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES)
    const voucher = vouchers.get(index)
    const unread = digest.every((byte) => byte === 0)
    if (unread || (voucher !== undefined && Buffer.compare(digest, voucher.digest) !== 0)) bad.push(index)
  }
  return bad
}

/** undefined when no file can be opened there. */
async function lengthOf(path: string): Promise<number | undefined> {
  const handle = await openForReading(path)
  if (handle === undefined) return undefined
  const { size } = await handle.stat()
  await handle.close()
  return size
}
