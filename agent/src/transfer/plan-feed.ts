// Hands facts about peers and readers to a blob's plan, and keeps those that come before the plan exists: peers are asked what
// they hold while the partial blob is being opened. Decides nothing.
import { ChunkMap } from '@shoal/protocol/chunks.ts'
import type { PeerId } from '@shoal/protocol/ids.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import type { DownloadPlan } from '../plan/download-plan.ts'
import type { Distance } from '../plan/neighbours.ts'

export interface PeerState {
  readonly holds: ChunkMap | 'all' | undefined
  readonly wanting: boolean
  readonly claimed: readonly number[]
  readonly distance: Distance
}

export class PlanFeed {
  readonly #clock: Clock
  readonly #onFact: (soon?: boolean) => void
  readonly #peers = new Map<PeerId, PeerState>()
  /** Peers that are fetching something from the origin. */
  readonly #claiming = new Set<PeerId>()
  readonly #wants = new Map<number, { readonly next: number; readonly afterLast: number }>()
  #plan: DownloadPlan | undefined

  /** @param onFact called after every fact: the plan is to be asked again; `soon`: there may be more in a moment */
  constructor(clock: Clock, onFact: (soon?: boolean) => void) {
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

  /** A neighbour told what it has stored, and what it is fetching from the origin. Most such news change nothing here. */
  peerGained(peer: PeerId, indices: readonly number[], claimed: readonly number[]): void {
    const plan = this.#plan
    if (plan === undefined) {
      const known = this.#peers.get(peer)
      if (known?.holds instanceof ChunkMap) for (const index of indices) known.holds.add(index)
      if (known !== undefined) this.#peers.set(peer, { ...known, claimed })
      return
    }
    const now = this.#clock.now()
    const hadClaims = this.#claiming.has(peer)
    if (claimed.length > 0) this.#claiming.add(peer)
    else this.#claiming.delete(peer)
    if (plan.peerGained(peer, indices, now) || hadClaims) this.#onFact(true)
    if (hadClaims || claimed.length > 0)
      plan.peerState(peer, { holds: undefined, wanting: true, claimed }, now)
  }

  /** How many requests a peer serves or has waiting. */
  peerLoad(peer: PeerId, line: number): void {
    this.#plan?.peerLoad(peer, line, false)
  }

  /** A peer is fetching the blob too; what it holds is not known yet, or stays as it is known. */
  peerWants(peer: PeerId, distance: Distance): void {
    if (this.#plan === undefined) {
      const { holds, claimed } = this.#peers.get(peer) ?? { holds: undefined, claimed: [] }
      this.#peers.set(peer, { holds, wanting: true, claimed, distance })
    } else this.#plan.peerState(peer, { holds: undefined, wanting: true, distance }, this.#clock.now())
    this.#onFact()
  }

  knows(peer: PeerId): boolean {
    return this.#plan?.knowsPeer(peer) ?? this.#peers.has(peer)
  }

  removePeer(peer: PeerId): void {
    this.#claiming.delete(peer)
    this.#peers.delete(peer)
    this.#plan?.removePeer(peer)
    this.#onFact()
  }
}
