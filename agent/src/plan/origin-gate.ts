// PURE. Whether this host may ask the origin for a chunk now: is the origin well, is the chunk ours, does anybody else bring it.
// Ownership passes on by evidence (an owner that has something to bring, and neither brings nor claims it), never by the clock alone.
import type { ChunkMap } from '@shoal/protocol/chunks.ts'
import { type ErrorCode, errorRow } from '@shoal/protocol/errors.ts'
import type { ChunkPicker } from './chunk-picker.ts'
import { type Flights, ORIGIN } from './flights.ts'
import { OwnerTable, type ShareSeed, shareSeed } from './origin-share.ts'
import { bringsChunk, CLAIM_MS, holdsChunk, type Peer, type PeerTable } from './peer-table.ts'
import type { SourceScores } from './source-score.ts'
import type { WakeTime } from './wake-time.ts'

/** An owner that should bring something, brings nothing for this long and claims nothing, is passed over. */
export const TAKEOVER_MS = 5_000
/** The above is so many times as long for an owner that is alive. */
const ALIVE_PATIENCE = 3
/** On a slow line the above is twice what a chunk takes this host, but at most this. */
const MAX_TAKEOVER_MS = 15_000
/** A claim is honoured three times as long as this host itself needs for a chunk, but at least so long. */
const MIN_CLAIM_PATIENCE_MS = 8_000
/** The same while this host has nothing from the origin yet to compare with. */
const UNMEASURED_CLAIM_PATIENCE_MS = 30_000
/** An owner is behind when it needs this many times as long for a chunk as we do, and its rest takes it several chunks' time. */
const BEHIND_RATIO = 3
const BEHIND_SLACK_MS = 3_000
/** A host that gained nothing for so long and has nothing under way asks for something, whoever should: order is no end in itself. */
const DEADLOCK_MS = 20_000
/** Pause of the origin after a failure that may pass; doubles up to the limit. */
export const ORIGIN_COOLDOWN_MS = 1_000
export const ORIGIN_MAX_COOLDOWN_MS = 30_000
/** Requests open to the origin at first; one more after each chunk that did not take long, one less after one that did. */
const FIRST_ORIGIN_DEPTH = 2
const LONG_CHUNK_MS = 5_000
const RATE_WEIGHT = 0.3

export interface GateSettings {
  readonly blob: string
  readonly self: string
  readonly originDepth: number
  readonly originNotBefore: number
}

/** How far along an owner's list everything has been brought or is under way, and since when something has not. */
interface Duty {
  readonly chunks: readonly number[]
  cursor: number
  since: number | undefined
}

export class OriginGate {
  /** False: it refused for good, or this host is told to keep away from it. */
  allowed = true
  readonly #settings: GateSettings
  readonly #held: ChunkMap
  readonly #peers: PeerTable
  readonly #picker: ChunkPicker
  readonly #scores: SourceScores
  readonly #flights: Flights
  readonly #self: ShareSeed
  readonly #owners: OwnerTable
  readonly #duties = new Map<string, Duty>()
  /** Owners passed over, and since when. */
  readonly #passedOver = new Map<string, number>()
  #reopened = -1
  #now = 0
  #holders: readonly Peer[] = []
  #claimers: readonly Peer[] = []
  #depth: number
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
    this.#held = held
    this.#peers = peers
    this.#picker = picker
    this.#flights = flights
    this.#scores = scores
    this.#depth = Math.min(FIRST_ORIGIN_DEPTH, settings.originDepth)
    this.#self = shareSeed(settings.blob, settings.self)
    this.#owners = new OwnerTable(picker.chunkCount)
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
    if (durationMs < LONG_CHUNK_MS) this.#depth = Math.min(this.#depth + 1, this.#settings.originDepth)
    else this.#depth = Math.max(this.#depth - 1, Math.min(FIRST_ORIGIN_DEPTH, this.#settings.originDepth))
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
    this.#gainedAt ??= now
    this.#expectedMs = Math.max(this.#chunkMs, this.#oldestFlightMs(now))
    const holders: Peer[] = []
    const claimers: Peer[] = []
    const watch = this.allowed && this.#picker.openCount > 0 ? wake : undefined
    if (whole) this.#owners.add(this.#self)
    for (const host of [...this.#owners.hosts()])
      if (host !== this.#self.host && this.#peers.get(host) === undefined) this.#forget(host)
    if (this.#reopened !== this.#picker.reopened) {
      this.#reopened = this.#picker.reopened
      for (const duty of this.#duties.values()) duty.cursor = 0
    }
    for (const peer of this.#peers.all()) {
      const banned = this.#scores.banned(peer.id, now)
      const claimsEnd = banned ? 0 : this.#claimsEnd(peer, watch)
      if (claimsEnd > now) claimers.push(peer)
      if (!banned && peer.holds !== undefined) {
        const { trusted, trustedUntil } = this.#scores.view(peer.id, now)
        if (trusted) holders.push(peer)
        if (trusted) watch?.by(trustedUntil)
      }
      this.#seat(peer, banned, claimsEnd, now)
    }
    if (watch !== undefined) this.#judge(now, watch)
    this.#holders = holders
    this.#claimers = claimers
  }

  /** How many more requests the origin may be sent now. */
  spare(now: number, wake: WakeTime): number {
    if (!this.allowed) return 0
    const readyAt = Math.max(this.#settings.originNotBefore, this.#coolUntil)
    if (readyAt <= now) return Math.max(0, this.#depth - this.#flights.countOf(ORIGIN))
    wake.by(readyAt)
    return 0
  }

  /** The chunk is a peer's to bring. */
  owns(peer: string, index: number): boolean {
    return this.#owners.owner(index) === peer
  }

  /** A reachable host has the chunk. */
  isHeld(index: number): boolean {
    return this.#holders.some((peer) => bringsChunk(peer, index, this.#now))
  }

  /** Somebody is fetching it from the origin. */
  isClaimed(index: number, now: number): boolean {
    return this.#claimers.some((peer) => this.#claimEnd(peer, index) > now)
  }

  /** Nobody reachable has it or is fetching it, and it is ours to ask for: we own it, or nobody that could bring it does. */
  mayAsk(index: number, now: number): boolean {
    return this.#isOurs(index) && !this.isHeld(index) && !this.isClaimed(index, now)
  }

  /** Open chunks to ask the origin for, at most `limit`: ours from the front; else those of owners that are behind. */
  pick(limit: number, now: number, wake: WakeTime): number[] {
    const found: number[] = []
    if (limit <= 0 || this.#holders.some(({ holds, stalled }) => holds === 'all' && stalled.size === 0))
      return found
    const { chunks, cursor } = this.#duty(this.#self.host)
    for (let at = cursor; at < chunks.length && found.length < limit; at++) {
      const index = chunks[at] ?? -1
      if (this.#picker.isOpen(index) && !this.isHeld(index) && !this.isClaimed(index, now)) found.push(index)
    }
    if (found.length < limit) found.push(...this.#left(limit - found.length, now))
    return found.length === 0 ? this.#inDeadlock(now, wake) : found
  }

  /**
   * Every rule leaves some way in which all wait for one that never comes (it is dead and not missed, or the origin refuses it
   * alone). Whoever has waited long, with nothing under way, asks for one chunk that nobody reachable has or is fetching.
   */
  #inDeadlock(now: number, wake: WakeTime): number[] {
    if (this.#flights.count > 0) return []
    const askAt = (this.#gainedAt ?? now) + Math.max(DEADLOCK_MS, 4 * this.#chunkMs)
    wake.by(askAt)
    if (askAt > now) return []
    const { chunkCount } = this.#picker
    // Hosts begin at different places, so that those that wait for the same do not ask for the same.
    const from = this.#self.seed % chunkCount
    for (let step = 0; step < chunkCount; step++) {
      const index = (from + step) % chunkCount
      if (this.#picker.isOpen(index) && !this.isHeld(index) && !this.isClaimed(index, now)) return [index]
    }
    return []
  }

  /** Chunks of others that fall to us: their owner has them but cannot be reached, or is behind. */
  #left(limit: number, now: number): number[] {
    const found: number[] = []
    for (const host of this.#owners.hosts()) {
      const peer = this.#peers.get(host)
      if (peer === undefined) continue
      const unreachable = peer.holds !== undefined && !this.#holders.includes(peer)
      const behind = this.#isBehind(peer)
      if (!behind && !unreachable) continue
      const { chunks } = this.#duty(host)
      // From the far end, which a slow owner would come to last.
      for (let at = chunks.length - 1; at >= 0 && found.length < limit; at--) {
        const index = chunks[at] ?? -1
        if (!this.#picker.isOpen(index)) continue
        const ours = holdsChunk(peer, index) ? this.#isNextInOrder(index) : behind && this.#isHeir(index)
        if (ours && !this.isHeld(index) && !this.isClaimed(index, now)) found.push(index)
      }
    }
    return found
  }

  /** Its rest would take it clearly longer than a few chunks take us: all would wait for it in the end. */
  #isBehind(peer: Peer): boolean {
    // What it has brought lately may not be known yet: count one more, and up to when we last heard of it. In its first seconds
    // it is too early to say.
    const heardMs = peer.heardAt - peer.wantingSince
    const chunksBrought = peer.brought + 1
    if (heardMs < Math.max(this.#takeoverMs, BEHIND_RATIO * this.#intervalMs * chunksBrought)) return false
    const { chunks, cursor } = this.#duty(peer.id)
    let rest = 0
    for (let at = cursor; at < chunks.length; at++) {
      const index = chunks[at] ?? -1
      if (!this.#held.has(index) && !this.isHeld(index)) rest++
    }
    return (rest * heardMs) / chunksBrought >= BEHIND_SLACK_MS + 4 * this.#expectedMs
  }

  #forget(host: string): void {
    this.#owners.remove(host)
    this.#duties.delete(host)
    this.#passedOver.delete(host)
  }

  /** Gives a peer its seat among the owners, or takes it away. Who was passed over comes back by bringing or claiming something. */
  #seat(peer: Peer, banned: boolean, claimsEnd: number, now: number): void {
    if (banned || !peer.wanting || peer.holds === 'all') {
      this.#forget(peer.id)
      return
    }
    const passedAt = this.#passedOver.get(peer.id)
    if (passedAt !== undefined && peer.lastBroughtAt <= passedAt && claimsEnd <= now) return
    this.#passedOver.delete(peer.id)
    this.#owners.add(peer.seed)
  }

  /** Passes over owners that have something to bring and show no sign of doing so. */
  #judge(now: number, wake: WakeTime): void {
    this.#noteDuties(now)
    const passed = [...this.#owners.hosts()].filter((host) => this.#passAt(host) <= now)
    for (const host of passed) {
      this.#passedOver.set(host, now)
      this.#owners.remove(host)
    }
    // What they leave undone falls to others, who have from now on to do it.
    if (passed.length > 0) this.#noteDuties(now)
    for (const host of this.#owners.hosts()) wake.by(this.#passAt(host))
  }

  #noteDuties(now: number): void {
    for (const host of this.#owners.hosts()) {
      const duty = this.#duty(host)
      if (duty.cursor === duty.chunks.length) duty.since = undefined
      else duty.since ??= now
    }
  }

  /** When an owner's time is up; infinite for this host and for those with nothing to do. */
  #passAt(host: string): number {
    const peer = this.#peers.get(host)
    const since = this.#duties.get(host)?.since
    // While we cannot reach the origin ourselves, the silence of others says nothing about them.
    if (peer === undefined || since === undefined || this.#failures > 0) return Number.POSITIVE_INFINITY
    const silentSince = Math.max(peer.lastBroughtAt, since, this.#recoveredAt)
    // A host that gives signs of life may be slow, and so may be whatever announces what it has brought. One that gives none is
    // judged sooner, but not at once: announcements get lost.
    const takeoverMs = this.#takeoverMs
    const quietSince = Math.max(
      silentSince + (peer.heardAt > silentSince ? 0 : takeoverMs),
      this.#scores.signAt(host),
    )
    const passAt = Math.min(quietSince + takeoverMs, silentSince + ALIVE_PATIENCE * takeoverMs)
    return Math.max(passAt, this.#claimsEnd(peer, undefined))
  }

  /** A host's list, its cursor moved to the first chunk that it still has to bring: that neither it nor we have. */
  #duty(host: string): Duty {
    const chunks = this.#owners.chunksOf(host)
    let duty = this.#duties.get(host)
    if (duty?.chunks !== chunks) {
      duty = { chunks, cursor: 0, since: duty?.since }
      this.#duties.set(host, duty)
    }
    const peer = this.#peers.get(host)
    for (; duty.cursor < chunks.length; duty.cursor++) {
      const index = chunks[duty.cursor] ?? -1
      if (!this.#held.has(index) && (peer === undefined || !holdsChunk(peer, index))) break
    }
    return duty
  }

  #isOurs(index: number): boolean {
    const owner = this.#owners.owner(index)
    if (owner === undefined || owner === this.#self.host) return true
    const peer = this.#peers.get(owner)
    return peer !== undefined && holdsChunk(peer, index) && this.#isNextInOrder(index)
  }

  /** Next in order after the owner; everybody works out the same one. */
  #isHeir(index: number): boolean {
    const heir = this.#owners.heir(index)
    return heir === undefined || heir === this.#self.host
  }

  /** First in order among hosts that lack the chunk. */
  #isNextInOrder(index: number): boolean {
    const lacks = (host: string) => {
      const peer = this.#peers.get(host)
      return peer === undefined || !holdsChunk(peer, index)
    }
    const next = this.#owners.ownerAmong(index, lacks)
    return next === undefined || next === this.#self.host
  }

  #claimEnd(peer: Peer, index: number): number {
    const since = peer.claims.get(index)
    return since === undefined ? 0 : Math.min(peer.claimsAt + CLAIM_MS, since + this.#claimPatienceMs)
  }

  /** When the last claim of a peer ends; tells `wake` when the first does. */
  #claimsEnd(peer: Peer, wake: WakeTime | undefined): number {
    let last = 0
    for (const index of peer.claims.keys()) {
      const end = this.#claimEnd(peer, index)
      wake?.by(end)
      if (end > last) last = end
    }
    return last
  }

  get #claimPatienceMs(): number {
    const least = this.#brought === 0 ? UNMEASURED_CLAIM_PATIENCE_MS : MIN_CLAIM_PATIENCE_MS
    return Math.max(least, 3 * this.#expectedMs)
  }

  get #takeoverMs(): number {
    return Math.min(Math.max(TAKEOVER_MS, 2 * this.#expectedMs), MAX_TAKEOVER_MS)
  }

  #oldestFlightMs(now: number): number {
    let oldest = now
    for (const { assignment, startedAt } of this.#flights.all()) {
      if (assignment.source === ORIGIN && startedAt < oldest) oldest = startedAt
    }
    return now - oldest
  }
}
