// What hosts of a simulated swarm say to each other, as agent/src/transfer/swarm.ts has them say it: asks, tells to neighbours, and gossip of
// those near the front of the blob's order. Carries messages after the delays of the network; who is a neighbour is decided by plan/neighbours.ts.
import { gossipIntervalMs, HEALTH_COST_BYTES, tellGapMs } from '@shoal/agent/plan/gossip-interval.ts'
import { CHOSEN_NEIGHBOURS, Neighbours } from '@shoal/agent/plan/neighbours.ts'
import { ChunkMap } from '@shoal/protocol/chunks.ts'
import type { SimHost } from './host.ts'
import { ASK_BYTES, BLOB, type Stage } from './stage.ts'

/** As transfer.ts and swarm.ts have them. */
export const GRACE_MS = 250
const ASK_AGAIN_MS = 4_000
const ASKED_AGAIN_AT_ONCE = 8
/** Sizes on the wire, measured: a tell without its runs of chunks, one run, and what one gossip message costs each host in all copies. */
const TELL_BYTES = 145
const RUN_BYTES = 5
const GOSSIP_COST_BYTES = 1_800

export class SwarmTalk {
  readonly #stage: Stage
  #gossiped = 0

  constructor(stage: Stage) {
    this.#stage = stage
  }

  /** Bytes a second that gossip of hosts' health costs each host, beside what is said about the blob. */
  get healthBytesPerSecond(): number {
    const count = this.#stage.hosts.length
    return (count * HEALTH_COST_BYTES * 1_000) / gossipIntervalMs(count)
  }

  /** Bytes that gossip about the blob has cost each host so far. */
  get gossipCostBytes(): number {
    return this.#gossiped * GOSSIP_COST_BYTES
  }

  /** The host begins to fetch: it asks those it is connected with, and says so to everybody if it may lead. */
  join(host: SimHost): void {
    host.neighbours = new Neighbours(BLOB, host.name, this.#stage.options.originFetchers)
    // In a small mesh all become neighbours with the first question: their answers are there before the origin is asked.
    const subscribe = host.connected.length <= CHOSEN_NEIGHBOURS
    for (const peer of host.connected) this.#ask(host, peer, subscribe)
    // Half of the grace is left for what the neighbours hold and fetch: who asks the origin without knowing fetches it again.
    for (const afterMs of [GRACE_MS / 2, GRACE_MS])
      this.#stage.events.at(this.#stage.events.now + afterMs, () => this.#chooseNeighbours(host))
    this.#askAgain(host)
    this.#gossipWanting(host)
  }

  /** New connections: those not known yet are asked what they hold. */
  met(host: SimHost): void {
    if (!host.fetching) return
    for (const peer of host.connected)
      if (host.neighbours?.has(peer.name) !== true) this.#ask(host, peer, false)
    this.#stage.events.at(this.#now + GRACE_MS, () => this.#chooseNeighbours(host))
  }

  /** There is news for the neighbours: told at once after a silence, then in batches. */
  tellSoon(host: SimHost): void {
    if (host.tellQueued) return
    host.tellQueued = true
    const { events } = this.#stage
    events.at(Math.max(events.now, host.toldAt + tellGapMs(host.neighbours?.count ?? 0)), () => {
      host.tellQueued = false
      if (host.silent) return
      host.toldAt = events.now
      this.#tell(host)
    })
  }

  #askAgain(host: SimHost): void {
    const { events } = this.#stage
    events.at(events.now + ASK_AGAIN_MS, () => {
      if (!host.fetching || host.behaviour === 'dead') return
      // Those that never answered may have stood still.
      const silent = host.connected.filter(({ name }) => !host.answeredBy.has(name)).map(({ name }) => name)
      const names = [...new Set([...(host.neighbours?.all() ?? []), ...silent])]
      for (let step = 0; step < Math.min(ASKED_AGAIN_AT_ONCE, names.length); step++) {
        const peer = this.#stage.hostNamed(names[host.askedCount++ % names.length] ?? '')
        if (peer !== undefined) this.#ask(host, peer, false)
      }
      this.#chooseNeighbours(host)
      this.#askAgain(host)
    })
  }

  #chooseNeighbours(host: SimHost): void {
    if (!host.fetching || host.silent) return
    for (const name of host.neighbours?.choose() ?? []) {
      const peer = this.#stage.hostNamed(name)
      if (peer !== undefined) this.#ask(host, peer, true)
    }
  }

  /** @param subscribe it wants to be told what the other gains */
  #ask(host: SimHost, peer: SimHost, subscribe: boolean): void {
    const { options, isCut } = this.#stage
    if (isCut(host, peer) || host.silent) return
    host.messageBytes += ASK_BYTES
    this.#stage.later(options.delayMs, () => {
      if (peer.silent) return
      if (peer.fetching) this.#heardOf(peer, host)
      const wasNeighbour = peer.neighbours?.has(host.name) === true
      const accepted =
        subscribe && peer.fetching && peer.neighbours?.accept(host.name, peer.distance(host)) === true
      // What the new neighbour holds so far it tells nobody but who asks.
      if (accepted && !wasNeighbour) this.#ask(peer, host, false)
      const holds = peer.held.complete ? 'all' : peer.held.held > 0 ? peer.held.clone() : undefined
      const wanting = peer.fetching
      const claimed = peer.plan?.originClaims() ?? []
      peer.messageBytes += ASK_BYTES + (holds instanceof ChunkMap ? Math.ceil(options.chunks / 8) : 0)
      this.#stage.later(options.delayMs, () => {
        if (!host.fetching || host.silent) return
        host.answeredBy.add(peer.name)
        if (holds === undefined && !wanting) return
        const { neighbours, plan } = host
        neighbours?.heard(peer.name, host.distance(peer))
        if (accepted) neighbours?.accept(peer.name, host.distance(peer))
        if (subscribe && wanting && !accepted) {
          neighbours?.refused(peer.name)
          return
        }
        const isNeighbour = neighbours?.has(peer.name) === true
        // Who gains no more needs to tell nothing more: there is no limit to how many of those are known.
        const isKnown = isNeighbour || holds === 'all'
        if (!isKnown && !(neighbours?.isLeader(peer.name) ?? false)) return
        const distance = host.distance(peer)
        plan?.peerState(
          peer.name,
          { holds: isKnown ? holds : undefined, wanting, claimed, distance },
          this.#now,
        )
        this.#stage.pumpSoon(host, plan?.settleMs)
      })
    })
  }

  /** Somebody fetches the blob too. */
  #heardOf(host: SimHost, other: SimHost): void {
    const { neighbours, plan } = host
    if (neighbours === undefined || host.silent || other === host) return
    const distance = host.distance(other)
    neighbours.heard(other.name, distance)
    if (neighbours.has(other.name) || neighbours.isLeader(other.name)) {
      plan?.peerState(other.name, { holds: undefined, wanting: true, distance }, this.#now)
      this.#stage.pumpSoon(host, plan?.settleMs)
    }
  }

  /** Everybody hears by gossip who fetches and may be among the first in order. */
  #gossipWanting(host: SimHost): void {
    const { hosts, options, isCut } = this.#stage
    if (host.neighbours?.mayLead(hosts.length) !== true) return
    this.#gossiped++
    for (const other of hosts) {
      if (other === host || isCut(host, other)) continue
      this.#stage.later(options.gossipDelayMs, () => {
        if (!other.fetching || !host.fetching || other.neighbours === undefined) return
        this.#heardOf(other, host)
        this.#chooseNeighbours(other)
      })
    }
  }

  #tell(host: SimHost): void {
    const { hostNamed, options, isCut } = this.#stage
    const gained = host.gained.splice(0)
    const isComplete = host.held.complete
    const claimed = host.plan?.originClaims() ?? []
    const hadClaims = host.toldClaims || claimed.length > 0
    host.toldClaims = claimed.length > 0
    const { inLine } = host.uploads
    const told: SimHost[] = []
    for (const name of host.neighbours?.all() ?? []) {
      const other = hostNamed(name)
      if (other?.fetching === true && !isCut(host, other)) told.push(other)
    }
    host.messageBytes += told.length * (TELL_BYTES + RUN_BYTES * gained.length)
    this.#stage.later(options.tellDelayMs ?? options.delayMs, () => {
      for (const other of told) {
        const { plan } = other
        if (plan === undefined || !other.fetching || other.silent) continue
        const { neighbours } = other
        if (
          neighbours?.has(host.name) !== true &&
          neighbours?.accept(host.name, other.distance(host)) !== true
        ) {
          // It answers that it does not care.
          host.neighbours?.refused(other.name)
          continue
        }
        let isNews = false
        if (isComplete) {
          plan.peerState(host.name, { holds: 'all', wanting: false, claimed: [] }, this.#now)
          isNews = plan.hasRoom
        } else {
          isNews = plan.peerGained(host.name, gained, this.#now)
          if (hadClaims) plan.peerState(host.name, { holds: undefined, wanting: true, claimed }, this.#now)
        }
        plan.peerLoad(host.name, inLine, false)
        if (isNews) this.#stage.pumpSoon(other, plan.settleMs)
      }
    })
  }

  get #now(): number {
    return this.#stage.events.now
  }
}
