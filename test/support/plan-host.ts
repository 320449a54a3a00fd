// What a test's small world is made of, and one host of it: its plan, what it holds, what it has done. State only; plan-world.ts moves it.
import type { Assignment, DownloadPlan, PlanSettings } from '@shoal/agent/plan/download-plan.ts'
import type { PeerFacts } from '@shoal/agent/plan/peer-table.ts'
import { SourceScores } from '@shoal/agent/plan/source-score.ts'
import { ChunkMap } from '@shoal/protocol/chunks.ts'

export interface WorldOptions {
  readonly seed: number
  readonly chunks: number
  /** Shared by all requests to it. */
  readonly originBytesPerSecond?: number
  /** One way, for each message and receiver, uniform in this range. */
  readonly gossipDelayMs?: readonly [number, number]
  readonly askDelayMs?: readonly [number, number]
  /** False: what gossip says of who fetches gets lost. */
  readonly gossip?: boolean
  /** False: nobody tells another what it gained or claims; it shows only in answers. */
  readonly tells?: boolean
  readonly makePlan?: (settings: PlanSettings, scores: SourceScores) => DownloadPlan
}

export interface HostOptions {
  readonly startAt?: number
  readonly whole?: boolean
  readonly held?: ChunkMap
  readonly originDepth?: number
  readonly totalDepth?: number
  /** Chunks that it gives to peers at once. */
  readonly uploadSlots?: number
  readonly upBytesPerSecond?: number
  readonly downBytesPerSecond?: number
  /** This host's own share of the way to the origin. */
  readonly originBytesPerSecond?: number
}

/** What a host does wrong to those that ask it. `dead`: silent in everything, but nobody was told. */
export type Behaviour = 'honest' | 'dead' | 'stuck' | 'liar' | 'false-map' | 'busy' | 'refuses'

export class WorldHost {
  readonly name: string
  readonly options: HostOptions
  readonly scores = new SourceScores()
  readonly held: ChunkMap
  readonly early = new Map<string, PeerFacts>()
  readonly gained: number[] = []
  readonly askedAt = new Map<string, number>()
  readonly wanting = new Set<string>()
  /** Every assignment, and when it was made. */
  readonly started: (Assignment & { readonly at: number })[] = []
  readonly stored: { readonly at: number; readonly index: number; readonly source: string }[] = []
  plan: DownloadPlan | undefined
  behaviour: Behaviour = 'honest'
  whole: boolean
  joined = false
  left = false
  finishedAt: number | undefined
  wakeAt: number | undefined
  pumpQueued = false
  tellQueued = false
  toldAt = Number.NEGATIVE_INFINITY
  originBytes = 0
  uploadedBytes = 0
  duplicateBytes = 0
  corruptChunks = 0
  nextCalls = 0

  constructor(name: string, options: HostOptions, chunks: number) {
    this.name = name
    this.options = options
    this.held = options.held?.clone() ?? new ChunkMap(chunks)
    this.whole = options.whole ?? true
  }
}
