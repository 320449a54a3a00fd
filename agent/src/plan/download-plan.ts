// PURE. All decisions about one blob's transfer: which chunk next, from whom, when to give up on a source, when to ask
// twice. Fed with facts and `now`; answers with what to start and what to cancel. No I/O, no clock, no randomness.
// The downloader and the simulation both run exactly this.
import { ChunkMap } from '@shoal/protocol/chunks.ts'
import { type ErrorCode, errorRow } from '@shoal/protocol/errors.ts'
import { ChunkPicker } from './chunk-picker.ts'
import { ownerOf, type ShareSeed, shareSeed } from './origin-share.ts'
import type { SourceScores } from './source-score.ts'

/** Chunks ahead of a reader that are asked for before anything else. */
export const WINDOW_CHUNKS = 8
/** A source that moves no byte for this long is replaced. */
export const STALL_MS = 2_000
/** An owner that gained nothing for this long, and claims nothing, no longer keeps others from the origin. */
export const TAKEOVER_MS = 3_000
/** What a peer says it is fetching from the origin counts for this long. */
export const CLAIM_MS = 6_000
/** A reader that waited this long for a chunk goes to the origin itself, owner or not: clients give up after 10 s. */
export const READER_PATIENCE_MS = 6_000
/** End-game: a chunk in flight for longer than this may be asked of a second peer. */
export const ENDGAME_AFTER_MS = 500
/** Pause of the origin after a failure that may pass; doubles up to the limit. */
export const ORIGIN_COOLDOWN_MS = 1_000
export const ORIGIN_MAX_COOLDOWN_MS = 30_000

export const ORIGIN = 'origin'

export interface Assignment {
  readonly id: number
  readonly index: number
  /** A peer id, or `origin`. */
  readonly source: string
  readonly why: 'window' | 'rarest' | 'owner' | 'end-game'
}

export interface Decision {
  readonly start: readonly Assignment[]
  /** Ids of assignments to abort. They are over for the plan: report nothing more about them. */
  readonly cancel: readonly number[]
  /** When to ask again if nothing happens before; undefined: only an event can change anything. */
  readonly wakeAt: number | undefined
}

export interface PlanSettings {
  readonly blob: string
  /** This host's peer id. */
  readonly self: string
  readonly held: ChunkMap
  /** Fetch every chunk (a pull, or a reader of the whole file), or only what readers want. Only a whole fetch owns chunks. */
  readonly whole: boolean
  /** Requests open at once to the origin, and in all. */
  readonly originDepth: number
  readonly totalDepth: number
  /** No origin before this time: peers are being asked what they hold. */
  readonly originNotBefore: number
}

interface PeerState {
  holds: ChunkMap | 'all' | undefined
  wanting: boolean
  lastGainAt: number
  claimed: ReadonlySet<number>
  claimedAt: number
  flights: number
  readonly seed: ShareSeed
}

interface Flight {
  readonly assignment: Assignment
  readonly startedAt: number
  lastProgressAt: number
}

interface ReaderState {
  next: number
  afterLast: number
  waitingSince: number
}

export class DownloadPlan {
  readonly #settings: PlanSettings
  readonly #scores: SourceScores
  readonly #held: ChunkMap
  readonly #picker: ChunkPicker
  readonly #peers = new Map<string, PeerState>()
  readonly #readers = new Map<number, ReaderState>()
  readonly #flights = new Map<number, Flight>()
  readonly #flightsOf = new Map<number, Set<number>>()
  readonly #selfSeed: ShareSeed
  #whole: boolean
  #nextId = 1
  #originFlights = 0
  #originCoolUntil = 0
  #originFailures = 0
  #originAllowed = true

  constructor(settings: PlanSettings, scores: SourceScores) {
    this.#settings = settings
    this.#scores = scores
    this.#held = settings.held.clone()
    this.#whole = settings.whole
    this.#selfSeed = shareSeed(settings.blob, settings.self)
    this.#picker = new ChunkPicker(this.#held, this.#selfSeed.seed)
  }

  get complete(): boolean {
    return this.#held.complete
  }

  get whole(): boolean {
    return this.#whole
  }

  get flightCount(): number {
    return this.#flights.size
  }

  /** Indices now being fetched from the origin: told to peers, so that they do not fetch them too. */
  originClaims(): number[] {
    return [...this.#flights.values()]
      .filter(({ assignment }) => assignment.source === ORIGIN)
      .map(({ assignment }) => assignment.index)
  }

  /** From now on every chunk is wanted. */
  fetchWhole(): void {
    this.#whole = true
  }

  // --- what is known of sources -------------------------------------------------------------------------------

  /** A peer said what it holds (a hint until a chunk proves it) and whether it is fetching the blob too. */
  peerState(
    peer: string,
    state: {
      readonly holds: ChunkMap | 'all' | undefined
      readonly wanting: boolean
      readonly claimed?: Iterable<number>
    },
    now: number,
  ): void {
    const known = this.#peers.get(peer)
    if (known !== undefined) this.#countCopies(known, -1)
    const next: PeerState = known ?? {
      holds: undefined,
      wanting: false,
      lastGainAt: now,
      claimed: new Set(),
      claimedAt: now,
      flights: 0,
      seed: shareSeed(this.#settings.blob, peer),
    }
    if (known === undefined || (state.wanting && !next.wanting)) next.lastGainAt = now
    if (countOf(state.holds) > countOf(next.holds)) next.lastGainAt = now
    next.holds = state.holds
    next.wanting = state.wanting
    if (state.claimed !== undefined) {
      next.claimed = new Set(state.claimed)
      next.claimedAt = now
    }
    this.#peers.set(peer, next)
    this.#countCopies(next, 1)
  }

  /** A peer announced chunks it has stored since it was last heard of. */
  peerGained(peer: string, indices: Iterable<number>, now: number): void {
    const state = this.#peers.get(peer)
    if (state === undefined) return
    state.lastGainAt = now
    if (state.holds === 'all') return
    state.holds ??= new ChunkMap(this.#held.chunkCount)
    for (const index of indices) {
      if (index < this.#held.chunkCount && state.holds.add(index)) this.#picker.addCopy(index)
    }
  }

  knowsPeer(peer: string): boolean {
    return this.#peers.has(peer)
  }

  peerCount(): number {
    let count = 0
    for (const peer of this.#peers.values()) if (peer.holds !== undefined) count++
    return count
  }

  /** The peer is gone. Its assignments end with it. */
  removePeer(peer: string): void {
    const state = this.#peers.get(peer)
    if (state === undefined) return
    this.#countCopies(state, -1)
    this.#peers.delete(peer)
  }

  /** Whether the origin may be asked at all (it refused for good, or the host is told to stay away from it). */
  setOrigin(allowed: boolean): void {
    this.#originAllowed = allowed
  }

  // --- readers ------------------------------------------------------------------------------------------------

  /** A reader needs chunks `[next, afterLast)`, in order. Call again as it moves on. */
  want(reader: number, next: number, afterLast: number, now: number): void {
    const known = this.#readers.get(reader)
    if (known === undefined) this.#readers.set(reader, { next, afterLast, waitingSince: now })
    else {
      if (known.next !== next) known.waitingSince = now
      known.next = next
      known.afterLast = afterLast
    }
  }

  unwant(reader: number): void {
    this.#readers.delete(reader)
  }

  // --- what happened to assignments -----------------------------------------------------------------------------

  progress(id: number, now: number): void {
    const flight = this.#flights.get(id)
    if (flight !== undefined) flight.lastProgressAt = now
  }

  /** The chunk was proven and stored. @returns ids of other assignments for it, which are over and must be aborted */
  stored(id: number, bytes: number, now: number): number[] {
    const flight = this.#flights.get(id)
    if (flight === undefined) return []
    const { index, source } = flight.assignment
    this.#scores.success(source, bytes, now - flight.startedAt)
    if (source === ORIGIN) {
      this.#originFailures = 0
      this.#originCoolUntil = 0
    }
    this.#end(id)
    if (!this.#held.has(index)) this.#held.add(index)
    this.#picker.close(index)
    const others = [...(this.#flightsOf.get(index) ?? [])]
    for (const other of others) this.#end(other)
    return others
  }

  /**
   * An assignment failed. The error table says whom to blame and whether the source may be asked again.
   * @returns true if its source is banned from now on
   */
  failed(id: number, code: ErrorCode, now: number): boolean {
    const flight = this.#flights.get(id)
    if (flight === undefined) return false
    const { index, source } = flight.assignment
    this.#end(id)
    if ((this.#flightsOf.get(index)?.size ?? 0) === 0 && !this.#held.has(index)) this.#picker.open(index)
    if (source === ORIGIN) {
      this.#originFailed(code, now)
      return false
    }
    const peer = this.#peers.get(source)
    if (code === 'peer-lacks-chunk' && peer?.holds !== undefined) {
      if (peer.holds === 'all') {
        this.#countCopies(peer, -1)
        peer.holds = ChunkMap.full(this.#held.chunkCount)
        this.#countCopies(peer, 1)
      }
      if (peer.holds.delete(index)) this.#picker.removeCopy(index)
    }
    return this.#scores.failure(source, code, now)
  }

  /** Chunks that turned out wrong after they were stored: to be fetched again. */
  discarded(indices: readonly number[]): void {
    for (const index of indices) {
      if (this.#held.has(index)) this.#held.delete(index)
      this.#picker.open(index)
    }
  }

  /** Nothing is in flight, something is missing, and no source could bring it even later. */
  hopeless(now: number): boolean {
    if (this.complete || this.#flights.size > 0 || this.#originAllowed) return false
    for (const [id, peer] of this.#peers) {
      if (!this.#scores.banned(id, now) && (peer.wanting || countOf(peer.holds) > 0)) return false
    }
    return true
  }

  // --- the decision -----------------------------------------------------------------------------------------------

  next(now: number): Decision {
    const start: Assignment[] = []
    const wake = new WakeTime(now)
    const cancel = this.#replaceStalled(now, wake)
    const owners = this.#owners(now, wake)
    this.#serveReaders(now, owners, start, wake)
    if (this.#whole) {
      this.#fillPeers(now, start, wake)
      this.#fillOrigin(now, owners, start, wake)
      this.#endGame(now, start, wake)
    }
    return { start, cancel, wakeAt: wake.at }
  }

  #replaceStalled(now: number, wake: WakeTime): number[] {
    const cancel: number[] = []
    for (const [id, flight] of [...this.#flights]) {
      const stallsAt = flight.lastProgressAt + STALL_MS
      const { index, source } = flight.assignment
      if (stallsAt > now) {
        wake.by(stallsAt)
      } else if (source !== ORIGIN) {
        cancel.push(id)
        this.failed(id, 'peer-timeout', now)
      } else if (this.#bestPeer(index, now) !== undefined) {
        // The origin is slow but a peer has it now: let the peer bring it. Nobody is blamed.
        cancel.push(id)
        this.#end(id)
        this.#picker.open(index)
      } else {
        wake.by(now + STALL_MS)
      }
    }
    return cancel
  }

  /** Hosts among whom the origin's chunks are shared now: those that want the blob and show progress. */
  #owners(now: number, wake: WakeTime): ShareSeed[] {
    const owners = this.#whole ? [this.#selfSeed] : []
    for (const [id, peer] of this.#peers) {
      if (!peer.wanting || peer.holds === 'all' || !this.#scores.view(id, now).trusted) continue
      const claims = peer.claimed.size > 0 && peer.claimedAt + CLAIM_MS > now
      const idleAt = peer.lastGainAt + TAKEOVER_MS
      if (idleAt > now || claims) {
        owners.push(peer.seed)
        wake.by(idleAt > now ? idleAt : peer.claimedAt + CLAIM_MS)
      }
    }
    return owners
  }

  #serveReaders(now: number, owners: readonly ShareSeed[], start: Assignment[], wake: WakeTime): void {
    const count = this.#held.chunkCount
    for (let ahead = 0; ahead < WINDOW_CHUNKS; ahead++) {
      for (const reader of this.#readers.values()) {
        const index = reader.next + ahead
        if (index < reader.afterLast && this.#picker.isOpen(index)) {
          const impatient = ahead === 0 && now - reader.waitingSince >= READER_PATIENCE_MS
          if (ahead === 0 && !impatient) wake.by(reader.waitingSince + READER_PATIENCE_MS)
          this.#assign(index, 'window', now, owners, impatient, start, wake)
        }
      }
    }
    // The last chunk is held back from readers until the whole digest passes: have it early, so that nobody waits for it.
    for (const reader of this.#readers.values()) {
      const nearEnd = reader.afterLast === count && reader.next >= count / 2
      if (nearEnd && this.#picker.isOpen(count - 1))
        this.#assign(count - 1, 'window', now, owners, false, start, wake)
    }
  }

  #fillPeers(now: number, start: Assignment[], wake: WakeTime): void {
    for (const [id, peer] of this.#peers) {
      while (this.#picker.openCount > 0 && this.#peerReady(id, peer, now, wake)) {
        const holds = peer.holds
        const index = this.#picker.rarest((candidate) => holds === 'all' || holds?.has(candidate) === true)
        if (index === undefined) break
        start.push(this.#launch(index, id, 'rarest', now))
      }
    }
  }

  #fillOrigin(now: number, owners: readonly ShareSeed[], start: Assignment[], wake: WakeTime): void {
    if (this.#picker.openCount === 0 || !this.#originReady(now, wake)) return
    const spare = this.#settings.originDepth - this.#originFlights
    const ours = this.#picker.lowest((index) => this.#mayAskOrigin(index, now, owners), spare)
    for (const index of ours) {
      if (!this.#originReady(now, wake)) break
      start.push(this.#launch(index, ORIGIN, 'owner', now))
    }
  }

  #endGame(now: number, start: Assignment[], wake: WakeTime): void {
    if (this.#picker.openCount > 0) return
    for (const flight of [...this.#flights.values()]) {
      const { index, source } = flight.assignment
      if (source === ORIGIN || (this.#flightsOf.get(index)?.size ?? 0) > 1) continue
      if (flight.startedAt + ENDGAME_AFTER_MS > now) {
        wake.by(flight.startedAt + ENDGAME_AFTER_MS)
        continue
      }
      const other = this.#bestPeer(index, now, source)
      if (other !== undefined) start.push(this.#launch(index, other, 'end-game', now))
    }
  }

  #assign(
    index: number,
    why: 'window',
    now: number,
    owners: readonly ShareSeed[],
    impatient: boolean,
    start: Assignment[],
    wake: WakeTime,
  ): void {
    if (this.#flights.size >= this.#settings.totalDepth) return
    const peer = this.#bestPeer(index, now)
    if (peer !== undefined) {
      start.push(this.#launch(index, peer, why, now))
    } else if (this.#originReady(now, wake) && (impatient || this.#mayAskOrigin(index, now, owners))) {
      start.push(this.#launch(index, ORIGIN, why, now))
    }
  }

  /** No reachable peer holds it, and it is ours to ask for: we own it, or nobody active does. */
  #mayAskOrigin(index: number, now: number, owners: readonly ShareSeed[]): boolean {
    for (const [id, peer] of this.#peers) {
      if (holdsChunk(peer, index) && this.#scores.view(id, now).trusted) return false
      if (peer.claimed.has(index) && peer.claimedAt + CLAIM_MS > now && this.#scores.view(id, now).trusted)
        return false
    }
    const owner = ownerOf(index, owners)
    return owner === undefined || owner === this.#settings.self
  }

  /** The usable peer that holds `index` and should answer soonest. */
  #bestPeer(index: number, now: number, except?: string): string | undefined {
    let best: string | undefined
    let bestCost = Number.POSITIVE_INFINITY
    for (const [id, peer] of this.#peers) {
      if (id === except || !holdsChunk(peer, index)) continue
      const score = this.#scores.view(id, now)
      if (!score.usable || peer.flights >= score.depth) continue
      // Unmeasured peers are tried as if they were fast: that is how they get measured.
      const cost =
        score.rateBytesPerSecond === 0 ? peer.flights : (peer.flights + 1) / score.rateBytesPerSecond
      if (cost < bestCost) {
        bestCost = cost
        best = id
      }
    }
    return best
  }

  #peerReady(id: string, peer: PeerState, now: number, wake: WakeTime): boolean {
    if (peer.holds === undefined || this.#flights.size >= this.#settings.totalDepth) return false
    const score = this.#scores.view(id, now)
    if (!score.usable) wake.by(score.usableAt)
    return score.usable && peer.flights < score.depth
  }

  #originReady(now: number, wake: WakeTime): boolean {
    if (!this.#originAllowed) return false
    const readyAt = Math.max(this.#settings.originNotBefore, this.#originCoolUntil)
    if (readyAt > now) {
      wake.by(readyAt)
      return false
    }
    return this.#originFlights < this.#settings.originDepth && this.#flights.size < this.#settings.totalDepth
  }

  #originFailed(code: ErrorCode, now: number): void {
    if (code === 'aborted') return
    const row = errorRow(code)
    if (row.retry === 'never' || row.retry === 'new-plan') this.#originAllowed = false
    this.#originFailures++
    this.#originCoolUntil =
      now + Math.min(ORIGIN_COOLDOWN_MS * 2 ** (this.#originFailures - 1), ORIGIN_MAX_COOLDOWN_MS)
  }

  #launch(index: number, source: string, why: Assignment['why'], now: number): Assignment {
    const assignment: Assignment = { id: this.#nextId++, index, source, why }
    this.#picker.close(index)
    this.#flights.set(assignment.id, { assignment, startedAt: now, lastProgressAt: now })
    const ids = this.#flightsOf.get(index)
    if (ids === undefined) this.#flightsOf.set(index, new Set([assignment.id]))
    else ids.add(assignment.id)
    if (source === ORIGIN) this.#originFlights++
    else {
      const peer = this.#peers.get(source)
      if (peer !== undefined) peer.flights++
    }
    return assignment
  }

  #end(id: number): void {
    const flight = this.#flights.get(id)
    if (flight === undefined) return
    this.#flights.delete(id)
    const { index, source } = flight.assignment
    const ids = this.#flightsOf.get(index)
    ids?.delete(id)
    if (ids?.size === 0) this.#flightsOf.delete(index)
    if (source === ORIGIN) this.#originFlights--
    else {
      const peer = this.#peers.get(source)
      if (peer !== undefined) peer.flights = Math.max(0, peer.flights - 1)
    }
  }

  #countCopies(peer: PeerState, delta: 1 | -1): void {
    // A holder of everything adds one to every chunk alike and so does not change which is rarest.
    if (peer.holds === undefined || peer.holds === 'all') return
    for (const index of peer.holds.indices()) {
      if (delta === 1) this.#picker.addCopy(index)
      else this.#picker.removeCopy(index)
    }
  }
}

class WakeTime {
  readonly #now: number
  at: number | undefined

  constructor(now: number) {
    this.#now = now
  }

  by(time: number): void {
    const at = Math.max(time, this.#now + 1)
    if (this.at === undefined || at < this.at) this.at = at
  }
}

function holdsChunk(peer: PeerState, index: number): boolean {
  return peer.holds === 'all' || peer.holds?.has(index) === true
}

function countOf(holds: ChunkMap | 'all' | undefined): number {
  return holds === 'all' ? Number.POSITIVE_INFINITY : (holds?.held ?? 0)
}
