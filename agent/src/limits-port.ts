// Port: bandwidth limits. What moves bytes passes them through a Pace; who sets the rates sees the values. Shapes only.
import type { PeerId } from '@shoal/protocol/ids.ts'

/** Slows one kind of traffic down to its limit. */
export interface Pace {
  /** Move no more than this at once: on a slow limit that many streams share, each then shows signs of life. */
  readonly pieceBytes: number
  /**
   * So many bytes have been moved, or are about to be. undefined: go on at once; else go on when it resolves.
   * @throws the signal's reason
   */
  pass(bytes: number, signal: AbortSignal): Promise<void> | undefined
}

/** For what has no limits at all. */
export const UNLIMITED: Pace = { pieceBytes: Number.POSITIVE_INFINITY, pass: () => undefined }

/** Bytes a second; undefined: no limit. */
export interface LimitValues {
  /** To all peers together. 0: this host gives peers nothing and says that it holds nothing. */
  readonly up: number | undefined
  readonly upPerPeer: number | undefined
  /** From peers and the origin together. */
  readonly down: number | undefined
  /** From the origin. */
  readonly origin: number | undefined
}

/** Lowest limit that is taken: below it, other hosts would take this one for dead. 1 Mbit/s. */
export const LEAST_BYTES_PER_SECOND = 125_000
export const MOST_BYTES_PER_SECOND = 1_000_000_000_000

export interface Limits {
  values(): LimitValues
  /** Keys that are not there stay as they are. Holds until the agent ends. @throws ShoalError `bad-request` */
  change(change: Partial<LimitValues>): LimitValues
}

/** Where traffic with peers passes. */
export interface MeshPace {
  uploads(peer: PeerId): Pace
  readonly downloads: Pace
}
