// PURE. Who owns which chunk of a blob at the origin, and whether the owners do their share. The first hosts in order have seats and own the
// chunks; ownership passes on by evidence (an owner that has something to bring, and neither brings nor claims it), never by
// the clock alone. What this host does with that is origin-gate.ts.
import type { ChunkMap } from '@shoal/protocol/chunks.ts'
import type { ChunkPicker } from './chunk-picker.ts'
import { OwnerTable, type ShareSeed } from './origin-share.ts'
import { claimEnd, holdsChunk, type Peer, type PeerTable } from './peer-table.ts'
import { SeatOrder } from './seat-order.ts'
import type { SourceScores } from './source-score.ts'
import type { WakeTime } from './wake-time.ts'

/** The patience with an owner is so many times as long for one that is alive. */
const ALIVE_PATIENCE = 3
/** An owner is behind when it needs this many times as long for a chunk as we do, and its rest takes it several chunks' time. */
const BEHIND_RATIO = 3
const BEHIND_SLACK_MS = 3_000
/** A host that has brought its own share helps the others, but leaves each what it comes to next. */
const LEFT_TO_OWNER = 4

/** How patient this host is with others, from what the origin takes itself. */
export interface Patience {
  /** An owner that should bring something, brings nothing for this long and claims nothing, is passed over. */
  readonly takeoverMs: number
  /** How long a claim is honoured. */
  readonly claimMs: number
  /** We cannot reach the origin ourselves: the silence of others says nothing about them. */
  readonly blind: boolean
  /** When we could again. */
  readonly recoveredAt: number
  /** Time between two chunks that this host brought, on the average; infinite before the first. */
  readonly intervalMs: number
  /** What a chunk takes this host from the origin at present. */
  readonly expectedMs: number
}

/** How far along an owner's list everything has been brought or is under way, and since when something has not. */
interface Duty {
  readonly chunks: readonly number[]
  cursor: number
  since: number | undefined
}

export class OwnerWatch {
  readonly #self: ShareSeed
  readonly #held: ChunkMap
  readonly #peers: PeerTable
  readonly #picker: ChunkPicker
  readonly #scores: SourceScores
  readonly #owners: OwnerTable
  readonly #seats: SeatOrder
  readonly #duties = new Map<string, Duty>()
  /** Owners passed over, and since when. */
  readonly #passedOver = new Map<string, number>()
  #seenPeers = -1
  #reopened = -1
  #patience: Patience | undefined
  #now = 0

  constructor(
    self: ShareSeed,
    seats: number,
    held: ChunkMap,
    peers: PeerTable,
    picker: ChunkPicker,
    scores: SourceScores,
  ) {
    this.#self = self
    this.#held = held
    this.#peers = peers
    this.#picker = picker
    this.#scores = scores
    this.#owners = new OwnerTable(picker.chunkCount)
    this.#seats = new SeatOrder(seats)
  }

  /** Brings seats up to date for one decision. @param whole this host fetches every chunk, so it may have a seat */
  refresh(now: number, whole: boolean, patience: Patience): void {
    this.#patience = patience
    this.#now = now
    if (whole) this.#seats.add(this.#self)
    if (this.#reopened !== this.#picker.reopened) {
      this.#reopened = this.#picker.reopened
      for (const duty of this.#duties.values()) duty.cursor = 0
    }
    // Nothing that decides about seats has changed: the usual case, and the loop below is not cheap.
    if (this.#seenPeers !== this.#peers.version || this.#passedOver.size > 0) {
      this.#seenPeers = this.#peers.version
      for (const host of [...this.#seats.hosts(), ...this.#passedOver.keys()])
        if (host !== this.#self.host && this.#peers.get(host) === undefined) this.#forget(host)
      for (const peer of this.#peers.all()) this.#seat(peer, now)
    }
    this.#takeSeats()
  }

  /** Passes over owners that have something to bring and show no sign of doing so. Only who is close to a seat hears enough of them. */
  judge(now: number, wake: WakeTime): void {
    if (!this.isNear) return
    this.#noteDuties(now)
    const passed = [...this.#owners.hosts()].filter((host) => this.#passAt(host) <= now)
    for (const host of passed) {
      this.#passedOver.set(host, now)
      this.#seats.remove(host)
    }
    // What they leave undone falls to others, who have from now on to do it.
    if (passed.length > 0) {
      this.#takeSeats()
      this.#noteDuties(now)
    }
    for (const host of this.#owners.hosts()) wake.by(this.#passAt(host))
  }

  /** This host has a seat, or is one of the next to get one. */
  get isNear(): boolean {
    return this.#seats.isNear(this.#self.host)
  }

  /** How many hosts are before this one in order, as far as known. */
  get place(): number {
    return this.#seats.placeOf(this.#self.host)
  }

  get isSeated(): boolean {
    return this.#owners.has(this.#self.host)
  }

  /** This host has a seat and nothing left to bring of its own. */
  get isIdle(): boolean {
    if (!this.isSeated) return false
    const { chunks, cursor } = this.#duty(this.#self.host)
    return cursor === chunks.length
  }

  /** Every owner that is a peer. */
  *owners(): Generator<Peer> {
    for (const host of this.#owners.hosts()) {
      const peer = this.#peers.get(host)
      if (peer !== undefined) yield peer
    }
  }

  /** The chunk is a peer's to bring. */
  owns(peer: string, index: number): boolean {
    return this.#owners.owner(index) === peer
  }

  /** The chunk is this host's to bring: it owns it, or is next in order after an owner that has it and cannot be reached. */
  isOurs(index: number): boolean {
    const owner = this.#owners.owner(index)
    if (owner === undefined || owner === this.#self.host) return true
    const peer = this.#peers.get(owner)
    return peer !== undefined && holdsChunk(peer, index) && this.isNextInOrder(index)
  }

  /** Next in order after the owner; everybody works out the same one. */
  isHeir(index: number): boolean {
    const heir = this.#owners.heir(index)
    return heir === undefined || heir === this.#self.host
  }

  /**
   * First in order among the owners that have nothing left to bring of their own, or may have nothing left by now: so that two
   * of them do not bring the same.
   */
  isFirstIdle(index: number): boolean {
    const { host: self } = this.#self
    const owner = this.#owners.owner(index)
    const mayBeIdle = (host: string) => {
      const peer = host === owner ? undefined : this.#peers.get(host)
      return host === self || (peer !== undefined && this.#spare(peer) === 0)
    }
    return this.#owners.ownerAmong(index, mayBeIdle) === self
  }

  /** First in order among hosts that lack the chunk. */
  isNextInOrder(index: number): boolean {
    const lacks = (host: string) => {
      const peer = this.#peers.get(host)
      return peer === undefined || !holdsChunk(peer, index)
    }
    const next = this.#owners.ownerAmong(index, lacks) ?? this.#seats.firstWaiting(lacks)
    return next === undefined || next === this.#self.host
  }

  /** A host's chunks that it still has to bring, in the order in which it does. Some may be held or under way. */
  ahead(host: string): readonly number[] {
    const { chunks, cursor } = this.#duty(host)
    return cursor === 0 ? chunks : chunks.slice(cursor)
  }

  /** How many of an owner's last chunks others may bring: with nothing else to do, all but those it comes to next. */
  spareOf(peer: Peer, isHeld: (index: number) => boolean): number {
    const ahead = this.ahead(peer.id)
    if (this.#isBehind(peer, ahead, isHeld)) return ahead.length
    return this.isIdle ? this.#spare(peer) : 0
  }

  /** How many of its last chunks an owner does not come to soon, and cannot have come to since it was last heard of. */
  #spare(peer: Peer): number {
    const theirMs = (peer.heardAt - peer.wantingSince) / (peer.brought + 1)
    const chunkMs = Math.max(1, Math.min(theirMs, this.#patience?.intervalMs ?? theirMs))
    const unheard = peer.claims.size + Math.ceil((this.#now - peer.heardAt) / chunkMs)
    return Math.max(0, this.ahead(peer.id).length - LEFT_TO_OWNER - unheard)
  }

  /** Its rest would take it clearly longer than a few chunks take us: all would wait for it in the end. */
  #isBehind(peer: Peer, ahead: readonly number[], isHeld: (index: number) => boolean): boolean {
    const patience = this.#patience
    if (patience === undefined) return false
    // What it has brought lately may not be known yet: count one more, and up to when we last heard of it. In its first seconds
    // it is too early to say.
    const heardMs = peer.heardAt - peer.wantingSince
    const chunksBrought = peer.brought + 1
    if (heardMs < Math.max(patience.takeoverMs, BEHIND_RATIO * patience.intervalMs * chunksBrought))
      return false
    let rest = 0
    for (const index of ahead) if (!this.#held.has(index) && !isHeld(index)) rest++
    return (rest * heardMs) / chunksBrought >= BEHIND_SLACK_MS + 4 * patience.expectedMs
  }

  #forget(host: string): void {
    this.#seats.remove(host)
    this.#passedOver.delete(host)
  }

  /** Gives a peer its place in the order, or takes it away. Who was passed over comes back by bringing or claiming something. */
  #seat(peer: Peer, now: number): void {
    // Hosts of another site ask their own origin.
    const isHere = peer.wanting && peer.holds !== 'all' && peer.distance < 2
    if (!isHere || this.#scores.banned(peer.id, now)) {
      this.#forget(peer.id)
      return
    }
    const passedAt = this.#passedOver.get(peer.id)
    if (passedAt !== undefined && peer.lastBroughtAt <= passedAt && this.#claimsEnd(peer) <= now) return
    this.#passedOver.delete(peer.id)
    this.#seats.add(peer.seed)
  }

  /** The first in order own the chunks; the others wait for a seat. */
  #takeSeats(): void {
    if (!this.#seats.changed) return
    const seated = this.#seats.seated()
    for (const host of [...this.#owners.hosts()]) {
      if (seated.some((seed) => seed.host === host)) continue
      this.#owners.remove(host)
      this.#duties.delete(host)
    }
    for (const seed of seated) this.#owners.add(seed)
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
    const patience = this.#patience
    if (peer === undefined || since === undefined || patience === undefined || patience.blind)
      return Number.POSITIVE_INFINITY
    const silentSince = Math.max(peer.lastBroughtAt, since, patience.recoveredAt)
    // A host that gives signs of life may be slow, and so may be whatever announces what it has brought. One that gives none is
    // judged sooner, but not at once: announcements get lost.
    const { takeoverMs } = patience
    const quietSince = Math.max(
      silentSince + (peer.heardAt > silentSince ? 0 : takeoverMs),
      this.#scores.signAt(host),
    )
    const passAt = Math.min(quietSince + takeoverMs, silentSince + ALIVE_PATIENCE * takeoverMs)
    return Math.max(passAt, this.#claimsEnd(peer))
  }

  /** When the last claim of a peer ends. */
  #claimsEnd(peer: Peer): number {
    let last = 0
    for (const index of peer.claims.keys())
      last = Math.max(last, claimEnd(peer, index, this.#patience?.claimMs ?? 0))
    return last
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
}
