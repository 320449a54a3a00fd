// What the parts of a simulated world share: its options, its hosts, its clock and its network. Holds no rules of its own.
import type { DownloadPlan, PlanSettings } from '@shoal/agent/plan/download-plan.ts'
import type { SourceScores } from '@shoal/agent/plan/source-score.ts'
import type { ErrorCode } from '@shoal/protocol/errors.ts'
import type { EventQueue } from './events.ts'
import type { SimHost } from './host.ts'
import type { Network } from './network.ts'

export const BLOB = 'blob'

/** Sizes on the wire, measured between real hosts. */
export const ASK_BYTES = 140

export interface WorldOptions {
  readonly seed: number
  readonly chunks: number
  readonly chunkBytes: number
  readonly originBytesPerSecond: number
  /** Bytes a second of one request to the origin, at most. */
  readonly originPerRequest?: number
  readonly originDelayMs: number
  /** One way, between hosts: uniform in this range. */
  readonly delayMs: readonly [number, number]
  /** How long gossip takes to a host: uniform in this range. */
  readonly gossipDelayMs: readonly [number, number]
  /** How long what a host tells its neighbours takes; absent: as long as other messages. */
  readonly tellDelayMs?: readonly [number, number]
  readonly originFetchers: number
  readonly originDepth: number
  readonly totalDepth: number
  /** Connections of a host when there are more hosts than that. */
  readonly connections: number
  readonly makePlan?: (settings: PlanSettings, scores: SourceScores) => DownloadPlan
}

export interface Stage {
  readonly options: WorldOptions
  readonly hosts: readonly SimHost[]
  readonly events: EventQueue
  readonly network: Network
  readonly originLink: number
  readonly originFails: ErrorCode | undefined
  /** True between two hosts that cannot reach each other; `undefined` is the origin. */
  readonly isCut: (a: SimHost, b: SimHost | undefined) => boolean
  hostNamed(name: string): SimHost | undefined
  /** Runs `run` after a time that is uniform in the range. */
  later(rangeMs: readonly [number, number], run: () => void): void
  /** The host's plan is asked within so long. */
  pumpSoon(host: SimHost, delayMs?: number): void
}
