// Hands facts about peers and readers to a blob's plan, and keeps those that come before the plan exists: peers are asked what
// they hold while the partial blob is being opened. Decides nothing.
import { ChunkMap } from '@shoal/protocol/chunks.ts'
import type { PeerId } from '@shoal/protocol/ids.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import type { DownloadPlan } from '../plan/download-plan.ts'

export interface PeerState {
  readonly holds: ChunkMap | 'all' | undefined
  readonly wanting: boolean
  readonly claimed: readonly number[]
}

export class PlanFeed {
  readonly #clock: Clock
  readonly #onFact: () => void
  readonly #peers = new Map<PeerId, PeerState>()
  readonly #wants = new Map<number, { readonly next: number; readonly afterLast: number }>()
  #plan: DownloadPlan | undefined

  /** @param onFact called after every fact: the plan is to be asked again */
  constructor(clock: Clock, onFact: () => void) {
    this.#clock = clock
    this.#onFact = onFact
  }

  attach(plan: DownloadPlan): void {
    this.#plan = plan
    const now = this.#clock.now()
    for (const [peer, state] of this.#peers) plan.peerState(peer, state, now)
    for (const [reader, { next, afterLast }] of this.#wants) plan.want(reader, next, afterLast, now)
    this.#peers.clear()
    this.#wants.clear()
  }

  want(reader: number, next: number, afterLast: number): void {
    if (this.#plan === undefined) this.#wants.set(reader, { next, afterLast })
    else this.#plan.want(reader, next, afterLast, this.#clock.now())
    this.#onFact()
  }

  unwant(reader: number): void {
    this.#wants.delete(reader)
    this.#plan?.unwant(reader)
  }

  peerState(peer: PeerId, state: PeerState): void {
    if (this.#plan === undefined) this.#peers.set(peer, state)
    else this.#plan.peerState(peer, state, this.#clock.now())
    this.#onFact()
  }

  peerGained(peer: PeerId, indices: Iterable<number>): void {
    if (this.#plan === undefined) {
      const holds = this.#peers.get(peer)?.holds
      if (holds instanceof ChunkMap) for (const index of indices) holds.add(index)
    } else this.#plan.peerGained(peer, indices, this.#clock.now())
    this.#onFact()
  }

  /** A peer is fetching the blob too; what it holds is not known yet, or stays as it is known. */
  peerWants(peer: PeerId): void {
    if (this.#plan === undefined) {
      const { holds, claimed } = this.#peers.get(peer) ?? { holds: undefined, claimed: [] }
      this.#peers.set(peer, { holds, wanting: true, claimed })
    } else this.#plan.peerState(peer, { holds: undefined, wanting: true }, this.#clock.now())
    this.#onFact()
  }

  knows(peer: PeerId): boolean {
    return this.#plan?.knowsPeer(peer) ?? this.#peers.has(peer)
  }

  removePeer(peer: PeerId): void {
    this.#peers.delete(peer)
    this.#plan?.removePeer(peer)
    this.#onFact()
  }
}
