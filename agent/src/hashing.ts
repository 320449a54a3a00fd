// Every digest of the house: BLAKE3 of chunks, SHA-256 and git SHA-1 of blobs. The only file that knows hashing libraries.
// Owns no files and no threads: `store/file-hasher.ts` runs these over whole files.
import { createHash, hash } from 'node:crypto'
import type { BlobAlgorithm } from '@shoal/protocol/ids.ts'

/** BLAKE3 with whichever implementation this machine can load. Both give the same results. */
export interface Hashing {
  readonly kind: 'native' | 'wasm'
  /** 32 bytes. Synchronous: about 1 ms (native) or 7 ms (wasm) for a chunk of 4 MiB. */
  blake3(bytes: Uint8Array): Uint8Array
}

/** A digest that is fed piece by piece. */
export interface BlobDigest {
  update(bytes: Uint8Array): void
  /** Lower-case hex, as a blob id has it. Ends the digest. */
  hex(): string
}

/**
 * Loads the native library where its binary fits this machine, else the WebAssembly one.
 * @param want skips the attempt at the native one when 'wasm'
 */
export async function loadHashing(want: 'fastest' | 'wasm' = 'fastest'): Promise<Hashing> {
  if (want === 'fastest') {
    try {
      const { blake3 } = await import('@napi-rs/blake-hash')
      return { kind: 'native', blake3 }
    } catch {
      // No binary for this platform, or it cannot be loaded here: the other one always can.
    }
  }
  const { createBLAKE3 } = await import('hash-wasm')
  const hasher = await createBLAKE3()
  return { kind: 'wasm', blake3: (bytes) => hasher.init().update(bytes).digest('binary') }
}

/** SHA-256 of a small value, 32 bytes. */
export function sha256(bytes: Uint8Array | string): Uint8Array {
  return hash('sha256', bytes, 'buffer')
}

/** The digest that names a blob. @param sizeBytes its whole size: git's header comes before the content */
export function createBlobDigest(algorithm: BlobAlgorithm, sizeBytes: number): BlobDigest {
  const digest = createHash(algorithm === 'sha256' ? 'sha256' : 'sha1')
  if (algorithm === 'git-sha1') digest.update(`blob ${sizeBytes}\0`)
  return {
    update(bytes) {
      digest.update(bytes)
    },
    hex: () => digest.digest('hex'),
  }
}

/** The digest that names a blob whose bytes are all in memory: lower-case hex. */
export function blobDigest(algorithm: BlobAlgorithm, bytes: Uint8Array): string {
  const digest = createBlobDigest(algorithm, bytes.byteLength)
  digest.update(bytes)
  return digest.hex()
}
