// PURE. Who speaks to the origin for a blob: of all hosts that fetch it, the first few in the blob's own order. Every host works out the
// same order by itself, so a site needs no election; whoever leaves makes room for the next.
import type { ShareSeed } from './origin-share.ts'

/** Hosts this many times the number of seats from the front hear of each other directly, and judge those that have a seat. */
const NEAR = 2

/** Order of two hosts for one blob: greater seed first, ties by name. */
export function beforeInOrder(a: ShareSeed, b: ShareSeed): boolean {
  return a.seed === b.seed ? a.host < b.host : a.seed > b.seed
}

export class SeatOrder {
  readonly #seats: number
  readonly #order: ShareSeed[] = []
  readonly #hosts = new Set<string>()
  #changed = false

  /** @param seats how many hosts may have one, at least 1 */
  constructor(seats: number) {
    this.#seats = Math.max(1, seats)
  }

  /** Whether those that have a seat may be others than when {@link seated} was last asked. */
  get changed(): boolean {
    return this.#changed
  }

  hosts(): Iterable<string> {
    return this.#hosts
  }

  add(seed: ShareSeed): void {
    if (this.#hosts.has(seed.host)) return
    this.#hosts.add(seed.host)
    let place = this.#order.length
    for (; place > 0; place--) {
      const above = this.#order[place - 1]
      if (above === undefined || beforeInOrder(above, seed)) break
    }
    this.#order.splice(place, 0, seed)
    if (place < this.#seats) this.#changed = true
  }

  remove(host: string): void {
    if (!this.#hosts.delete(host)) return
    const place = this.#order.findIndex((seed) => seed.host === host)
    this.#order.splice(place, 1)
    if (place < this.#seats) this.#changed = true
  }

  /** Those that have a seat now. */
  seated(): readonly ShareSeed[] {
    this.#changed = false
    return this.#order.slice(0, this.#seats)
  }

  /** It has a seat or is one of the next to get one. */
  isNear(host: string): boolean {
    const count = Math.min(this.#order.length, NEAR * this.#seats)
    for (let place = 0; place < count; place++) if (this.#order[place]?.host === host) return true
    return false
  }

  /** How many are before it. */
  placeOf(host: string): number {
    const place = this.#order.findIndex((seed) => seed.host === host)
    return place === -1 ? this.#order.length : place
  }

  /** The first without a seat that `fits`. */
  firstWaiting(fits: (host: string) => boolean): string | undefined {
    return this.#order.slice(this.#seats).find((seed) => fits(seed.host))?.host
  }
}
