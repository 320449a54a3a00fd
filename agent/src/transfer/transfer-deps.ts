// What a transfer is given to work with. Shapes only.
import type { BlobId, PeerId } from '@shoal/protocol/ids.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import type { Pace } from '../limits-port.ts'
import type { Log } from '../log.ts'
import type { DownloadPlan, PlanSettings } from '../plan/download-plan.ts'
import type { SourceScores } from '../plan/source-score.ts'
import type { ReadRights } from '../read-rights.ts'
import type { ChunkSource } from '../sources/source.ts'
import type { BlobStore } from '../store/blob-store.ts'
import type { Vouchers } from '../vouchers.ts'
import type { ChunkBuffers } from './chunk-buffers.ts'
import type { Swarm } from './swarm.ts'

export interface TransferCounters {
  bytes(from: 'origin' | 'peer', bytes: number): void
  chunk(result: 'verified' | 'corrupt' | 'duplicate', count: number): void
  /** A file has arrived, or will not. Cancelled ones are nobody's failure and are not told. */
  download(result: 'complete' | 'failed', seconds: number): void
}

export interface TransferDeps {
  readonly clock: Clock
  readonly log: Log
  readonly store: BlobStore
  readonly scores: SourceScores
  readonly swarm: Pick<Swarm, 'join' | 'leave' | 'gained' | 'wants' | 'claimed'>
  readonly vouchers: Vouchers
  readonly rights: ReadRights
  readonly buffers: ChunkBuffers
  readonly counters: TransferCounters
  /** A limit for one download, beside those that hold for all; none without it. */
  readonly downloadPace?: () => Pace
  readonly self: PeerId
  readonly originDepth: number
  readonly totalDepth: number
  readonly originFetchers: number
  readonly makePlan: (settings: PlanSettings, scores: SourceScores) => DownloadPlan
  readonly peer: (peer: PeerId) => ChunkSource
  readonly ban: (peer: PeerId, durationMs: number, reason: string) => void
  /** Bytes that readers may have been given are wrong. */
  readonly wrongBytes: (blob: BlobId) => void
  readonly peerOfKey: (publicKey: Uint8Array) => PeerId
  readonly onFailure: (name: string, error: unknown) => void
}
