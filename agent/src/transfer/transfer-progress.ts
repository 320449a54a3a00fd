// How far a blob has come and from where, as others are told. Counts only.
import { type ChunkGeometry, type ChunkMap, chunkLength } from '@shoal/protocol/chunks.ts'
import type { BlobProgress, WantedFile } from '../downloads-port.ts'

export class TransferProgress {
  readonly #file: WantedFile
  readonly #geometry: ChunkGeometry
  readonly #moved = { originBytes: 0, peerBytes: 0, diskBytes: 0 }

  constructor(file: WantedFile, geometry: ChunkGeometry) {
    this.#file = file
    this.#geometry = geometry
  }

  /** What was on disk before anything was fetched. */
  begins(held: ChunkMap): void {
    this.#moved.diskBytes = heldBytes(held, this.#geometry)
  }

  moved(fromOrigin: boolean, bytes: number): void {
    if (fromOrigin) this.#moved.originBytes += bytes
    else this.#moved.peerBytes += bytes
  }

  /** @param held undefined when the chunks are not known (any more) */
  report(now: Pick<BlobProgress, 'state' | 'peers' | 'error'>, held: ChunkMap | undefined): BlobProgress {
    const { manifest, entry } = this.#file
    const { sizeBytes } = this.#geometry
    const known = held === undefined ? 0 : heldBytes(held, this.#geometry)
    return {
      blob: entry.blob,
      repo: manifest.repo,
      path: entry.path,
      sizeBytes,
      heldBytes: now.state === 'complete' ? sizeBytes : known,
      ...now,
      ...this.#moved,
    }
  }
}

/** In constant time: it is asked for at every step of every download. */
function heldBytes(held: ChunkMap, geometry: ChunkGeometry): number {
  if (geometry.chunkCount === 0) return 0
  const full = chunkLength(geometry, 0)
  const last = geometry.chunkCount - 1
  return held.held * full - (held.has(last) ? full - chunkLength(geometry, last) : 0)
}
