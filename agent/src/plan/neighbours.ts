// PURE. Whom to hear of a blob from. In a small mesh everybody; in a large one about twenty: each pair of hosts has a weight that both work
// out alike, so that choices are mostly mutual and every host has about as many. Near hosts come first, some far ones always,
// so that sites and racks do not become islands. Those that may speak to the origin know each other. Asks and tells nobody itself.
import type { ShareSeed } from './origin-share.ts'
import { shareSeed, shareWeight } from './origin-share.ts'
import { beforeInOrder } from './seat-order.ts'

/** Neighbours that a host chooses, and has at most with those that chose it. */
export const CHOSEN_NEIGHBOURS = 12
export const MAX_NEIGHBOURS = 40
/** Of those chosen, at most this share is near by preference. */
const NEAR_SHARE = 0.75
/** Hosts that expect at most so many times the number of leaders before them speak up. */
const MARGIN = 4
/** Hosts that fetch or hold the blob and are remembered, beyond neighbours. */
const MAX_KNOWN = 512

/** 0: same rack. 1: same site, or no labels. 2: elsewhere. */
export type Distance = 0 | 1 | 2

interface Known {
  readonly host: string
  readonly seed: ShareSeed
  readonly weight: number
  distance: Distance
  /** There is a connection with it; else it is only known to fetch. */
  isReachable: boolean
}

export class Neighbours {
  readonly #self: ShareSeed
  readonly #blob: string
  /** Hosts that know each other because they have a seat at the origin or are next to get one. */
  readonly #leaders: number
  readonly #known = new Map<string, Known>()
  readonly #neighbours = new Set<string>()

  /** @param seats hosts that speak to the origin for a blob */
  constructor(blob: string, self: string, seats: number) {
    this.#blob = blob
    this.#self = shareSeed(blob, self)
    this.#leaders = 2 * seats
  }

  get count(): number {
    return this.#neighbours.size
  }

  has(host: string): boolean {
    return this.#neighbours.has(host)
  }

  /** More may be chosen. */
  get hasRoom(): boolean {
    return this.#neighbours.size < CHOSEN_NEIGHBOURS
  }

  /**
   * Whether this host may be among the first in order, so that everybody should know that it fetches.
   * @param hosts hosts of the mesh, as far as known: in a large one most are too far back to say anything
   */
  mayLead(hosts: number): boolean {
    const expectedBefore = (1 - this.#self.seed / 2 ** 32) * hosts
    return expectedBefore <= MARGIN * this.#leaders && this.#leads(this.#self, 1)
  }

  all(): Iterable<string> {
    return this.#neighbours
  }

  /** A host fetches or holds the blob. */
  heard(host: string, distance: Distance, isReachable = true): void {
    const known = this.#known.get(host)
    if (known !== undefined) {
      known.isReachable ||= isReachable
      if (isReachable) known.distance = distance
      return
    }
    if (host === this.#self.host) return
    const seed = shareSeed(this.#blob, host)
    this.#known.set(host, {
      host,
      seed,
      weight: pairWeight(this.#self.seed, seed.seed),
      distance,
      isReachable,
    })
    if (this.#known.size <= MAX_KNOWN) return
    for (const other of this.#known.keys()) {
      if (this.#neighbours.has(other) || this.isLeader(other)) continue
      this.#known.delete(other)
      return
    }
  }

  /** It left, or cannot be reached any more. */
  gone(host: string): void {
    this.#known.delete(host)
    this.#neighbours.delete(host)
  }

  /** A host asks to be told. True: it is a neighbour from now on (or was). */
  accept(host: string, distance: Distance): boolean {
    this.heard(host, distance)
    if (this.#neighbours.has(host)) return true
    if (!this.#hasPlace(this.#leads(this.#self, 1) && this.isLeader(host))) return false
    this.#neighbours.add(host)
    return true
  }

  /** The neighbour is one no longer: it does not want us as one. */
  refused(host: string): void {
    this.#neighbours.delete(host)
    this.#known.delete(host)
  }

  /** Hosts to ask for a place beside them: they become neighbours with this. */
  choose(): string[] {
    const chosen: string[] = []
    const add = ({ host, isReachable }: Known) => {
      if (!isReachable || this.#neighbours.has(host) || !this.#hasPlace(true)) return
      this.#neighbours.add(host)
      chosen.push(host)
    }
    if (this.#leads(this.#self, 1))
      for (const known of this.#known.values()) if (this.#leads(known.seed, known.distance)) add(known)
    let room = CHOSEN_NEIGHBOURS - this.#neighbours.size
    if (room <= 0) return chosen
    const others = [...this.#known.values()].filter(
      ({ host, isReachable }) => isReachable && !this.#neighbours.has(host),
    )
    const near = others.toSorted((a, b) => a.distance - b.distance || b.weight - a.weight)
    for (const known of near.slice(0, Math.ceil(room * NEAR_SHARE))) add(known)
    room = CHOSEN_NEIGHBOURS - this.#neighbours.size
    const any = others
      .filter(({ host }) => !this.#neighbours.has(host))
      .toSorted((a, b) => b.weight - a.weight)
    for (const known of any.slice(0, room)) add(known)
    return chosen
  }

  /** Among all that are known, it is one of those that may speak to the origin soon. */
  isLeader(host: string): boolean {
    const known = this.#known.get(host)
    return known !== undefined && this.#leads(known.seed, known.distance)
  }

  /** Leaders have places of their own, but only so many: who leads changes with every name that a stranger takes. */
  #hasPlace(forLeader: boolean): boolean {
    if (this.#neighbours.size < MAX_NEIGHBOURS) return true
    if (!forLeader) return false
    return this.#neighbours.size < MAX_NEIGHBOURS + this.#leaders || this.#sendAway()
  }

  /** One that led when it came, and does no longer, keeps its place only while no leader needs it. True: there is a place. */
  #sendAway(): boolean {
    for (const host of this.#neighbours) if (!this.isLeader(host)) return this.#neighbours.delete(host)
    return false
  }

  /** Every site has its own order: hosts elsewhere ask their own origin. */
  #leads(seed: ShareSeed, distance: Distance): boolean {
    if (distance === 2) return false
    let before = seed === this.#self ? 0 : Number(beforeInOrder(this.#self, seed))
    for (const other of this.#known.values()) {
      if (other.distance < 2 && other.seed !== seed && beforeInOrder(other.seed, seed)) before++
      if (before >= this.#leaders) return false
    }
    return true
  }
}

/** The same for both of a pair. */
function pairWeight(a: number, b: number): number {
  return shareWeight(Math.min(a, b), Math.max(a, b) >>> 1)
}
