// PURE. What is known of the other hosts for one blob: what each says it holds, whether it fetches the blob too, and what it has
// brought from the origin lately. All of it hearsay: it decides whom to ask, never what to believe.
import { ChunkMap } from '@shoal/protocol/chunks.ts'
import type { ChunkPicker } from './chunk-picker.ts'
import type { Distance } from './neighbours.ts'
import { type ShareSeed, shareSeed } from './origin-share.ts'

/** What a peer says it is fetching from the origin counts for this long after it said so. */
export const CLAIM_MS = 6_000

export interface Peer {
  readonly id: string
  readonly seed: ShareSeed
  holds: ChunkMap | 'all' | undefined
  distance: Distance
  /** Open chunks among those it holds; kept only for a map. */
  useful: number
  wanting: boolean
  /** When it began to want the blob, as far as known, and what it has brought since: chunks of its share, or that nobody had. */
  wantingSince: number
  brought: number
  /** When it last brought one: the evidence that it does its share at the origin. */
  lastBroughtAt: number
  /** When it last said what it has or is doing. */
  heardAt: number
  /** Chunks it is fetching from the origin, by its own word, and when it first said so. */
  claims: ReadonlyMap<number, number>
  /** When it last said what it is fetching. */
  claimsAt: number
  /** Requests that are served or wait there, by its last word; those of ours that have gone there since; and the smoothed first. */
  line: number
  askedSince: number
  usualLine: number
  /** Chunks that it left lying when asked, and until when they do not count as held by it. */
  readonly stalled: Map<number, number>
}

export interface PeerFacts {
  readonly holds: ChunkMap | 'all' | undefined
  readonly wanting: boolean
  readonly claimed?: Iterable<number>
  /** Absent: as it is known, or near. */
  readonly distance?: Distance
}

export class PeerTable {
  readonly #blob: string
  readonly #held: ChunkMap
  readonly #picker: ChunkPicker
  readonly #owns: (peer: string, index: number) => boolean
  readonly #peers = new Map<string, Peer>()
  #version = 0

  /**
   * @param held chunks of this host, kept up to date by the plan
   * @param owns whether a chunk is a peer's share of the origin
   */
  constructor(
    blob: string,
    held: ChunkMap,
    picker: ChunkPicker,
    owns: (peer: string, index: number) => boolean,
  ) {
    this.#blob = blob
    this.#held = held
    this.#picker = picker
    this.#owns = owns
  }

  /** Grows whenever a peer comes, goes, begins or ends to want the blob, or comes to hold all of it. */
  get version(): number {
    return this.#version
  }

  get(id: string): Peer | undefined {
    return this.#peers.get(id)
  }

  all(): Iterable<Peer> {
    return this.#peers.values()
  }

  /**
   * A peer's own word. A map adds to what it has announced: an answer and an announcement may overtake each other, and what
   * it has lost since shows when it is asked for it. No map from a peer that is fetching says nothing new about what it holds.
   */
  learn(id: string, facts: PeerFacts, now: number): void {
    const known = this.#peers.get(id)
    const peer = known ?? this.#newcomer(id, now)
    if (facts.wanting !== peer.wanting || (facts.holds === 'all') !== (peer.holds === 'all')) this.#version++
    if (facts.wanting && !peer.wanting) {
      peer.wantingSince = now
      peer.lastBroughtAt = now
      peer.brought = 0
    }
    peer.wanting = facts.wanting
    if (facts.distance !== undefined && facts.distance !== peer.distance) {
      peer.distance = facts.distance
      this.#version++
    }
    if (facts.claimed !== undefined || facts.holds !== undefined) peer.heardAt = now
    if (facts.claimed !== undefined) {
      const claims = new Map<number, number>()
      for (const index of facts.claimed) claims.set(index, peer.claims.get(index) ?? now)
      if (claims.size + peer.claims.size > 0) peer.claims = claims
      peer.claimsAt = now
    }
    if (known !== undefined && facts.holds instanceof ChunkMap && peer.holds !== 'all') {
      this.gained(id, facts.holds.indices(), now)
      return
    }
    if (facts.holds === undefined && facts.wanting) return
    this.#forget(peer)
    peer.holds = facts.holds instanceof ChunkMap ? facts.holds.clone() : facts.holds
    this.#count(peer)
  }

  /**
   * A peer announced chunks that it has stored. Unknown peers and indices beyond the blob are passed over.
   * @returns whether it could bring one that is still to be asked for
   */
  gained(id: string, indices: Iterable<number>, now: number): boolean {
    const peer = this.#peers.get(id)
    if (peer === undefined) return false
    peer.heardAt = now
    if (peer.holds === 'all') return false
    const usefulBefore = peer.useful
    peer.holds ??= new ChunkMap(this.#held.chunkCount)
    let brought = 0
    for (const index of indices) {
      if (index >= this.#held.chunkCount || !peer.holds.add(index)) continue
      if (!this.#held.has(index) && (this.#picker.copies(index) === 0 || this.#owns(id, index))) brought++
      this.#picker.addCopy(index)
      if (this.#picker.isOpen(index)) peer.useful++
    }
    if (brought > 0) {
      peer.brought += brought
      peer.lastBroughtAt = now
    }
    return peer.useful > usefulBefore
  }

  /** How many requests a peer has to serve, by its own word. */
  loaded(id: string, line: number, smooth: boolean): void {
    const peer = this.#peers.get(id)
    if (peer === undefined) return
    peer.line = line
    peer.askedSince = 0
    if (smooth) peer.usualLine = peer.usualLine * 0.7 + line * 0.3
  }

  /** The peer turned out not to hold a chunk. */
  lacks(id: string, index: number): void {
    const peer = this.#peers.get(id)
    if (peer?.holds === undefined) return
    if (peer.holds === 'all') {
      peer.holds = ChunkMap.full(this.#held.chunkCount)
      this.#version++
      this.#count(peer)
    }
    if (!peer.holds.delete(index)) return
    this.#picker.removeCopy(index)
    if (this.#picker.isOpen(index)) peer.useful--
  }

  /** The peer was asked for a chunk and left it lying. */
  stalled(id: string, index: number, until: number): void {
    this.#peers.get(id)?.stalled.set(index, until)
  }

  remove(id: string): void {
    const peer = this.#peers.get(id)
    if (peer === undefined) return
    this.#version++
    this.#forget(peer)
    this.#peers.delete(id)
  }

  /** Keeps count when the picker opens (1) or closes (-1) a chunk. */
  changed(index: number, delta: 1 | -1): void {
    let left = this.#picker.copies(index)
    if (left === 0) return
    for (const peer of this.#peers.values()) {
      if (!(peer.holds instanceof ChunkMap) || !peer.holds.has(index)) continue
      peer.useful += delta
      if (--left === 0) return
    }
  }

  #newcomer(id: string, now: number): Peer {
    const peer: Peer = {
      id,
      seed: shareSeed(this.#blob, id),
      holds: undefined,
      distance: 1,
      useful: 0,
      wanting: false,
      wantingSince: now,
      brought: 0,
      lastBroughtAt: now,
      heardAt: now,
      claims: new Map(),
      claimsAt: now,
      stalled: new Map(),
      line: 0,
      askedSince: 0,
      usualLine: 0,
    }
    this.#version++
    this.#peers.set(id, peer)
    return peer
  }

  #count(peer: Peer): void {
    peer.useful = 0
    if (!(peer.holds instanceof ChunkMap)) return
    for (const index of peer.holds.indices()) this.#picker.addCopy(index)
    peer.useful = this.#picker.openIn(peer.holds)
  }

  #forget(peer: Peer): void {
    if (!(peer.holds instanceof ChunkMap)) return
    for (const index of peer.holds.indices()) this.#picker.removeCopy(index)
  }
}

export function holdsChunk(peer: Peer, index: number): boolean {
  return peer.holds === 'all' || peer.holds?.has(index) === true
}

/** Until when a peer's word that it is fetching a chunk from the origin is honoured; 0 when it has not given it. */
export function claimEnd(peer: Peer, index: number, patienceMs: number): number {
  const since = peer.claims.get(index)
  return since === undefined ? 0 : Math.min(peer.claimsAt + CLAIM_MS, since + patienceMs)
}

/** It holds the chunk, and nothing speaks against its bringing it. */
export function bringsChunk(peer: Peer, index: number, now: number): boolean {
  return holdsChunk(peer, index) && (peer.stalled.get(index) ?? 0) <= now
}

/** Open chunks that the peer could bring. */
export function usefulCount(peer: Peer, openCount: number): number {
  return peer.holds === 'all' ? openCount : peer.useful
}
