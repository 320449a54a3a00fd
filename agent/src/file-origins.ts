// PURE. Where the bytes of a file come from, as readers and operators are told.
import type { BlobProgress, ByteOrigin, WantedFile } from './downloads-port.ts'
import { IDLE } from './plan/pull-efficiency.ts'

/** Of a file that is arriving, as best known now. */
export function originsOf({ originBytes, peerBytes, heldBytes, diskBytes, peers }: BlobProgress): ByteOrigin {
  const kinds: ByteOrigin[] = []
  if (originBytes > 0) kinds.push('origin')
  if (peerBytes > 0) kinds.push('peers')
  if (diskBytes > 0 && heldBytes > 0) kinds.push('disk')
  const [only, second] = kinds
  if (only === undefined) return peers > 0 ? 'peers' : 'origin'
  return second === undefined ? only : 'mixed'
}

/** The progress of a file that was complete before anybody asked. */
export function progressOnDisk({ manifest, entry }: WantedFile): BlobProgress {
  return {
    blob: entry.blob,
    repo: manifest.repo,
    path: entry.path,
    sizeBytes: entry.sizeBytes,
    heldBytes: entry.sizeBytes,
    state: 'complete',
    peers: 0,
    error: undefined,
    originBytes: 0,
    peerBytes: 0,
    diskBytes: entry.sizeBytes,
    priority: undefined,
    bytesPerSecond: 0,
    doing: IDLE,
  }
}
