// A simulated swarm: hosts with links, one origin, one blob. It carries out what the production decisions say and tells them what
// happened, after the delays of a network; it decides nothing about who fetches what. Same options and seed: same run.
import { DownloadPlan, ORIGIN } from '@shoal/agent/plan/download-plan.ts'
import type { ChunkMap } from '@shoal/protocol/chunks.ts'
import type { ErrorCode } from '@shoal/protocol/errors.ts'
import { type Random, seededRandom } from '@shoal/protocol/time.ts'
import { EventQueue } from './events.ts'
import { SimHost } from './host.ts'
import { Network } from './network.ts'
import { Requests } from './requests.ts'
import { BLOB, type Stage, type WorldOptions } from './stage.ts'
import { GRACE_MS, SwarmTalk } from './swarm-talk.ts'
import { Timers } from './timers.ts'

export type { WorldOptions } from './stage.ts'

/** A request whose bytes move is said to make progress this often. */
const PROGRESS_MS = 500

export interface HostOptions {
  readonly upBytesPerSecond: number
  readonly downBytesPerSecond: number
  readonly startAt?: number
  readonly held?: ChunkMap
  readonly site?: number
}

export class World implements Stage {
  readonly options: WorldOptions
  readonly random: Random
  readonly hosts: SimHost[] = []
  readonly events = new EventQueue()
  readonly network = new Network()
  readonly originLink: number
  readonly talk: SwarmTalk
  readonly #requests: Requests
  readonly #wakes = new Timers()
  readonly #byName = new Map<string, SimHost>()
  #living = 0
  /** True between two hosts that cannot reach each other; `undefined` is the origin. */
  isCut: (a: SimHost, b: SimHost | undefined) => boolean = () => false
  originFails: ErrorCode | undefined
  onStored: (host: SimHost, index: number, from: SimHost | undefined) => void = () => {}
  originBytes = 0

  constructor(options: WorldOptions) {
    this.options = options
    this.random = seededRandom(options.seed)
    this.originLink = this.network.addLink(options.originBytesPerSecond)
    this.talk = new SwarmTalk(this)
    this.#requests = new Requests(this, {
      stored: (host, index, from) => this.#stored(host, index, from),
      fromOrigin: (bytes) => {
        this.originBytes += bytes
      },
    })
  }

  get now(): number {
    return this.events.now
  }

  /** Hosts that fetch or will, and are neither dead nor gone. */
  get living(): number {
    return this.#living
  }

  readonly hostNamed = (name: string): SimHost | undefined => this.#byName.get(name)

  addHost(options: HostOptions): SimHost {
    const number = this.hosts.length
    const host = new SimHost(
      number,
      `host-${number}`,
      options.site ?? 0,
      this.network.addLink(options.upBytesPerSecond),
      this.network.addLink(options.downBytesPerSecond),
      this.options.chunks,
    )
    for (const index of options.held?.indices() ?? []) host.held.add(index)
    this.hosts.push(host)
    this.#byName.set(host.name, host)
    if (host.held.complete) host.finishedAt = 0
    else {
      this.#living++
      this.events.at(options.startAt ?? 0, () => {
        // It may have been started before, after it left.
        if (host.joinedAt === undefined) this.#join(host)
      })
    }
    return host
  }

  /** Connections: everybody with everybody, or each with about so many others by chance. Call once, when all hosts are there. */
  connect(): void {
    const { connections } = this.options
    const { hosts } = this
    if (hosts.length <= connections + 1) {
      for (const host of hosts) host.connected = hosts.filter((other) => other !== host)
      return
    }
    const found = hosts.map(() => new Set<SimHost>())
    for (const host of hosts) {
      const own = found[host.number]
      for (
        let tries = 0;
        own !== undefined && own.size < connections / 2 && tries < 4 * connections;
        tries++
      ) {
        const other = hosts[Math.floor(this.random.next() * hosts.length)]
        if (other === undefined || other === host) continue
        own.add(other)
        found[other.number]?.add(host)
      }
    }
    for (const host of hosts) host.connected = [...(found[host.number] ?? [])]
  }

  /** Runs until every host that can is done, or until `limitMs`. True when all are done. */
  run(limitMs: number): boolean {
    while (this.#living > 0) {
      const flowAt = this.network.nextAt
      const wakeAt = this.#wakes.nextAt
      const eventAt = this.events.nextAt
      const at = Math.min(flowAt, wakeAt, eventAt)
      if (at > limitMs) return false
      if (eventAt === at) this.events.runNext()
      else if (flowAt === at) {
        this.events.advanceTo(at)
        this.network.finishNext(this.now)
      } else {
        this.events.advanceTo(at)
        const host = this.hosts[this.#wakes.nextId]
        if (host !== undefined) this.#pump(host)
      }
    }
    return true
  }

  // --- leaving, dying, coming back -----------------------------------------------------------------------------------

  /** The host is gone and its connections with it: everybody it was connected with notices. */
  leave(host: SimHost): void {
    if (host.left) return
    if (host.finishedAt === undefined && host.behaviour !== 'dead') this.#living--
    host.left = true
    this.#silence(host)
    for (const request of [...host.serving.values()]) this.#requests.fail(request, 'peer-unreachable')
    for (const other of this.hosts) {
      if (!other.fetching || other.silent) continue
      if (!other.connected.includes(host) && other.neighbours?.has(host.name) !== true) continue
      other.neighbours?.gone(host.name)
      other.plan?.removePeer(host.name)
      this.pumpSoon(other)
    }
  }

  /** It stops in the middle of everything and nobody is told. */
  die(host: SimHost): void {
    if (host.behaviour === 'dead') return
    if (host.finishedAt === undefined && !host.left) this.#living--
    host.behaviour = 'dead'
    this.#silence(host)
    for (const request of host.serving.values())
      if (request.flow !== undefined) this.network.stall(request.flow, true, this.now)
  }

  /** It stands still until {@link resume}. */
  pause(host: SimHost): void {
    host.behaviour = 'stopped'
    this.#wakes.clear(host.number)
    for (const { flow } of [...host.requests.values(), ...host.serving.values()])
      if (flow !== undefined) this.network.stall(flow, true, this.now)
  }

  resume(host: SimHost): void {
    if (host.behaviour !== 'stopped') return
    host.behaviour = 'honest'
    for (const { flow } of [...host.requests.values(), ...host.serving.values()])
      if (flow !== undefined) this.network.stall(flow, false, this.now)
    // What it would have asked while it stood still it asks now.
    this.talk.met(host)
    this.pumpSoon(host)
    this.talk.tellSoon(host)
  }

  /** From now on the origin answers this instead of bytes, also to what is under way; undefined: bytes again. */
  failOrigin(code: ErrorCode | undefined): void {
    this.originFails = code
    if (code === undefined) return
    for (const host of this.hosts)
      for (const request of [...host.requests.values()])
        if (request.from === undefined && request.state === 'sending') this.#requests.fail(request, code)
  }

  /** The host holds all of it from the start. Before {@link run} only. */
  complete(host: SimHost): void {
    for (let index = 0; index < this.options.chunks; index++) host.held.add(index)
    if (host.finishedAt === undefined) this.#living--
    host.finishedAt = 0
  }

  /** Connections that were cut are there again: hosts find each other as they do after any new connection. */
  meet(): void {
    for (const host of this.hosts) this.talk.met(host)
  }

  /** The host starts again with what it had stored: an agent that was restarted. It had left before. */
  restart(host: SimHost): void {
    if (!host.left) return
    host.begunAgain()
    if (host.held.complete) return
    host.finishedAt = undefined
    this.#living++
    this.#join(host)
  }

  #silence(host: SimHost): void {
    this.#wakes.clear(host.number)
    for (const request of [...host.requests.values()]) this.#requests.end(request)
  }

  #join(host: SimHost): void {
    if (host.left || host.behaviour === 'dead' || host.held.complete) return
    host.joinedAt = this.now
    host.firstJoinedAt ??= this.now
    const { originDepth, totalDepth, originFetchers } = this.options
    const settings = {
      blob: BLOB,
      self: host.name,
      held: host.held,
      whole: true,
      originDepth,
      totalDepth,
      originFetchers,
      originNotBefore: this.now + (host.connected.length === 0 ? 0 : GRACE_MS),
    }
    const make = this.options.makePlan ?? ((given, scores) => new DownloadPlan(given, scores))
    host.plan = make(settings, host.scores)
    this.talk.join(host)
    this.pumpSoon(host)
  }

  #stored(host: SimHost, index: number, from: SimHost | undefined): void {
    this.onStored(host, index, from)
    if (host.held.complete && host.finishedAt === undefined) {
      host.finishedAt = this.now
      this.#living--
      this.#wakes.clear(host.number)
    }
    this.talk.tellSoon(host)
  }

  // --- decisions -----------------------------------------------------------------------------------------------------

  pumpSoon(host: SimHost, delayMs = 0): void {
    const at = this.now + delayMs
    if (host.pumpAt <= at || host.plan === undefined) return
    host.pumpAt = at
    this.events.at(at, () => {
      if (host.pumpAt === at) this.#pump(host)
    })
  }

  #pump(host: SimHost): void {
    const { plan, number } = host
    host.pumpAt = Number.POSITIVE_INFINITY
    if (plan === undefined || !host.fetching || host.silent) {
      this.#wakes.clear(number)
      return
    }
    const { now } = this
    if (now - host.progressAt >= PROGRESS_MS) {
      host.progressAt = now
      for (const { id, flow } of host.requests.values())
        if (flow !== undefined && this.network.movedAt(flow, now) === now) plan.progress(id, now)
    }
    host.decisions++
    const { start, cancel, wakeAt } = plan.next(now)
    this.#wakes.set(number, wakeAt ?? Number.POSITIVE_INFINITY)
    for (const id of cancel) {
      const request = host.requests.get(id)
      if (request !== undefined) host.duplicateBytes += this.#requests.end(request)
    }
    for (const assignment of start) this.#requests.begin(host, assignment)
    // As the transfer does: what is asked of the origin is told at once, not only with the next chunk that arrives.
    if (start.some(({ source }) => source === ORIGIN)) this.talk.tellSoon(host)
  }

  later([least, most]: readonly [number, number], run: () => void): void {
    this.events.at(this.now + least + this.random.next() * (most - least), run)
  }
}
