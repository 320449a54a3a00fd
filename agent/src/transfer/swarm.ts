// Who has what of the blobs that are arriving here, and telling others what we have stored. Asks peers, listens to them and to gossip, tells
// neighbours. All of it is a hint: only a proven chunk counts. Whom to have as neighbours is plan/neighbours.ts; decides nothing
// about what to fetch.
import { isAbort, messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import type { BlobId, PeerId } from '@shoal/protocol/ids.ts'
import type { GossipHave, HaveAnswer, Tell } from '@shoal/protocol/messages.ts'
import { createTasks, type Service, type Tasks } from '@shoal/protocol/service.ts'
import { type Clock, deadline, sleep } from '@shoal/protocol/time.ts'
import type { Log } from '../log.ts'
import type { Mesh } from '../net/mesh.ts'
import { CHOSEN_NEIGHBOURS, type Distance } from '../plan/neighbours.ts'
import { NeighbourTells } from './neighbour-tells.ts'
import { holdsOf, indicesOf, type Joined, joinedFor, type SwarmMember } from './swarm-blob.ts'

export type { SwarmMember } from './swarm-blob.ts'

/** Peers asked about one blob when its download starts. */
const MAX_ASKED = 64
const ASK_TIMEOUT_MS = 3_000
/** States of many blobs go out together. */
const GOSSIP_AFTER_MS = 100
/** How often neighbours that are still fetching are asked again: heals what was lost. */
const ASK_AGAIN_MS = 4_000
const ASKED_AGAIN_AT_ONCE = 8
/** Chunks that one message may tell of: more is no honest host's, and costs time to take in. */
const MAX_TOLD = 8_192

export interface SwarmDeps {
  readonly mesh: Mesh
  readonly clock: Clock
  readonly log: Log
  /** How far away a connected peer is. */
  readonly distance: (peer: PeerId) => Distance
  /** Requests of peers that this host serves or that wait here. */
  readonly line: () => number
  /** Hosts of a site that speak to the origin for one blob. */
  readonly originFetchers: number
  readonly onFailure: (name: string, error: unknown) => void
}

export class Swarm implements Service {
  readonly name = 'swarm'
  readonly #deps: SwarmDeps
  readonly #joined = new Map<BlobId, Joined>()
  readonly #tells: NeighbourTells
  /** States that gossip goes out with soon, of many blobs together. */
  readonly #toGossip = new Map<BlobId, GossipHave['blobs'][number]>()
  #cancelGossip: (() => void) | undefined
  #tasks: Tasks | undefined
  #stopListening: () => void = () => {}

  constructor(deps: SwarmDeps) {
    this.#deps = deps
    this.#tells = new NeighbourTells({ ...deps, joined: this.#joined })
  }

  async start(): Promise<void> {
    if (this.#tasks !== undefined) return
    const tasks = createTasks(this.#deps.onFailure)
    this.#tasks = tasks
    this.#tells.start(tasks)
    this.#stopListening = this.#deps.mesh.listen({
      peerUp: (peer) => this.#forEach((joined) => this.#askSoon(joined, peer)),
      peerDown: (peer) => {
        this.#tells.forget(peer)
        this.#forEach((joined) => {
          joined.neighbours.gone(peer)
          joined.askedAt.delete(peer)
          joined.answered.delete(peer)
          joined.told.delete(peer)
          joined.member.feed.removePeer(peer)
        })
      },
      have: (peer, { blobs }) => this.#gossiped(peer, blobs),
    })
    tasks.run('ask peers again', (signal) => this.#askAgain(signal))
  }

  async stop(): Promise<void> {
    this.#stopListening()
    this.#tells.stop()
    this.#cancelGossip?.()
    this.#cancelGossip = undefined
    this.#toGossip.clear()
    const tasks = this.#tasks
    this.#tasks = undefined
    await tasks?.stop()
    this.#joined.clear()
  }

  /** A blob starts to arrive. Resolves when every connected peer has said what it holds, or `graceMs` have passed. */
  async join(member: SwarmMember, graceMs: number, signal: AbortSignal): Promise<void> {
    const { mesh, originFetchers } = this.#deps
    const joined = joinedFor(member, mesh.self, originFetchers)
    this.#joined.set(member.blob, joined)
    this.#gossipWanting(joined)
    const peers = mesh.peers().slice(0, MAX_ASKED)
    if (peers.length === 0) return
    // In a small mesh everybody is a neighbour, without a second question.
    const subscribe = peers.length <= CHOSEN_NEIGHBOURS
    const answers = peers.map(({ peer }) => this.#ask(joined, peer, subscribe, signal))
    const asked = Promise.all(answers).then(() => {})
    if (subscribe) return this.#within(asked, graceMs, signal)
    // In a large one the first answers say who is there; whom to be told by is asked in time for the first decision.
    await this.#within(asked, graceMs / 2, signal)
    const chosen = joined.neighbours.choose().map((host) => this.#ask(joined, host as PeerId, true, signal))
    await this.#within(
      Promise.all(chosen).then(() => {}),
      graceMs / 2,
      signal,
    )
  }

  /** Resolves when `work` is done, or after so long. */
  async #within(work: Promise<void>, waitMs: number, signal: AbortSignal): Promise<void> {
    using limit = deadline(this.#deps.clock, waitMs, () => new ShoalError('aborted', 'long enough'), signal)
    await Promise.race([
      work,
      new Promise<void>((resolve) => limit.signal.addEventListener('abort', () => resolve(), { once: true })),
    ])
  }

  /** A blob is no longer arriving. @param complete this host now holds all of it */
  leave(blob: BlobId, complete: boolean): void {
    const joined = this.#joined.get(blob)
    if (joined === undefined) return
    this.#joined.delete(blob)
    this.#tells.left(joined, complete ? 'complete' : 'gone')
    if (joined.isGossiped) this.#gossip(joined, complete ? 'complete' : 'gone')
  }

  /** This host fetches the whole of a blob from now on. */
  wants(blob: BlobId): void {
    const joined = this.#joined.get(blob)
    if (joined === undefined) return
    this.#gossipWanting(joined)
    joined.tellAll()
    this.#tells.soon()
  }

  /** A chunk was stored: peers may ask for it from now on. */
  gained(blob: BlobId, index: number): void {
    this.#joined.get(blob)?.gained.push(index)
    this.#tells.soon()
  }

  /** This host asked the origin for chunks, or is done with some. */
  claimed(blob: BlobId): void {
    const joined = this.#joined.get(blob)
    if (joined === undefined) return
    joined.claimsChanged = true
    this.#tells.soon()
  }

  /**
   * A peer asked what we hold. @param want it is fetching the whole blob @param subscribe it wants to be told what we gain
   * @returns whether it will be told
   */
  peerAsked(peer: PeerId, blob: BlobId, want: boolean, subscribe: boolean): boolean {
    const joined = this.#joined.get(blob)
    if (joined === undefined) return false
    const distance = this.#deps.distance(peer)
    const wasNeighbour = joined.neighbours.has(peer)
    const isNeighbour = subscribe && joined.neighbours.accept(peer, distance)
    // The answer says what is held so far.
    if (isNeighbour) joined.toldUpTo.set(peer, joined.gained.length)
    if (want) {
      joined.told.set(peer, { at: this.#deps.clock.now(), state: 'wanting' })
      joined.neighbours.heard(peer, distance)
      joined.member.feed.peerWants(peer, distance)
    }
    // It may have resumed with chunks that nobody heard of.
    const isNew = isNeighbour && !wasNeighbour
    if (isNew || (want && !joined.askedAt.has(peer))) this.#askSoon(joined, peer)
    return isNeighbour
  }

  /** A peer told this host alone. @returns false when none of it is arriving here (any more) */
  told(peer: PeerId, { blobs, line }: Tell): boolean {
    let room = MAX_TOLD
    let cares = false
    for (const { blob, geometry, state, gained, claimed } of blobs) {
      const joined = this.#known(blob, geometry)
      if (joined === undefined || !this.#deps.mesh.isConnected(peer)) continue
      if (!joined.neighbours.accept(peer, this.#deps.distance(peer))) continue
      cares = true
      if (!joined.member.feed.knows(peer)) this.#askSoon(joined, peer)
      this.#heard(joined, peer, state)
      if (state !== 'wanting') continue
      const indices = indicesOf(gained, joined.member.chunkCount, room)
      room -= indices.length
      joined.member.feed.peerGained(peer, indices, claimed ?? [])
      if (line !== undefined) joined.member.feed.peerLoad(peer, line)
    }
    return cares
  }

  /** Gossip tells of hosts near the front of the order, connected or not. */
  #gossiped(peer: PeerId, blobs: GossipHave['blobs']): void {
    for (const { blob, geometry, state } of blobs) {
      const joined = this.#known(blob, geometry)
      if (joined === undefined || peer === this.#deps.mesh.self) continue
      const isConnected = this.#deps.mesh.isConnected(peer)
      const distance = isConnected ? this.#deps.distance(peer) : 1
      if (state === 'wanting') joined.neighbours.heard(peer, distance, isConnected)
      if (!isConnected && state === 'complete') joined.neighbours.gone(peer)
      // What a host without a connection holds is no use; that it has a seat at the origin is.
      if (!isConnected && state === 'wanting' && !joined.neighbours.isLeader(peer)) continue
      if (isConnected && state === 'wanting' && !joined.askedAt.has(peer)) this.#askSoon(joined, peer)
      if (isConnected || state !== 'complete') this.#heard(joined, peer, state)
      else joined.member.feed.removePeer(peer)
      this.#chooseNeighbours(joined)
    }
  }

  #heard({ member, told, neighbours }: Joined, peer: PeerId, state: 'wanting' | 'complete' | 'gone'): void {
    if (state === 'gone') {
      told.delete(peer)
      neighbours.gone(peer)
      member.feed.removePeer(peer)
      return
    }
    told.set(peer, { at: this.#deps.clock.now(), state })
    const distance = this.#deps.distance(peer)
    if (state === 'complete')
      member.feed.peerState(peer, { holds: 'all', wanting: false, claimed: [], distance })
    else member.feed.peerWants(peer, distance)
  }

  #known(blob: BlobId, geometry: string): Joined | undefined {
    const joined = this.#joined.get(blob)
    return joined?.member.geometryText === geometry ? joined : undefined
  }

  #chooseNeighbours(joined: Joined): void {
    for (const peer of joined.neighbours.choose()) this.#askSoon(joined, peer as PeerId)
  }

  #askSoon(joined: Joined, peer: PeerId): void {
    const subscribe = joined.neighbours.has(peer) || joined.neighbours.hasRoom
    this.#tasks?.run('ask a peer what it holds', (signal) => this.#ask(joined, peer, subscribe, signal))
  }

  async #ask(joined: Joined, peer: PeerId, subscribe: boolean, parent: AbortSignal): Promise<void> {
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
    const { blob, geometryText: geometry } = member
    const want = member.wantsWhole()
    try {
      const ask = { blob, geometry, want, subscribe: subscribe || undefined, grant: member.grant() }
      const answer = await mesh.askHave(peer, ask, limit.signal)
      if (this.#joined.get(blob)?.member === member) this.#answered(joined, peer, answer, askedAt)
    } catch (error) {
      if (!isAbort(error)) log.debug({ peer, reason: messageOf(error) }, 'a peer did not say what it holds')
    }
  }

  #answered(joined: Joined, peer: PeerId, answer: HaveAnswer, askedAt: number): void {
    const { member, told, neighbours } = joined
    joined.answered.add(peer)
    const since = told.get(peer)
    const isStale = since !== undefined && since.at >= askedAt
    if (isStale && since.state === 'complete') return
    const holds = holdsOf(answer, member.chunkCount)
    const wanting = answer.wanting || isStale
    const distance = this.#deps.distance(peer)
    if (holds === undefined && !wanting) {
      neighbours.gone(peer)
      member.feed.removePeer(peer)
      return
    }
    if (wanting) {
      neighbours.heard(peer, distance)
      if (answer.subscribed === true) neighbours.accept(peer, distance)
      else if (neighbours.has(peer)) neighbours.refused(peer)
    }
    // One that gains no more needs to tell us nothing more, so there is no limit to how many of those are known.
    if (wanting && !neighbours.has(peer) && !neighbours.isLeader(peer)) return
    member.feed.peerState(peer, { holds, wanting, claimed: answer.claimed, distance })
  }

  async #askAgain(signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps
    for (;;) {
      await sleep(clock, ASK_AGAIN_MS, signal)
      for (const joined of this.#joined.values()) {
        this.#chooseNeighbours(joined)
        // Those that never answered may have stood still then.
        const silent = this.#deps.mesh.peers().map(({ peer }) => peer)
        const due = [
          ...new Set<PeerId>([
            ...([...joined.neighbours.all()] as PeerId[]),
            ...silent.filter((peer) => !joined.answered.has(peer)),
          ]),
        ]
          .map((host) => ({ peer: host as PeerId, at: joined.askedAt.get(host as PeerId) ?? 0 }))
          .filter(({ at }) => at + ASK_AGAIN_MS <= clock.now())
          .toSorted((a, b) => a.at - b.at)
        for (const { peer } of due.slice(0, ASKED_AGAIN_AT_ONCE)) this.#askSoon(joined, peer)
      }
    }
  }

  /** Tells everybody, if this host may have a seat at the origin: who fetches is of no use to more than its neighbours otherwise. */
  #gossipWanting(joined: Joined): void {
    if (joined.isGossiped || !joined.member.wantsWhole()) return
    if (!joined.neighbours.mayLead(this.#deps.mesh.hostsKnown())) return
    joined.isGossiped = true
    this.#gossip(joined, 'wanting')
  }

  #gossip({ member }: Joined, state: 'wanting' | 'complete' | 'gone'): void {
    if (this.#tasks === undefined) return
    this.#toGossip.set(member.blob, {
      blob: member.blob,
      geometry: member.geometryText,
      state,
      gained: [],
    })
    if (this.#cancelGossip !== undefined) return
    this.#cancelGossip = this.#deps.clock.after(GOSSIP_AFTER_MS, () => {
      this.#cancelGossip = undefined
      const blobs = [...this.#toGossip.values()]
      this.#toGossip.clear()
      this.#tasks?.run('announce', async () => {
        try {
          await this.#deps.mesh.announce(blobs)
        } catch (error) {
          this.#deps.log.debug({ reason: messageOf(error) }, 'not announced')
        }
      })
    })
  }

  #forEach(visit: (joined: Joined) => void): void {
    for (const joined of this.#joined.values()) visit(joined)
  }
}
