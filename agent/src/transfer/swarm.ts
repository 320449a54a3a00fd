// Who has what of the blobs that are arriving here, and telling others what we have stored. Asks peers, listens to gossip,
// batches announcements. All of it is a hint: only a proven chunk counts. Decides nothing about what to fetch.
import { ChunkMap, toRuns } from '@shoal/protocol/chunks.ts'
import { isAbort, messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import type { BlobId, PeerId } from '@shoal/protocol/ids.ts'
import type { GossipHave, HaveAnswer, ReadGrant } from '@shoal/protocol/messages.ts'
import { createTasks, type Service, type Tasks } from '@shoal/protocol/service.ts'
import { type Clock, deadline, sleep } from '@shoal/protocol/time.ts'
import type { Log } from '../log.ts'
import type { Mesh } from '../net/mesh.ts'
import type { PlanFeed } from './plan-feed.ts'

/** Peers asked about one blob when its download starts. */
const MAX_ASKED = 64
const ASK_TIMEOUT_MS = 3_000
/** How often peers that are still fetching are asked again: heals what gossip lost. */
const ASK_AGAIN_MS = 4_000
const ASKED_AGAIN_AT_ONCE = 8
/** Chunks stored within this time are announced together. */
const ANNOUNCE_AFTER_MS = 100
/** Chunks that one announcement may tell of: more is no honest host's, and costs time to take in. */
const MAX_TOLD = 65_536
/** Announcements of one host are spread further apart the more hosts have to hear them. */
const ANNOUNCE_SPREAD_MS_PER_PEER = 10

/** What a download wants to know of its peers. Called from the mesh's events; must not throw. */
export interface SwarmMember {
  readonly blob: BlobId
  readonly geometryText: string
  readonly chunkCount: number
  grant(): ReadGrant | undefined
  /** True once this host wants the whole blob and takes its share of the origin's chunks. */
  wantsWhole(): boolean
  /** Where facts about its peers go. */
  readonly feed: Pick<PlanFeed, 'peerState' | 'peerGained' | 'peerWants' | 'knows' | 'removePeer'>
}

interface Joined {
  readonly member: SwarmMember
  readonly gained: Set<number>
  /** Others have been told that this host fetches the whole blob. */
  toldWanting: boolean
  readonly askedAt: Map<PeerId, number>
  /** What each peer last said unasked, and when: an answer that left it before that knows less. */
  readonly told: Map<PeerId, { readonly at: number; readonly state: 'wanting' | 'complete' }>
  /** Peers that are fetching too, as far as known. */
  readonly wanting: Set<PeerId>
}

export interface SwarmDeps {
  readonly mesh: Mesh
  readonly clock: Clock
  readonly log: Log
  readonly onFailure: (name: string, error: unknown) => void
}

export class Swarm implements Service {
  readonly name = 'swarm'
  readonly #deps: SwarmDeps
  readonly #joined = new Map<BlobId, Joined>()
  /** Blobs that have left and nobody was told of yet. */
  readonly #left = new Map<BlobId, GossipHave['blobs'][number]>()
  #tasks: Tasks | undefined
  #stopListening: () => void = () => {}
  #cancelFlush: (() => void) | undefined

  constructor(deps: SwarmDeps) {
    this.#deps = deps
  }

  async start(): Promise<void> {
    if (this.#tasks !== undefined) return
    this.#tasks = createTasks(this.#deps.onFailure)
    this.#stopListening = this.#deps.mesh.listen({
      peerUp: (peer) => this.#forEach((joined) => this.#askSoon(joined, peer)),
      peerDown: (peer) =>
        this.#forEach((joined) => {
          joined.wanting.delete(peer)
          joined.askedAt.delete(peer)
          joined.told.delete(peer)
          joined.member.feed.removePeer(peer)
        }),
      have: (peer, announcement) => this.#heard(peer, announcement),
    })
    this.#tasks.run('ask peers again', (signal) => this.#askAgain(signal))
  }

  async stop(): Promise<void> {
    this.#stopListening()
    this.#cancelFlush?.()
    this.#cancelFlush = undefined
    const tasks = this.#tasks
    this.#tasks = undefined
    await tasks?.stop()
    this.#joined.clear()
    this.#left.clear()
  }

  /** A blob starts to arrive. Resolves when every connected peer has said what it holds, or `graceMs` have passed. */
  async join(member: SwarmMember, graceMs: number, signal: AbortSignal): Promise<void> {
    const joined: Joined = {
      member,
      gained: new Set(),
      toldWanting: false,
      askedAt: new Map(),
      told: new Map(),
      wanting: new Set(),
    }
    this.#joined.set(member.blob, joined)
    this.#left.delete(member.blob)
    this.#flushSoon()
    const peers = this.#deps.mesh.peers().slice(0, MAX_ASKED)
    if (peers.length === 0) return
    const answers = peers.map(({ peer }) => this.#ask(joined, peer, signal))
    using grace = deadline(this.#deps.clock, graceMs, () => new ShoalError('aborted', 'long enough'), signal)
    await Promise.race([
      Promise.all(answers),
      new Promise<void>((resolve) => grace.signal.addEventListener('abort', () => resolve(), { once: true })),
    ])
  }

  /** A blob is no longer arriving. @param complete this host now holds all of it */
  leave(blob: BlobId, complete: boolean): void {
    const joined = this.#joined.get(blob)
    if (joined === undefined) return
    this.#joined.delete(blob)
    const { geometryText: geometry } = joined.member
    this.#left.set(blob, { blob, geometry, state: complete ? 'complete' : 'gone', gained: [] })
    this.#flushSoon()
  }

  /** This host fetches the whole of a blob from now on. */
  wants(blob: BlobId): void {
    if (this.#joined.has(blob)) this.#flushSoon()
  }

  /** A chunk was stored: peers may ask for it from now on. */
  gained(blob: BlobId, index: number): void {
    this.#joined.get(blob)?.gained.add(index)
    this.#flushSoon()
  }

  /** A peer asked what we hold and said that it is fetching the blob. */
  peerAsked(peer: PeerId, blob: BlobId): void {
    const joined = this.#joined.get(blob)
    if (joined === undefined) return
    joined.wanting.add(peer)
    joined.told.set(peer, { at: this.#deps.clock.now(), state: 'wanting' })
    joined.member.feed.peerWants(peer)
    // It may have resumed with chunks that nobody heard of.
    if (!joined.askedAt.has(peer)) this.#askSoon(joined, peer)
  }

  #heard(peer: PeerId, announcement: GossipHave): void {
    let room = MAX_TOLD
    for (const { blob, geometry, state, gained } of announcement.blobs) {
      const joined = this.#joined.get(blob)
      if (joined === undefined || joined.member.geometryText !== geometry) continue
      // Gossip also tells of hosts that we have no connection with: no use until we have.
      if (!this.#deps.mesh.isConnected(peer)) continue
      const { member } = joined
      if (state === 'gone') joined.told.delete(peer)
      else joined.told.set(peer, { at: this.#deps.clock.now(), state })
      if (state === 'gone') {
        joined.wanting.delete(peer)
        member.feed.removePeer(peer)
      } else if (state === 'complete') {
        joined.wanting.delete(peer)
        member.feed.peerState(peer, { holds: 'all', wanting: false, claimed: [] })
      } else {
        joined.wanting.add(peer)
        if (!member.feed.knows(peer)) this.#askSoon(joined, peer)
        member.feed.peerWants(peer)
        const indices = indicesOf(gained, member.chunkCount, room)
        room -= indices.length
        member.feed.peerGained(peer, indices)
      }
    }
  }

  #askSoon(joined: Joined, peer: PeerId): void {
    this.#tasks?.run('ask a peer what it holds', (signal) => this.#ask(joined, peer, signal))
  }

  async #ask(joined: Joined, peer: PeerId, parent: AbortSignal): Promise<void> {
    const { clock, mesh, log } = this.#deps
    const { member } = joined
    const askedAt = clock.now()
    joined.askedAt.set(peer, askedAt)
    using limit = deadline(
      clock,
      ASK_TIMEOUT_MS,
      () => new ShoalError('peer-timeout', `${peer} did not say what it holds`),
      parent,
    )
    try {
      const answer = await mesh.askHave(
        peer,
        {
          blob: member.blob,
          geometry: member.geometryText,
          want: member.wantsWhole(),
          grant: member.grant(),
        },
        limit.signal,
      )
      if (this.#joined.get(member.blob)?.member !== member) return
      this.#answered(joined, peer, answer, askedAt)
    } catch (error) {
      if (!isAbort(error)) log.debug({ peer, reason: messageOf(error) }, 'a peer did not say what it holds')
    }
  }

  #answered({ member, wanting, told }: Joined, peer: PeerId, answer: HaveAnswer, askedAt: number): void {
    const since = told.get(peer)
    const isStale = since !== undefined && since.at >= askedAt
    if (isStale && since.state === 'complete') return
    const holds = holdsOf(answer, member.chunkCount)
    const wants = answer.wanting || isStale
    if (wants) wanting.add(peer)
    else wanting.delete(peer)
    if (holds === undefined && !wants) member.feed.removePeer(peer)
    else member.feed.peerState(peer, { holds, wanting: wants, claimed: answer.claimed })
  }

  async #askAgain(signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps
    for (;;) {
      await sleep(clock, ASK_AGAIN_MS, signal)
      for (const joined of this.#joined.values()) {
        const due = [...joined.wanting]
          .filter((peer) => (joined.askedAt.get(peer) ?? 0) + ASK_AGAIN_MS <= clock.now())
          .toSorted((a, b) => (joined.askedAt.get(a) ?? 0) - (joined.askedAt.get(b) ?? 0))
        for (const peer of due.slice(0, ASKED_AGAIN_AT_ONCE)) this.#askSoon(joined, peer)
      }
    }
  }

  #flushSoon(): void {
    if (this.#cancelFlush !== undefined || this.#tasks === undefined) return
    const delay = ANNOUNCE_AFTER_MS + ANNOUNCE_SPREAD_MS_PER_PEER * this.#deps.mesh.peers().length
    this.#cancelFlush = this.#deps.clock.after(delay, () => {
      this.#cancelFlush = undefined
      const blobs: GossipHave['blobs'] = [...this.#left.values()]
      this.#left.clear()
      for (const joined of this.#joined.values()) {
        const { member, gained } = joined
        // Who reads a part takes no share of the origin's chunks, and must not be taken for one who does.
        if (!member.wantsWhole() || (gained.size === 0 && joined.toldWanting)) continue
        joined.toldWanting = true
        const runs = toRuns([...gained].toSorted((a, b) => a - b))
        gained.clear()
        blobs.push({ blob: member.blob, geometry: member.geometryText, state: 'wanting', gained: runs })
      }
      if (blobs.length > 0) this.#announce(blobs)
    })
  }

  #announce(blobs: GossipHave['blobs']): void {
    this.#tasks?.run('announce', async () => {
      try {
        await this.#deps.mesh.announce(blobs)
      } catch (error) {
        this.#deps.log.debug({ reason: messageOf(error) }, 'not announced')
      }
    })
  }

  #forEach(visit: (joined: Joined) => void): void {
    for (const joined of this.#joined.values()) visit(joined)
  }
}

/** A map that does not fit the chunk count is no map. */
function holdsOf(answer: HaveAnswer, chunkCount: number): ChunkMap | 'all' | undefined {
  if (answer.state === 'complete') return 'all'
  if (answer.state === 'none' || answer.held === undefined) return undefined
  return ChunkMap.decode(answer.held, chunkCount)
}

/** At most `room` of them. Runs may overlap: their sum is what costs. */
function indicesOf(
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
