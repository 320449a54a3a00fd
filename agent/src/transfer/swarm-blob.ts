// What the swarm knows of one blob that is arriving here, and how it reads what others say of it. State and translation only.
import { ChunkMap } from '@shoal/protocol/chunks.ts'
import type { BlobId, PeerId } from '@shoal/protocol/ids.ts'
import type { HaveAnswer, ReadGrant } from '@shoal/protocol/messages.ts'
import { Neighbours } from '../plan/neighbours.ts'
import type { PlanFeed } from './plan-feed.ts'

/** What a download wants to know of its peers. Called from the mesh's events; must not throw. */
export interface SwarmMember {
  readonly blob: BlobId
  readonly geometryText: string
  readonly chunkCount: number
  grant(): ReadGrant | undefined
  /** True once this host wants the whole blob and takes its share of the origin's chunks. */
  wantsWhole(): boolean
  /** Chunks that this host is fetching from the origin right now. */
  originClaims(): readonly number[]
  /** Where facts about its peers go. */
  readonly feed: Pick<
    PlanFeed,
    'peerState' | 'peerGained' | 'peerWants' | 'peerLoad' | 'knows' | 'removePeer'
  >
}

export class Joined {
  readonly member: SwarmMember
  readonly neighbours: Neighbours
  /** Chunks stored since the download began, in order. Each neighbour has been told so many of them. */
  readonly gained: number[] = []
  readonly toldUpTo = new Map<PeerId, number>()
  /** What this host asks the origin for has changed since neighbours were last told. */
  claimsChanged = false
  /** Everybody has been told that this host fetches the whole blob. */
  isGossiped = false
  readonly askedAt = new Map<PeerId, number>()
  /** Peers that have ever answered. */
  readonly answered = new Set<PeerId>()
  /** What each peer last said unasked, and when: an answer that left it before that knows less. */
  readonly told = new Map<PeerId, { readonly at: number; readonly state: 'wanting' | 'complete' }>()

  constructor(member: SwarmMember, neighbours: Neighbours) {
    this.member = member
    this.neighbours = neighbours
  }

  /** Every neighbour is told again, even without news. */
  tellAll(): void {
    this.claimsChanged = true
  }
}

/** @param originFetchers hosts of a site that speak to the origin for one blob */
export function joinedFor(member: SwarmMember, self: PeerId, originFetchers: number): Joined {
  return new Joined(member, new Neighbours(member.blob, self, originFetchers))
}

/** A map that does not fit the chunk count is no map. */
export function holdsOf(answer: HaveAnswer, chunkCount: number): ChunkMap | 'all' | undefined {
  if (answer.state === 'complete') return 'all'
  if (answer.state === 'none' || answer.held === undefined) return undefined
  return ChunkMap.decode(answer.held, chunkCount)
}

/** At most `room` of them. Runs may overlap: their sum is what costs. */
export function indicesOf(
  runs: readonly (readonly [number, number])[],
  chunkCount: number,
  room: number,
): readonly number[] {
  const indices: number[] = []
  for (const [first, length] of runs) {
    for (let index = first; index < Math.min(first + length, chunkCount); index++) {
      if (indices.length >= room) return indices
      indices.push(index)
    }
  }
  return indices
}
