// PURE. All decisions about one blob's transfer: which chunk next, from whom, when to give up on a source, when to ask
// twice. Fed with facts and `now`; answers with what to start and what to cancel. No I/O, no clock, no randomness.
// The downloader and the simulation both run exactly this. The decision itself is plan-round.ts, who asks the origin origin-gate.ts.
import type { ErrorCode } from '@shoal/protocol/errors.ts'
import { BlobState, type PlanSettings } from './blob-state.ts'
import { ORIGIN } from './flights.ts'
import { type PeerFacts, usefulCount } from './peer-table.ts'
import { type Decision, HOPE_MS, PlanRound } from './plan-round.ts'
import type { SourceScores } from './source-score.ts'

export type { PlanSettings } from './blob-state.ts'
export { type Assignment, ORIGIN } from './flights.ts'
export { ORIGIN_COOLDOWN_MS, ORIGIN_MAX_COOLDOWN_MS, TAKEOVER_MS } from './origin-gate.ts'
export { CLAIM_MS } from './peer-table.ts'
export {
  type Decision,
  ENDGAME_AFTER_MS,
  HOPE_MS,
  MAX_ENDGAME,
  READER_PATIENCE_MS,
  READER_YIELD_MS,
  SLOW_STALL_MS,
  STALL_MS,
} from './plan-round.ts'

/** News within this time, or the given part of what a chunk takes, may be gathered before the next decision. */
const LEAST_SETTLE_MS = 5
const MOST_SETTLE_MS = 50
const SETTLE_PART = 16

/** Requests open to peers, for one blob. More only make their lines longer: see docs/simulation.md. */
export const PEER_DEPTH = 5
export { WINDOW_CHUNKS } from './readers.ts'

export class DownloadPlan {
  readonly #state: BlobState
  /** Flights of peers that left: ended here, to be aborted with the next decision. */
  #orphans: number[] = []

  constructor(settings: PlanSettings, scores: SourceScores) {
    this.#state = new BlobState(settings, scores)
  }

  get complete(): boolean {
    return this.#state.held.complete
  }

  get whole(): boolean {
    return this.#state.whole
  }

  get flightCount(): number {
    return this.#state.flights.count
  }

  /** More could be asked for at once: what a peer gains may change the next decision now, not only later. */
  get hasRoom(): boolean {
    const { flights, settings } = this.#state
    return flights.count - flights.countOf(ORIGIN) < settings.totalDepth
  }

  /** How long news of peers may be gathered before the next decision, in milliseconds: little beside what a chunk takes. */
  get settleMs(): number {
    return Math.min(Math.max(this.#state.peerChunkMs / SETTLE_PART, LEAST_SETTLE_MS), MOST_SETTLE_MS)
  }

  /** Indices now being fetched from the origin: told to peers, so that they do not fetch them too. */
  originClaims(): number[] {
    return [...this.#state.flights.all()]
      .filter(({ assignment }) => assignment.source === ORIGIN)
      .map(({ assignment }) => assignment.index)
  }

  /** From now on every chunk is wanted. */
  fetchWhole(): void {
    this.#state.whole = true
  }

  /** From now on only what readers want. @returns ids of assignments, all of them over, to be aborted */
  fetchParts(): number[] {
    this.#state.whole = false
    return [...this.#state.flights.all()].map((flight) => this.#state.cancel(flight))
  }

  // --- what is known of sources -------------------------------------------------------------------------------

  /**
   * A peer said what it holds (a hint until a chunk proves it), whether it is fetching the whole blob too, and what it is
   * fetching from the origin. Ask those that want it again every few seconds: claims count for CLAIM_MS.
   */
  peerState(peer: string, state: PeerFacts, now: number): void {
    this.#state.peers.learn(peer, state, now)
    this.#state.scores.sign(peer, now)
  }

  /**
   * A peer announced chunks it has stored since it was last heard of.
   * @returns whether that may change the next decision now
   */
  peerGained(peer: string, indices: Iterable<number>, now: number): boolean {
    const isUseful = this.#state.peers.gained(peer, indices, now)
    this.#state.scores.sign(peer, now)
    return isUseful && this.hasRoom
  }

  /** A peer said how many requests it has to serve. @param served it said so with a chunk */
  peerLoad(peer: string, line: number, served: boolean): void {
    this.#state.peers.loaded(peer, line, served)
  }

  knowsPeer(peer: string): boolean {
    return this.#state.peers.get(peer) !== undefined
  }

  /** Peers that hold something. */
  peerCount(): number {
    let count = 0
    for (const { holds } of this.#state.peers.all()) if (holds !== undefined) count++
    return count
  }

  /** The peer is gone. Its assignments end with it: the next decision cancels them. */
  removePeer(peer: string): void {
    this.#state.peers.remove(peer)
    for (const flight of [...this.#state.flights.all()]) {
      if (flight.assignment.source === peer) this.#orphans.push(this.#state.cancel(flight))
    }
  }

  /** Whether the origin may be asked at all (it refused for good, or the host is told to stay away from it). */
  setOrigin(allowed: boolean): void {
    this.#state.gate.allowed = allowed
  }

  // --- readers ------------------------------------------------------------------------------------------------

  /** A reader needs chunks `[next, afterLast)`, in order. Call again as it moves on. */
  want(reader: number, next: number, afterLast: number, now: number): void {
    this.#state.readers.want(reader, next, afterLast, now)
  }

  unwant(reader: number): void {
    this.#state.readers.unwant(reader)
  }

  // --- what happened to assignments -----------------------------------------------------------------------------

  progress(id: number, now: number): void {
    const flight = this.#state.flights.get(id)
    if (flight === undefined) return
    flight.lastProgressAt = now
    flight.firstProgressAt ??= now
    this.#state.scores.sign(flight.assignment.source, now)
  }

  /** The chunk was proven and stored. @returns ids of other assignments for it, which are over and must be aborted */
  stored(id: number, bytes: number, now: number): number[] {
    const flight = this.#state.flights.get(id)
    const index = flight?.assignment.index ?? this.#state.flights.takeCancelled(id)
    if (index === undefined) return []
    if (flight !== undefined) this.#state.landed(flight, bytes, now)
    this.#state.keep(index, now)
    return [...this.#state.flights.of(index)].map((other) => this.#state.cancel(other))
  }

  /**
   * An assignment failed. The error table says whom to blame and whether the source may be asked again.
   * @returns true if its source is banned from now on
   */
  failed(id: number, code: ErrorCode, now: number): boolean {
    const flight = this.#state.flights.get(id)
    if (flight === undefined) return false
    const { index, source } = flight.assignment
    this.#state.flights.end(flight)
    if (code === 'peer-later') {
      this.#state.defer(index, now)
      return false
    }
    this.#state.reopen(index)
    if (source === ORIGIN) {
      this.#state.gate.failed(code, now)
      return false
    }
    if (code === 'peer-lacks-chunk') this.#state.peers.lacks(source, index)
    return this.#state.scores.failure(source, code, now)
  }

  /**
   * Chunks that turned out wrong after they were stored: to be fetched again.
   * @param originOnly their digests are in doubt: peers' copies are no use
   */
  discarded(indices: readonly number[], originOnly = false): void {
    for (const index of indices) {
      if (this.#state.held.has(index)) this.#state.held.delete(index)
      if (originOnly) this.#state.originOnly.add(index)
      this.#state.reopen(index)
    }
  }

  /** Something wanted is missing, nothing is in flight, and no source could bring it even later. */
  hopeless(now: number): boolean {
    const { flights, gate, deferred } = this.#state
    if (this.complete || flights.count > 0 || deferred.size > 0 || gate.allowed || !this.#state.wantsAny())
      return false
    for (const peer of this.#state.peers.all()) {
      if (this.#state.scores.banned(peer.id, now)) continue
      if (usefulCount(peer, this.#state.picker.openCount) > 0 && this.#state.wantsAny(peer)) return false
      if (peer.wanting && peer.lastBroughtAt + HOPE_MS > now) return false
    }
    return true
  }

  // --- the decision -----------------------------------------------------------------------------------------------

  /** @param room assignments that may be started now, if there is a limit beyond the settings' depths */
  next(now: number, room: number = Number.POSITIVE_INFINITY): Decision {
    const orphans = this.#orphans
    this.#orphans = []
    return new PlanRound(this.#state, now, room).decide(orphans)
  }
}
