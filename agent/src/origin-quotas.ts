// What the origin last said of how many requests it still allows. Remembers only.
import type { Clock } from '@shoal/protocol/time.ts'
import { BoundedMap } from './bounded-map.ts'
import type { OriginQuota } from './host-port.ts'

/** The origin names its buckets itself. */
const MAX_BUCKETS = 8
const MAX_NAME = 64

export class OriginQuotas {
  readonly #clock: Clock
  readonly #buckets = new BoundedMap<string, OriginQuota>(MAX_BUCKETS)

  constructor(clock: Clock) {
    this.#clock = clock
  }

  seen(bucket: string, remaining: number): void {
    const name = bucket.slice(0, MAX_NAME)
    this.#buckets.set(name, { bucket: name, remaining, seenAt: this.#clock.wallTime() })
  }

  known(): readonly OriginQuota[] {
    return [...this.#buckets.values()].toSorted((a, b) => (a.bucket < b.bucket ? -1 : 1))
  }
}
