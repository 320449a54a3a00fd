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

/** Bytes pass both. */
export function bothPaces(one: Pace | undefined, other: Pace | undefined): Pace | undefined {
  if (one === undefined || other === undefined) return one ?? other
  return {
    get pieceBytes() {
      return Math.min(one.pieceBytes, other.pieceBytes)
    },
    pass(bytes, signal) {
      const [first, second] = [one.pass(bytes, signal), other.pass(bytes, signal)]
      if (first === undefined || second === undefined) return first ?? second
      return Promise.all([first, second]).then(() => undefined)
    },
  }
}

/** Bytes a second; undefined: no limit. What the operator set. */
export interface LimitValues {
  /** To all peers together. 0: this host gives peers nothing and says that it holds nothing. */
  readonly up: number | undefined
  readonly upPerPeer: number | undefined
  /** From peers and the origin together. */
  readonly down: number | undefined
  /** From the origin. */
  readonly origin: number | undefined
  /** Of one file that is downloaded, from all its sources. */
  readonly perDownload: number | undefined
}

export const NO_LIMITS: LimitValues = {
  up: undefined,
  upPerPeer: undefined,
  down: undefined,
  origin: undefined,
  perDownload: undefined,
}

/** Lowest limit that is taken: below it, other hosts would take this one for dead. 1 Mbit/s. */
export const LEAST_BYTES_PER_SECOND = 125_000
export const MOST_BYTES_PER_SECOND = 1_000_000_000_000

/** Traffic whose limit is not only what the operator set. */
export type LimitedTraffic = 'up' | 'down' | 'origin'

/** Why a limit is what it is: set by the operator, the hour, load of this host, or background mode. */
export type LimitReason = 'set' | 'hours' | 'load' | 'background'

/** The lowest of what is asked for, and who asks for it. `none`: nobody does. */
export interface LimitInForce {
  readonly bytesPerSecond: number | undefined
  readonly because: LimitReason | 'none'
}

export interface HoursStatus {
  readonly now: 'business' | 'off'
  readonly bytesPerSecond: number | undefined
  /** undefined: it stays. */
  readonly next: { readonly at: number; readonly bytesPerSecond: number | undefined } | undefined
}

export interface LoadStatus {
  /** Work of other programs for each processor, 0 to 1 and above; undefined before it was measured. */
  readonly foreignLoad: number | undefined
  readonly reduces: boolean
}

export interface BackgroundStatus {
  readonly enabled: boolean
  /** How much longer than at the best of times a packet is under way, in milliseconds; undefined: not measured just now. */
  readonly queueMs: number | undefined
}

export interface MonthStatus {
  /** Local calendar month, as in `2026-03`. */
  readonly month: string
  readonly usedBytes: number
  /** undefined: no cap. */
  readonly capBytes: number | undefined
  /** 1: used up. 0 without a cap. */
  readonly usedShare: number
  /** Unix milliseconds: when the next month begins. */
  readonly endsAt: number
}

export interface LimitsStatus {
  readonly values: LimitValues
  readonly inForce: Readonly<Record<LimitedTraffic, LimitInForce>>
  readonly hours: HoursStatus | undefined
  readonly load: LoadStatus | undefined
  readonly background: BackgroundStatus
  readonly month: MonthStatus
}

export interface LimitsChange extends Partial<LimitValues> {
  readonly background?: boolean | undefined
}

export interface Limits {
  status(): LimitsStatus
  /** Keys that are not there stay as they are. Holds until the agent ends. @throws ShoalError `bad-request` */
  change(change: LimitsChange): LimitsStatus
}

/** Where traffic with peers passes. */
export interface MeshPace {
  uploads(peer: PeerId): Pace
  readonly downloads: Pace
}
