// PURE. Which peer to ask: of those that hold a chunk and may be asked now, the one that should answer soonest. Peers as they stand
// for one decision; what they hold is peer-table.ts, how they fared is source-score.ts.
import type { Flights } from './flights.ts'
import { shareWeight } from './origin-share.ts'
import { holdsChunk, type Peer, type PeerTable, usefulCount } from './peer-table.ts'
import type { ScoreView, SourceScores } from './source-score.ts'
import type { WakeTime } from './wake-time.ts'

/** Larger than any cost of a measured peer, in seconds a byte. */
const UNTRIED = 1e9

export interface Choice {
  readonly peer: Peer
  readonly view: ScoreView
}

export class PeerChoice {
  readonly #peers: PeerTable
  readonly #flights: Flights
  readonly #scores: SourceScores
  readonly #selfSeed: number
  #usable: Choice[] = []

  /** @param selfSeed makes ties fall differently on every host, so that not all ask the same peer */
  constructor(peers: PeerTable, flights: Flights, scores: SourceScores, selfSeed: number) {
    this.#peers = peers
    this.#flights = flights
    this.#scores = scores
    this.#selfSeed = selfSeed
  }

  /** Takes stock for one decision; tells `wake` when peers that may not be asked now may be again. */
  refresh(now: number, wake: WakeTime): void {
    this.#usable = []
    for (const peer of this.#peers.all()) {
      if (peer.holds === undefined) continue
      const view = this.#scores.view(peer.id, now)
      if (view.usable) this.#usable.push({ peer, view })
      else wake.by(view.usableAt)
    }
  }

  /** Some peer that holds the chunk has room for a request. */
  any(index: number): boolean {
    return this.#usable.some((choice) => holdsChunk(choice.peer, index) && this.#hasRoom(choice))
  }

  /** The best peer for one chunk. @param urgent a reader waits: proven peers before untried ones */
  forChunk(index: number, urgent: boolean, except?: string): Choice | undefined {
    return this.#cheapest(
      ({ peer }) => peer.id !== except && holdsChunk(peer, index),
      (choice) => this.#cost(choice, index, urgent),
    )
  }

  /** The best peer for some open chunk, whichever. @param salt varies how ties fall */
  forAny(openCount: number, salt: number, exhausted: ReadonlySet<Choice>): Choice | undefined {
    return this.#cheapest(
      (choice) => usefulCount(choice.peer, openCount) > 0 && !exhausted.has(choice),
      (choice) => this.#cost(choice, salt, false),
    )
  }

  #cheapest(fits: (choice: Choice) => boolean, costOf: (choice: Choice) => number): Choice | undefined {
    let best: Choice | undefined
    let bestCost = Number.POSITIVE_INFINITY
    for (const choice of this.#usable) {
      if (!this.#hasRoom(choice) || !fits(choice)) continue
      const cost = costOf(choice)
      if (cost >= bestCost) continue
      best = choice
      bestCost = cost
    }
    return best
  }

  #hasRoom({ peer, view }: Choice): boolean {
    return this.#flights.countOf(peer.id) < view.depth
  }

  #cost({ peer, view }: Choice, salt: number, urgent: boolean): number {
    const flights = this.#flights.countOf(peer.id)
    const rate = view.rateBytesPerSecond
    if (rate > 0) return (flights + 1) / rate
    // Untried peers are taken for fast, since that is how they get measured; but not for what a reader waits for.
    const tie = shareWeight(peer.seed.seed ^ this.#selfSeed, salt) / 2 ** 32
    return (urgent ? UNTRIED : -UNTRIED) + flights + tie
  }
}
