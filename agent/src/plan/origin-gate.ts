// PURE. Whether this host may ask the origin for a chunk now: is the origin well, is the chunk ours, does anybody else bring it. Who owns
// what is owner-watch.ts.

import type { ChunkMap } from '@shoal/protocol/chunks.ts'
import { type ErrorCode, errorRow } from '@shoal/protocol/errors.ts'
import type { ChunkPicker } from './chunk-picker.ts'
import { type Flights, ORIGIN } from './flights.ts'
import { LineDepth } from './line-depth.ts'
import { shareSeed } from './origin-share.ts'
import { OwnerWatch, type Patience } from './owner-watch.ts'
import { bringsChunk, claimEnd, holdsChunk, type Peer, type PeerTable } from './peer-table.ts'
import type { SourceScores } from './source-score.ts'
import type { WakeTime } from './wake-time.ts'

/** An owner that should bring something, brings nothing for this long and claims nothing, is passed over. */
export const TAKEOVER_MS = 5_000
/** On a slow line the above is twice what a chunk takes this host, but at most this. */
const MAX_TAKEOVER_MS = 15_000
/** A claim is honoured three times as long as this host itself needs for a chunk, but at least so long. */
const MIN_CLAIM_PATIENCE_MS = 8_000
/** The same while this host has nothing from the origin yet to compare with. */
const UNMEASURED_CLAIM_PATIENCE_MS = 30_000
/** A host that gained nothing for so long and has nothing under way asks for something, whoever should: order is no end in itself. */
const DEADLOCK_MS = 20_000
/** The same for those far back in order: on a slow line the first chunks take long, and many that ask too make them take longer. */
const FAR_DEADLOCK_MS = 60_000
/** Between two hosts that would ask for the same in the end: longer than it takes to tell. */
const DEADLOCK_STEP_MS = 500
/** Pause of the origin after a failure that may pass; doubles up to the limit. */
export const ORIGIN_COOLDOWN_MS = 1_000
export const ORIGIN_MAX_COOLDOWN_MS = 30_000
/** Requests open to the origin at first. */
const FIRST_ORIGIN_DEPTH = 1
const RATE_WEIGHT = 0.3

export interface GateSettings {
  readonly blob: string
  readonly self: string
  /** How many hosts speak to the origin for this blob; the same on every host of a site. */
  readonly originFetchers: number
  readonly originDepth: number
  readonly originNotBefore: number
}

/** Peers as they stand for one decision. */
interface Stock {
  readonly holders: readonly Peer[]
  readonly claimers: readonly Peer[]
}

export class OriginGate {
  /** False: it refused for good, or this host is told to keep away from it. */
  allowed = true
  readonly #settings: GateSettings
  readonly #peers: PeerTable
  readonly #picker: ChunkPicker
  readonly #scores: SourceScores
  readonly #flights: Flights
  readonly #watch: OwnerWatch
  readonly #seed: number
  readonly #line: LineDepth
  #now = 0
  #wake: WakeTime | undefined
  #stock: Stock | undefined
  #coolUntil = 0
  #failures = 0
  #recoveredAt = 0
  /** When this host last came to hold a chunk, or began; undefined before its first decision. */
  #gainedAt: number | undefined
  #chunkMs = 0
  /** Time between two chunks that this host brought, on the average; infinite before the first. */
  #intervalMs = Number.POSITIVE_INFINITY
  #brought = 0
  #firstAskedAt = 0
  #expectedMs = 0

  constructor(
    settings: GateSettings,
    held: ChunkMap,
    peers: PeerTable,
    picker: ChunkPicker,
    flights: Flights,
    scores: SourceScores,
  ) {
    this.#settings = settings
    this.#peers = peers
    this.#picker = picker
    this.#flights = flights
    this.#scores = scores
    this.#line = new LineDepth(FIRST_ORIGIN_DEPTH, settings.originDepth)
    const self = shareSeed(settings.blob, settings.self)
    this.#seed = self.seed
    this.#watch = new OwnerWatch(self, settings.originFetchers, held, peers, picker, scores)
  }

  /** What a chunk takes this host from the origin, in milliseconds, smoothed; 0 before the first. */
  get chunkMs(): number {
    return this.#chunkMs
  }

  /** The same, or the age of the oldest request under way when that is more: the origin may have become slow. */
  get expectedMs(): number {
    return this.#expectedMs
  }

  succeeded(durationMs: number, now: number): void {
    if (this.#failures > 0) this.#recoveredAt = now
    this.#failures = 0
    this.#coolUntil = 0
    this.#chunkMs =
      this.#chunkMs === 0 ? durationMs : this.#chunkMs * (1 - RATE_WEIGHT) + durationMs * RATE_WEIGHT
    if (this.#brought === 0) this.#firstAskedAt = now - durationMs
    this.#intervalMs = (now - this.#firstAskedAt) / ++this.#brought
    this.#line.ended(durationMs, this.#flights.countOf(ORIGIN) + 1)
  }

  /** This host holds a chunk more, wherever from. */
  gained(now: number): void {
    this.#gainedAt = now
  }

  failed(code: ErrorCode, now: number): void {
    if (code === 'aborted') return
    const { retry } = errorRow(code)
    if (retry === 'never' || retry === 'new-plan') this.allowed = false
    this.#failures++
    const pauseMs = ORIGIN_COOLDOWN_MS * 2 ** Math.min(this.#failures - 1, 16)
    this.#coolUntil = now + Math.min(pauseMs, ORIGIN_MAX_COOLDOWN_MS)
  }

  /** Takes stock for one decision. @param whole this host fetches every chunk and so takes its share */
  refresh(now: number, whole: boolean, wake: WakeTime): void {
    this.#now = now
    this.#wake = this.allowed && this.#picker.openCount > 0 ? wake : undefined
    this.#stock = undefined
    this.#gainedAt ??= now
    this.#expectedMs = Math.max(this.#chunkMs, this.#oldestFlightMs(now))
    const takeoverMs = Math.min(Math.max(TAKEOVER_MS, 2 * this.#expectedMs), MAX_TAKEOVER_MS)
    const patience: Patience = {
      takeoverMs,
      claimMs: this.#claimPatienceMs,
      blind: this.#failures > 0,
      recoveredAt: this.#recoveredAt,
      intervalMs: this.#intervalMs,
      expectedMs: this.#expectedMs,
    }
    this.#watch.refresh(now, whole, patience)
    if (this.#wake !== undefined) this.#watch.judge(now, this.#wake)
  }

  /** How many more requests the origin may be sent now. @param least open at once, whatever the line's depth says */
  spare(now: number, wake: WakeTime, least = 0): number {
    if (!this.allowed) return 0
    const readyAt = Math.max(this.#settings.originNotBefore, this.#coolUntil)
    if (readyAt > now) {
      wake.by(readyAt)
      return 0
    }
    const depth = Math.max(this.#line.depth, Math.min(least, this.#settings.originDepth))
    return Math.max(0, depth - this.#flights.countOf(ORIGIN))
  }

  /** The chunk is a peer's to bring. */
  owns(peer: string, index: number): boolean {
    return this.#watch.owns(peer, index)
  }

  /** A reachable host has the chunk. */
  isHeld(index: number): boolean {
    return this.#taken().holders.some((peer) => bringsChunk(peer, index, this.#now))
  }

  /** Somebody is fetching it from the origin. */
  isClaimed(index: number, now: number): boolean {
    return this.#taken().claimers.some((peer) => claimEnd(peer, index, this.#claimPatienceMs) > now)
  }

  /** Nobody reachable has it or is fetching it, and it is ours to ask for: we own it, or nobody that could bring it does. */
  mayAsk(index: number, now: number): boolean {
    return this.#watch.isOurs(index) && this.#isFree(index, now)
  }

  /** Open chunks to ask the origin for, at most `limit`: ours from the front; else those of owners that are behind. */
  pick(limit: number, now: number, wake: WakeTime): number[] {
    const found: number[] = []
    if (limit <= 0) return found
    if (this.#watch.isNear) {
      if (this.#taken().holders.some(({ holds, stalled }) => holds === 'all' && stalled.size === 0))
        return found
      if (this.#watch.isSeated)
        for (const index of this.#watch.ahead(this.#settings.self)) {
          if (found.length >= limit) break
          if (this.#picker.isOpen(index) && this.#isFree(index, now)) found.push(index)
        }
      if (found.length < limit) found.push(...this.#left(limit - found.length, now))
    }
    return found.length === 0 ? this.#inDeadlock(now, wake) : found
  }

  #isFree(index: number, now: number): boolean {
    return !this.isHeld(index) && !this.isClaimed(index, now)
  }

  /**
   * Every rule leaves some way in which all wait for one that never comes (it is dead and not missed, or the origin refuses it
   * alone). Whoever has waited long, with nothing under way, asks for one chunk that nobody reachable has or is fetching.
   */
  #inDeadlock(now: number, wake: WakeTime): number[] {
    if (this.#flights.count > 0) return []
    const leastMs = this.#watch.isNear ? DEADLOCK_MS : FAR_DEADLOCK_MS
    const askAt = (this.#gainedAt ?? now) + Math.max(leastMs, 4 * this.#chunkMs)
    wake.by(askAt)
    if (askAt > now) return []
    const { chunkCount } = this.#picker
    // Hosts begin at different places, so that those that wait for the same do not ask for the same.
    const from = this.#seed % chunkCount
    for (let step = 0; step < chunkCount; step++) {
      const index = (from + step) % chunkCount
      if (!this.#picker.isOpen(index) || !this.#isFree(index, now)) continue
      // All hear at one moment that a claim has come to nothing: one after the other, so that the next hears of the first.
      const turnAt = Math.max(askAt, this.#freeSince(index)) + this.#watch.place * DEADLOCK_STEP_MS
      wake.by(turnAt)
      if (turnAt <= now) return [index]
    }
    return []
  }

  /** When the last claim of the chunk ended; 0 when there was none. Nobody claims it now. */
  #freeSince(index: number): number {
    let since = 0
    for (const peer of this.#peers.all())
      since = Math.max(since, claimEnd(peer, index, this.#claimPatienceMs))
    return since
  }

  /** Chunks of others that fall to us: their owner has them but cannot be reached, is behind, or we have nothing else to bring. */
  #left(limit: number, now: number): number[] {
    const found: number[] = []
    for (const peer of this.#watch.owners()) {
      const unreachable = peer.holds !== undefined && !this.#taken().holders.includes(peer)
      const spare = this.#watch.spareOf(peer, (index) => this.isHeld(index))
      if (spare === 0 && !unreachable) continue
      const ahead = this.#watch.ahead(peer.id)
      // From the far end, which its owner would come to last.
      for (let back = 0; back < ahead.length && found.length < limit; back++) {
        const index = ahead[ahead.length - 1 - back] ?? -1
        if (!this.#picker.isOpen(index)) continue
        const ours = holdsChunk(peer, index)
          ? this.#watch.isNextInOrder(index)
          : back < spare && (this.#watch.isIdle ? this.#watch.isFirstIdle(index) : this.#watch.isHeir(index))
        if (ours && this.#isFree(index, now)) found.push(index)
      }
    }
    return found
  }

  /** Who holds and who claims, worked out once a decision, when first asked: most decisions never do. */
  #taken(): Stock {
    if (this.#stock !== undefined) return this.#stock
    const holders: Peer[] = []
    const claimers: Peer[] = []
    const now = this.#now
    for (const peer of this.#peers.all()) {
      if (this.#scores.banned(peer.id, now)) continue
      let isClaiming = false
      for (const index of peer.claims.keys()) {
        const end = claimEnd(peer, index, this.#claimPatienceMs)
        this.#wake?.by(end)
        if (end > now) isClaiming = true
      }
      if (isClaiming) claimers.push(peer)
      if (peer.holds === undefined) continue
      const { trusted, trustedUntil } = this.#scores.view(peer.id, now)
      if (!trusted) continue
      holders.push(peer)
      this.#wake?.by(trustedUntil)
    }
    this.#stock = { holders, claimers }
    return this.#stock
  }

  get #claimPatienceMs(): number {
    const least = this.#brought === 0 ? UNMEASURED_CLAIM_PATIENCE_MS : MIN_CLAIM_PATIENCE_MS
    return Math.max(least, 3 * this.#expectedMs)
  }

  #oldestFlightMs(now: number): number {
    let oldest = now
    for (const { assignment, startedAt } of this.#flights.all()) {
      if (assignment.source === ORIGIN && startedAt < oldest) oldest = startedAt
    }
    return now - oldest
  }
}
