// PURE. The state of one blob's transfer, and its transitions: a chunk is held, in flight, or open (to be asked for). Keeps the tables
// in step with each other; decides nothing. DownloadPlan tells it facts, PlanRound reads it to decide.
import type { ChunkMap } from '@shoal/protocol/chunks.ts'
import { ChunkPicker } from './chunk-picker.ts'
import { type Assignment, type Flight, Flights, ORIGIN } from './flights.ts'
import { OriginGate } from './origin-gate.ts'
import { shareSeed } from './origin-share.ts'
import { PeerChoice } from './peer-choice.ts'
import { holdsChunk, type Peer, PeerTable } from './peer-table.ts'
import { Readers, WINDOW_CHUNKS } from './readers.ts'
import type { SourceScores } from './source-score.ts'

/** Weight of the newest sample in smoothed sizes and durations. */
const WEIGHT = 0.3
/** A chunk that its holder gives to others just now is left alone for so long, or for this part of what a chunk takes. */
const DEFER_MS = 75
const DEFER_PART = 2

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
  /** How many hosts of the site speak to the origin for this blob. */
  readonly originFetchers: number
  /** No origin before this time: peers are being asked what they hold. */
  readonly originNotBefore: number
}

export class BlobState {
  readonly settings: PlanSettings
  readonly scores: SourceScores
  readonly held: ChunkMap
  readonly picker: ChunkPicker
  readonly peers: PeerTable
  readonly readers = new Readers()
  readonly flights = new Flights()
  readonly gate: OriginGate
  readonly choice: PeerChoice
  /** Chunks that some source was bringing when it was lost: to be asked of another before anything else. */
  readonly interrupted = new Set<number>()
  /** Chunks that only the origin may bring. */
  readonly originOnly = new Set<number>()
  /** Chunks that were asked for too early, and until when they are left alone: copies are being made. Not open meanwhile. */
  readonly deferred = new Map<number, number>()
  whole: boolean
  #chunkBytes = 0
  #peerChunkMs = 0
  /** No deferred chunk is due before this. */
  #recallAt = Number.POSITIVE_INFINITY

  constructor(settings: PlanSettings, scores: SourceScores) {
    this.settings = settings
    this.scores = scores
    this.held = settings.held.clone()
    this.whole = settings.whole
    const { seed } = shareSeed(settings.blob, settings.self)
    this.picker = new ChunkPicker(this.held, seed)
    this.peers = new PeerTable(settings.blob, this.held, this.picker, (peer, index) =>
      this.gate.owns(peer, index),
    )
    this.choice = new PeerChoice(this.peers, this.flights, scores, seed)
    this.gate = new OriginGate(settings, this.held, this.peers, this.picker, this.flights, scores)
  }

  launch(index: number, source: string, why: Assignment['why'], now: number): Assignment {
    this.interrupted.delete(index)
    if (this.picker.close(index)) this.peers.changed(index, -1)
    const peer = this.peers.get(source)
    if (peer !== undefined) peer.askedSince++
    return this.flights.launch(index, source, why, now)
  }

  /** The chunk is held from now on. */
  keep(index: number, now: number): void {
    if (!this.held.has(index)) this.held.add(index)
    this.gate.gained(now)
    this.originOnly.delete(index)
    this.interrupted.delete(index)
    this.deferred.delete(index)
    if (this.picker.close(index)) this.peers.changed(index, -1)
  }

  /** The chunk is to be asked for again, unless it is held or somebody else is bringing it. */
  reopen(index: number): void {
    if (this.held.has(index) || this.flights.of(index).length > 0) return
    this.deferred.delete(index)
    if (this.picker.open(index)) this.peers.changed(index, 1)
  }

  /** A holder gives the chunk to others just now, and the other holders most likely too: not to be asked for at once. */
  defer(index: number, now: number): void {
    if (this.held.has(index) || this.flights.of(index).length > 0) return
    const waitMs = Math.max(DEFER_MS, this.#peerChunkMs / DEFER_PART)
    // On a grid, so that many of them cost few decisions.
    const gridMs = 2 ** Math.floor(Math.log2(waitMs / 2))
    const until = Math.ceil((now + waitMs) / gridMs) * gridMs
    this.deferred.set(index, until)
    this.#recallAt = Math.min(this.#recallAt, until)
  }

  /** Opens what has been left alone for long enough. @returns when the next is due; infinite when none is */
  recall(now: number): number {
    if (now < this.#recallAt) return this.#recallAt
    let next = Number.POSITIVE_INFINITY
    for (const [index, until] of this.deferred) {
      if (until <= now) this.reopen(index)
      else if (until < next) next = until
    }
    this.#recallAt = next
    return next
  }

  /** @returns the flight's id, to be aborted */
  cancel(flight: Flight): number {
    this.flights.cancel(flight)
    if (!this.held.has(flight.assignment.index)) this.interrupted.add(flight.assignment.index)
    this.reopen(flight.assignment.index)
    return flight.assignment.id
  }

  /** A flight ended well: what it says about its source. */
  landed(flight: Flight, bytes: number, now: number): void {
    const { index, source } = flight.assignment
    const durationMs = now - flight.startedAt
    this.flights.end(flight)
    this.scores.success(source, bytes, durationMs)
    this.#chunkBytes = smoothed(this.#chunkBytes, bytes)
    if (source === ORIGIN) {
      this.gate.succeeded(durationMs, now)
      return
    }
    this.#peerChunkMs = smoothed(this.#peerChunkMs, durationMs)
    this.readers.broughtByPeer(index, WINDOW_CHUNKS)
  }

  get peerChunkMs(): number {
    return this.#peerChunkMs
  }

  /** What a chunk usually takes a source, in milliseconds; for one never measured, what it takes the others. */
  usualMs(source: string): number {
    if (source === ORIGIN) return this.gate.chunkMs
    const { rateBytesPerSecond: rate } = this.scores.view(source, 0)
    return rate > 0 && this.#chunkBytes > 0 ? (this.#chunkBytes * 1000) / rate : this.#peerChunkMs
  }

  /** Some chunk that is wanted is open (and `peer` could bring it). */
  wantsAny(peer?: Peer): boolean {
    if (this.whole) return this.#wantsAnyOf(0, this.picker.chunkCount, peer)
    for (const { next, afterLast } of this.readers.all())
      if (this.#wantsAnyOf(next, afterLast, peer)) return true
    return false
  }

  #wantsAnyOf(from: number, before: number, peer: Peer | undefined): boolean {
    const { picker } = this
    for (let index = picker.nextOpen(from); index < before; index = picker.nextOpen(index + 1)) {
      if (peer === undefined || (holdsChunk(peer, index) && !this.originOnly.has(index))) return true
    }
    return false
  }
}

function smoothed(known: number, sample: number): number {
  return known === 0 ? sample : known * (1 - WEIGHT) + sample * WEIGHT
}
