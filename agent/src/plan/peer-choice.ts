// PURE. Which peer to ask: of those that hold a chunk and may be asked now, the one that should answer soonest. Peers as they stand
// for one decision; what they hold is peer-table.ts, how they fared is source-score.ts.
import type { Flights } from './flights.ts'
import { shareWeight } from './origin-share.ts'
import { holdsChunk, type Peer, type PeerTable, usefulCount } from './peer-table.ts'
import type { SourceScores, Standing } from './source-score.ts'
import type { WakeTime } from './wake-time.ts'

/** A peer's own figures count like those of so many chunks of the average peer: one bad moment at the start is no verdict. */
const PRIOR_CHUNKS = 3
/** A place in line at a host of the same rack, of the same site, of another site: how many times as dear. */
const FAR = [0.8, 1, 4] as const
/** Larger than any cost of a measured peer, in seconds a byte. */
const UNTRIED = 1e9

export interface Choice {
  readonly peer: Peer
  readonly standing: Standing
}

export class PeerChoice {
  readonly #peers: PeerTable
  readonly #flights: Flights
  readonly #scores: SourceScores
  readonly #selfSeed: number
  #usable: Choice[] | undefined
  #now = 0
  #wake: WakeTime | undefined
  #average: number | undefined

  /** @param selfSeed makes ties fall differently on every host, so that not all ask the same peer */
  constructor(peers: PeerTable, flights: Flights, scores: SourceScores, selfSeed: number) {
    this.#peers = peers
    this.#flights = flights
    this.#scores = scores
    this.#selfSeed = selfSeed
  }

  /** Begins one decision; `wake` is told when peers that may not be asked now may be again, once somebody asks for one. */
  refresh(now: number, wake: WakeTime): void {
    this.#usable = undefined
    this.#average = undefined
    this.#now = now
    this.#wake = wake
  }

  /** Some peer that holds the chunk has room for a request. */
  any(index: number): boolean {
    return this.#all().some((choice) => holdsChunk(choice.peer, index) && this.#hasRoom(choice))
  }

  /** The best peer for one chunk. @param urgent a reader waits: proven peers before untried ones */
  forChunk(index: number, urgent: boolean, except?: string): Choice | undefined {
    return this.#cheapest(
      ({ peer }) => peer.id !== except && holdsChunk(peer, index),
      (choice) => this.#cost(choice, index, urgent),
    )
  }

  /** Peers that could bring some open chunk now. */
  useful(openCount: number): Choice[] {
    const useful: Choice[] = []
    for (const peer of this.#peers.all()) {
      // The cheap question first: most peers have nothing that is still open.
      if (usefulCount(peer, openCount) === 0) continue
      const standing = this.#usableNow(peer.id)
      if (standing !== undefined && this.#flights.countOf(peer.id) < standing.depth)
        useful.push({ peer, standing })
    }
    return useful
  }

  /** The best of these, taken out when it has no room left after one more request. @param salt varies how ties fall */
  bestOf(choices: Choice[], salt: number): Choice | undefined {
    let bestAt = -1
    let bestCost = Number.POSITIVE_INFINITY
    for (let at = 0; at < choices.length; at++) {
      const choice = choices[at]
      if (choice === undefined) continue
      const cost = this.#cost(choice, salt, false)
      if (cost >= bestCost) continue
      bestAt = at
      bestCost = cost
    }
    const best = choices[bestAt]
    if (best !== undefined && this.#flights.countOf(best.peer.id) + 1 >= best.standing.depth)
      drop(choices, bestAt)
    return best
  }

  #all(): readonly Choice[] {
    if (this.#usable !== undefined) return this.#usable
    const usable: Choice[] = []
    for (const peer of this.#peers.all()) {
      if (peer.holds === undefined) continue
      const standing = this.#usableNow(peer.id)
      if (standing !== undefined) usable.push({ peer, standing })
    }
    this.#usable = usable
    return usable
  }

  #usableNow(peer: string): Standing | undefined {
    const standing = this.#scores.standing(peer)
    const usableAt = Math.max(standing.coolUntil, standing.busyUntil, standing.banUntil)
    if (usableAt <= this.#now) return standing
    this.#wake?.by(usableAt)
    return undefined
  }

  #cheapest(fits: (choice: Choice) => boolean, costOf: (choice: Choice) => number): Choice | undefined {
    let best: Choice | undefined
    let bestCost = Number.POSITIVE_INFINITY
    for (const choice of this.#all()) {
      if (!this.#hasRoom(choice) || !fits(choice)) continue
      const cost = costOf(choice)
      if (cost >= bestCost) continue
      best = choice
      bestCost = cost
    }
    return best
  }

  #hasRoom({ peer, standing }: Choice): boolean {
    return this.#flights.countOf(peer.id) < standing.depth
  }

  /** Bytes a second that a place in line gives, over all peers measured; `own` when none is. */
  #averageOf(own: number): number {
    if (this.#average === undefined) {
      let sum = 0
      let count = 0
      for (const { peer, standing } of this.#all()) {
        if (standing.rate === 0) continue
        sum += standing.rate * (peer.usualLine + 1)
        count++
      }
      this.#average = count === 0 ? 0 : sum / count
    }
    return this.#average > 0 ? this.#average : own
  }

  /** Seconds a byte, roughly: how long the line at the peer is, times what a place in it has cost so far. */
  #cost({ peer, standing: { rate, samples } }: Choice, salt: number, urgent: boolean): number {
    const flights = this.#flights.countOf(peer.id)
    const tie = shareWeight(peer.seed.seed ^ this.#selfSeed, salt) / 2 ** 32
    if (rate > 0) {
      const line = Math.max(flights, peer.line + peer.askedSince) + 1
      const own = rate * (peer.usualLine + 1)
      const usual = (samples * own + PRIOR_CHUNKS * this.#averageOf(own)) / (samples + PRIOR_CHUNKS)
      return (FAR[peer.distance] * (line + tie)) / usual
    }
    // Untried peers are taken for fast, since that is how they get measured; but not for what a reader waits for.
    return (urgent ? UNTRIED : -UNTRIED) + FAR[peer.distance] * (flights + 1 + tie)
  }
}

function drop(choices: Choice[], at: number): void {
  const last = choices.pop()
  if (last !== undefined && at < choices.length) choices[at] = last
}
