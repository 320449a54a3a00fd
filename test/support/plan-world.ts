// A small world for tests of DownloadPlan: N plans, a fluid network, one origin, a virtual clock, seeded chance. It holds no
// scheduling of its own: a host acts on its plan's decisions only, at facts and at `wakeAt`. Feeds a plan as the agent does: ask
// on joining, a short grace, gossip of who fetches, telling each other what was gained and is claimed, asking again.
import { type Assignment, DownloadPlan } from '@shoal/agent/plan/download-plan.ts'
import type { PeerFacts } from '@shoal/agent/plan/peer-table.ts'
import { ChunkMap } from '@shoal/protocol/chunks.ts'
import type { ErrorCode } from '@shoal/protocol/errors.ts'
import { type Random, seededRandom } from '@shoal/protocol/time.ts'
import { type Behaviour, type HostOptions, WorldHost, type WorldOptions } from './plan-host.ts'

export type { WorldOptions } from './plan-host.ts'

import { type Movement, PlanNetwork } from './plan-network.ts'
import { PlanUploads } from './plan-uploads.ts'

export const CHUNK_BYTES = 4 * 1024 * 1024
export const ORIGIN_FETCHERS = 4
const GRACE_MS = 250
const ASK_AGAIN_MS = 4_000
const ASKED_AGAIN_AT_ONCE = 8
const TELL_GAP_MS = 100

export class PlanWorld {
  readonly hosts: WorldHost[] = []
  readonly random: Random
  readonly options: WorldOptions
  now = 0
  /** Told after every decision. */
  onDecision: (host: WorldHost, start: readonly Assignment[]) => void = () => {}
  #events: { readonly at: number; readonly order: number; readonly run: () => void }[] = []
  #order = 0
  readonly #network: PlanNetwork
  readonly #uploads: PlanUploads
  #originFails: ErrorCode | undefined
  readonly #byName = new Map<string, WorldHost>()

  constructor(options: WorldOptions) {
    this.options = options
    this.random = seededRandom(options.seed)
    this.#network = new PlanNetwork(options.originBytesPerSecond)
    this.#uploads = new PlanUploads({
      now: () => this.now,
      at: (time, run) => this.at(time, run),
      delayMs: () => this.#askDelay(),
      fail: (one, code) => this.#fail(one, code),
      send: (one) => {
        one.state = 'sending'
        this.#network.disturbed()
      },
    })
  }

  get originBytes(): number {
    return this.hosts.reduce((sum, host) => sum + host.originBytes, 0)
  }

  /** Bytes from the origin divided by the blob's size. */
  get amplification(): number {
    return this.originBytes / (this.options.chunks * CHUNK_BYTES)
  }

  addHost(options: HostOptions = {}): WorldHost {
    const host = new WorldHost(`host-${this.hosts.length}`, options, this.options.chunks)
    this.hosts.push(host)
    this.#byName.set(host.name, host)
    // A host that has all needs no plan: it only serves.
    if (host.held.complete) host.finishedAt = 0
    else this.at(options.startAt ?? 0, () => this.#join(host))
    return host
  }

  at(time: number, run: () => void): void {
    const event = { at: Math.max(time, this.now), order: this.#order++, run }
    let low = 0
    let high = this.#events.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#events[middle]?.at ?? 0) < event.at || this.#events[middle]?.at === event.at)
        low = middle + 1
      else high = middle
    }
    this.#events.splice(low, 0, event)
  }

  /** From now on the origin answers this instead of bytes; undefined: bytes again. */
  failOrigin(code: ErrorCode | undefined): void {
    this.#originFails = code
    this.#network.stopOrigin(code !== undefined)
    if (code !== undefined)
      for (const one of this.#network.find(({ from }) => from === undefined)) this.#fail(one, code)
  }

  behave(host: WorldHost, behaviour: Behaviour): void {
    host.behaviour = behaviour
    this.#network.disturbed()
  }

  /** Runs until `done` or until `limitMs`; false when time ran out or nothing will ever happen again. */
  run(limitMs: number, done: () => boolean = () => this.allDone()): boolean {
    while (!done()) {
      const next = this.#nextTime()
      if (next === undefined || next > limitMs) return false
      this.#move(next)
      this.now = next
      this.#land()
      while (this.#events[0] !== undefined && this.#events[0].at <= this.now) this.#events.shift()?.run()
      for (const host of this.hosts)
        if ((host.wakeAt ?? Number.POSITIVE_INFINITY) <= this.now) this.#pump(host)
    }
    return true
  }

  /** Requests of a host for one chunk that are under way. */
  inFlight(host: WorldHost, index: number): readonly Assignment[] {
    return this.#network
      .find(({ to, assignment }) => to === host && assignment.index === index)
      .map(({ assignment }) => assignment)
  }

  /** Every host that can finish has: those that left, are dead or read only a part are not waited for. */
  allDone(): boolean {
    return this.hosts.every(
      (host) => host.finishedAt !== undefined || host.left || host.behaviour === 'dead' || !host.whole,
    )
  }

  /** Tells a host's plan something and lets it decide. */
  tell(host: WorldHost, fact: (plan: DownloadPlan) => void): void {
    if (host.plan !== undefined) fact(host.plan)
    this.#pumpSoon(host)
  }

  /** The host is gone and everybody notices. */
  leave(host: WorldHost): void {
    host.left = true
    this.#drop(host)
    for (const other of this.hosts) {
      other.wanting.delete(host.name)
      other.early.delete(host.name)
      this.tell(other, (plan) => plan.removePeer(host.name))
      for (const one of this.#network.find(({ to, from }) => to === other && from === host))
        this.#fail(one, 'peer-unreachable')
    }
  }

  /** The host stops in the middle of everything, and nobody is told. */
  die(host: WorldHost): void {
    host.wakeAt = undefined
    this.behave(host, 'dead')
    this.#drop(host)
  }

  // --- joining, asking, telling ---------------------------------------------------------------------------------------

  #join(host: WorldHost): void {
    if (host.left || host.behaviour === 'dead') return
    host.joined = true
    let open = 0
    const begin = () => {
      if (host.plan !== undefined) return
      const make = this.options.makePlan ?? ((settings, scores) => new DownloadPlan(settings, scores))
      const { originDepth = 4, totalDepth = 16 } = host.options
      const settings = { blob: 'blob', self: host.name, held: host.held, whole: host.whole }
      host.plan = make(
        { ...settings, originDepth, totalDepth, originFetchers: ORIGIN_FETCHERS, originNotBefore: this.now },
        host.scores,
      )
      for (const [peer, facts] of host.early) host.plan.peerState(peer, facts, this.now)
      this.#pumpSoon(host)
    }
    for (const peer of this.hosts) {
      if (peer === host || peer.left) continue
      open++
      this.#ask(host, peer, () => {
        open--
        if (open === 0) begin()
      })
    }
    this.at(this.now + (open === 0 ? 0 : GRACE_MS), begin)
    this.#askAgain(host)
    if (host.whole) this.#gossip(host)
  }

  #askAgain(host: WorldHost): void {
    this.at(this.now + ASK_AGAIN_MS, () => {
      if (host.finishedAt !== undefined || host.left || host.behaviour === 'dead') return
      const due = [...host.wanting]
        .map((name) => ({ name, at: host.askedAt.get(name) ?? 0 }))
        .filter(({ at }) => at + ASK_AGAIN_MS <= this.now)
        .toSorted((a, b) => a.at - b.at)
      for (const { name } of due.slice(0, ASKED_AGAIN_AT_ONCE)) {
        const peer = this.#byName.get(name)
        if (peer !== undefined) this.#ask(host, peer, () => {})
      }
      this.#askAgain(host)
    })
  }

  #ask(host: WorldHost, peer: WorldHost, answered: () => void): void {
    host.askedAt.set(peer.name, this.now)
    this.at(this.now + this.#askDelay(), () => {
      if (peer.left || peer.behaviour === 'dead') return
      if (host.whole && peer.joined && peer.finishedAt === undefined) this.#heardWanting(peer, host)
      const fetching = peer.joined && peer.finishedAt === undefined
      const holds = peer.held.complete ? 'all' : peer.held.held > 0 ? peer.held.clone() : undefined
      const facts: PeerFacts = {
        holds: peer.behaviour === 'false-map' ? 'all' : holds,
        wanting: fetching && peer.whole,
        claimed: peer.plan?.originClaims() ?? [],
      }
      this.at(this.now + this.#askDelay(), () => {
        if (host.left || peer.left || host.behaviour === 'dead') return
        if (facts.wanting) host.wanting.add(peer.name)
        // An answer from before the peer began is stale when it has said since that it has begun.
        if (facts.holds !== undefined || facts.wanting) this.#heard(host, peer.name, facts)
        answered()
      })
    })
  }

  #heard(host: WorldHost, peer: string, facts: PeerFacts): void {
    if (host.plan === undefined) host.early.set(peer, facts)
    else this.tell(host, (plan) => plan.peerState(peer, facts, this.now))
  }

  #heardWanting(host: WorldHost, peer: WorldHost): void {
    host.wanting.add(peer.name)
    if (host.plan === undefined && host.early.has(peer.name)) return
    this.#heard(host, peer.name, { holds: undefined, wanting: true })
    if (!host.askedAt.has(peer.name)) this.#ask(host, peer, () => {})
  }

  /** At most one tell each 100 ms, and at once when the last one is longer ago. */
  #tellSoon(host: WorldHost): void {
    if (host.tellQueued || this.options.tells === false) return
    host.tellQueued = true
    this.at(host.toldAt + TELL_GAP_MS, () => {
      host.tellQueued = false
      host.toldAt = this.now
      if (!host.left && host.behaviour !== 'dead') this.#tellAll(host)
    })
  }

  #tellAll(host: WorldHost): void {
    const gained = host.gained.splice(0)
    const isComplete = host.held.complete
    const claimed = host.plan?.originClaims() ?? []
    const line = this.#uploads.lineOf(host)
    for (const name of host.wanting) {
      const other = this.#byName.get(name)
      if (other === undefined) continue
      this.at(this.now + this.#askDelay(), () => {
        if (!this.#listens(other) || host.left) return
        if (isComplete) this.#heard(other, host.name, { holds: 'all', wanting: false, claimed: [] })
        else {
          const early = other.early.get(host.name)
          if (early?.holds instanceof ChunkMap) for (const index of gained) early.holds.add(index)
          const holds = other.plan === undefined ? early?.holds : undefined
          // What a newcomer has not asked for yet it hears in the answer.
          if (host.whole && (other.plan !== undefined || early !== undefined))
            this.#heard(other, host.name, { holds, wanting: true, claimed })
          this.tell(other, (plan) => plan.peerGained(host.name, gained, this.now))
        }
        this.tell(other, (plan) => plan.peerLoad(host.name, line, false))
      })
    }
  }

  /** Everybody hears by gossip who fetches. */
  #gossip(host: WorldHost): void {
    if (this.options.gossip === false) return
    for (const other of this.hosts) {
      if (other === host || other.left) continue
      this.at(this.now + this.#delay(this.options.gossipDelayMs ?? [50, 300]), () => {
        if (this.#listens(other) && !host.left) this.#heardWanting(other, host)
      })
    }
  }

  #listens(host: WorldHost): boolean {
    return host.joined && host.finishedAt === undefined && host.behaviour !== 'dead' && !host.left
  }

  #askDelay(): number {
    return this.#delay(this.options.askDelayMs ?? [1, 20])
  }

  #delay([from, to]: readonly [number, number]): number {
    return from + this.random.next() * (to - from)
  }

  // --- decisions --------------------------------------------------------------------------------------------------------

  #pumpSoon(host: WorldHost): void {
    if (host.pumpQueued || host.plan === undefined) return
    host.pumpQueued = true
    this.at(this.now, () => {
      host.pumpQueued = false
      this.#pump(host)
    })
  }

  #pump(host: WorldHost): void {
    const { plan } = host
    host.wakeAt = undefined
    if (plan === undefined || host.left || host.behaviour === 'dead' || host.finishedAt !== undefined) return
    host.nextCalls++
    const { start, cancel, wakeAt } = plan.next(this.now)
    if (wakeAt !== undefined && wakeAt <= this.now)
      throw new Error(`wakeAt ${wakeAt} is not after ${this.now}`)
    host.wakeAt = wakeAt
    for (const id of cancel) this.#abort(host, id)
    for (const assignment of start) {
      host.started.push({ ...assignment, at: this.now })
      this.#launch(host, assignment)
    }
    this.onDecision(host, start)
  }

  #launch(to: WorldHost, assignment: Assignment): void {
    const from = this.#byName.get(assignment.source)
    const one: Movement = { assignment, to, from, leftBytes: CHUNK_BYTES, bytesPerSecond: 0, state: 'asked' }
    this.#network.add(one)
    if (from !== undefined) {
      this.#uploads.ask(one, from)
      return
    }
    one.state = 'sending'
    const fails = this.#originFails
    if (fails !== undefined) this.at(this.now + this.#askDelay(), () => this.#fail(one, fails))
    this.#tellSoon(to)
  }

  #abort(host: WorldHost, id: number): void {
    const [one] = this.#network.find(({ to, assignment }) => to === host && assignment.id === id)
    if (one === undefined || !this.#remove(one)) return
    host.duplicateBytes += CHUNK_BYTES - one.leftBytes
  }

  #fail(one: Movement, code: ErrorCode): boolean {
    if (!this.#remove(one)) return false
    const { to, assignment } = one
    if (to.plan?.failed(assignment.id, code, this.now) === true) {
      to.plan.removePeer(assignment.source)
      this.#pump(to)
    } else this.#pumpSoon(to)
    return true
  }

  /** Ends a movement and counts what it has moved. False if it was over already. */
  #remove(one: Movement): boolean {
    if (!this.#network.remove(one)) return false
    one.state = 'over'
    this.#uploads.over(one, one.leftBytes === 0)
    const bytes = CHUNK_BYTES - one.leftBytes
    if (one.from === undefined) one.to.originBytes += bytes
    else one.from.uploadedBytes += bytes
    return true
  }

  // --- what arrives -----------------------------------------------------------------------------------------------------

  #nextTime(): number | undefined {
    let next = Math.min(this.#events[0]?.at ?? Number.POSITIVE_INFINITY, this.#network.nextArrival(this.now))
    for (const { wakeAt } of this.hosts) if (wakeAt !== undefined && wakeAt < next) next = wakeAt
    return next === Number.POSITIVE_INFINITY ? undefined : Math.max(next, this.now)
  }

  #move(until: number): void {
    this.#network.pass(until - this.now, ({ to, assignment }) => to.plan?.progress(assignment.id, until))
  }

  #land(): void {
    for (const one of this.#network.find(({ leftBytes }) => leftBytes < 1)) {
      one.leftBytes = 0
      if (one.from?.behaviour === 'liar') {
        if (this.#fail(one, 'chunk-corrupt')) one.to.corruptChunks++
      } else if (this.#remove(one)) this.#store(one)
    }
  }

  #store({ to, from, assignment: { id, index, source } }: Movement): void {
    if (from !== undefined) to.plan?.peerLoad(from.name, this.#uploads.lineOf(from), true)
    if (to.held.add(index)) {
      to.gained.push(index)
      to.stored.push({ at: this.now, index, source })
    } else to.duplicateBytes += CHUNK_BYTES
    for (const other of to.plan?.stored(id, CHUNK_BYTES, this.now) ?? []) this.#abort(to, other)
    if (to.held.complete) {
      to.finishedAt = this.now
      to.wakeAt = undefined
    }
    this.#tellSoon(to)
    this.#pumpSoon(to)
  }

  #drop(host: WorldHost): void {
    for (const one of this.#network.find(({ to }) => to === host)) this.#remove(one)
  }
}
