// One simulated host: the production decisions it runs (plan, scores, neighbours, upload order) and its books. State only; world.ts moves it.
import type { DownloadPlan } from '@shoal/agent/plan/download-plan.ts'
import type { Distance, Neighbours } from '@shoal/agent/plan/neighbours.ts'
import { SourceScores } from '@shoal/agent/plan/source-score.ts'
import { UploadOrder } from '@shoal/agent/plan/upload-order.ts'
import { ChunkMap } from '@shoal/protocol/chunks.ts'

/** What a host does wrong. `dead`: silent, and nobody is told. `stopped`: the same for a while. `liar`: sends wrong bytes. */
export type Behaviour = 'honest' | 'dead' | 'stopped' | 'liar'

/** One request of a host that is not over. */
export interface Request {
  readonly id: number
  readonly index: number
  readonly to: SimHost
  /** undefined: the origin. */
  readonly from: SimHost | undefined
  /** Network flow, once bytes move. */
  flow: number | undefined
  /** By the holder's upload order; undefined when it has no place there. */
  uploadId: number | undefined
  state: 'asked' | 'waiting' | 'sending' | 'over'
}

export class SimHost {
  readonly number: number
  readonly name: string
  readonly site: number
  readonly up: number
  readonly down: number
  scores = new SourceScores()
  uploads = new UploadOrder()
  readonly held: ChunkMap
  neighbours: Neighbours | undefined
  plan: DownloadPlan | undefined
  /** Hosts it has a connection with. */
  connected: readonly SimHost[] = []
  behaviour: Behaviour = 'honest'
  joinedAt: number | undefined
  /** Before any restart. */
  firstJoinedAt: number | undefined
  finishedAt: number | undefined
  left = false
  /** By the plan's id. */
  readonly requests = new Map<number, Request>()
  /** Requests of others that it serves or that wait here, by the upload order's id. */
  readonly serving = new Map<number, Request>()
  readonly gained: number[] = []
  toldAt = Number.NEGATIVE_INFINITY
  tellQueued = false
  /** Its last tell named chunks that it was fetching from the origin. */
  toldClaims = false
  pumpAt = Number.POSITIVE_INFINITY
  progressAt = 0
  askedCount = 0
  /** Hosts that have said what they hold. */
  readonly answeredBy = new Set<string>()
  originBytes = 0
  originChunks: number[] = []
  uploadedBytes = 0
  duplicateBytes = 0
  wastedBytes = 0
  /** Asks, answers and tells. */
  messageBytes = 0
  /** Requests for chunks. */
  requestBytes = 0
  requestCount = 0
  decisions = 0

  constructor(number: number, name: string, site: number, up: number, down: number, chunks: number) {
    this.number = number
    this.name = name
    this.site = site
    this.up = up
    this.down = down
    this.held = new ChunkMap(chunks)
  }

  get fetching(): boolean {
    return this.joinedAt !== undefined && this.finishedAt === undefined && !this.left
  }

  get silent(): boolean {
    return this.left || this.behaviour === 'dead' || this.behaviour === 'stopped'
  }

  /** Its agent was restarted: what it had learnt is gone, what it had stored is not. */
  begunAgain(): void {
    this.left = false
    this.behaviour = 'honest'
    this.scores = new SourceScores()
    this.uploads = new UploadOrder()
    this.requests.clear()
    this.serving.clear()
    this.gained.length = 0
    this.answeredBy.clear()
    this.toldClaims = false
    this.pumpAt = Number.POSITIVE_INFINITY
  }

  distance(other: SimHost): Distance {
    return this.site === other.site ? 1 : 2
  }
}
