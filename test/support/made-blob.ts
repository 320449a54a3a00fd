// Blobs made for tests: seeded bytes, their id, their chunks and vouchers as a store wants them. Signatures are not real.

import { createHash } from 'node:crypto'
import { blobDigest, loadHashing } from '@shoal/agent/hashing.ts'
import { type ChunkGeometry, fixedSlices } from '@shoal/protocol/chunks.ts'
import { type BlobAlgorithm, type BlobId, parseBlobId } from '@shoal/protocol/ids.ts'
import type { ChunkVoucher } from '@shoal/protocol/messages.ts'

export interface MadeBlob {
  readonly blob: BlobId
  readonly bytes: Buffer
  readonly geometry: ChunkGeometry
  chunk(index: number): Buffer
  voucher(index: number): ChunkVoucher
}

const { blake3 } = await loadHashing()

/** The same `seed` gives the same bytes. */
export function makeBlob(
  seed: number,
  sizeBytes: number,
  options: { readonly chunkBytes?: number; readonly algorithm?: BlobAlgorithm } = {},
): MadeBlob {
  const { chunkBytes = 64 * 1024, algorithm = 'sha256' } = options
  const bytes = seededBytes(seed, sizeBytes)
  const geometry = fixedSlices(sizeBytes, chunkBytes)
  const chunk = (index: number) => {
    const { start, end } = geometry.range(index)
    return bytes.subarray(start, end)
  }
  return {
    blob: parseBlobId(`${algorithm}:${blobDigest(algorithm, bytes)}`),
    bytes,
    geometry,
    chunk,
    voucher: (index) => ({
      digest: blake3(chunk(index)),
      author: new Uint8Array(32).fill(1 + (index % 2)),
      signature: new Uint8Array(64).fill(index % 256),
    }),
  }
}

function seededBytes(seed: number, sizeBytes: number): Buffer {
  // XOF output: any length, quick, and the same on every machine.
  return createHash('shake256', { outputLength: Math.max(1, sizeBytes) })
    .update(`seed ${seed}`)
    .digest()
    .subarray(0, sizeBytes)
}
