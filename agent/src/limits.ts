// The bandwidth limits of this host: one bucket for each kind of traffic, and the waiting. The arithmetic is plan/token-bucket.ts.
// Decides nothing about who may have what.
import { ShoalError } from '@shoal/protocol/errors.ts'
import type { PeerId } from '@shoal/protocol/ids.ts'
import { type Clock, sleep } from '@shoal/protocol/time.ts'
import { BoundedMap } from './bounded-map.ts'
import {
  LEAST_BYTES_PER_SECOND,
  type Limits,
  type LimitValues,
  type MeshPace,
  MOST_BYTES_PER_SECOND,
  type Pace,
} from './limits-port.ts'
import { TokenBucket } from './plan/token-bucket.ts'

/** Shorter waits cost more than they are worth: the debt is paid with the next piece. */
const WORTH_WAITING_MS = 2
const MAX_PEERS = 1_024

const KEYS = ['up', 'upPerPeer', 'down', 'origin'] as const

export class BandwidthLimits implements Limits, MeshPace {
  readonly downloads: Pace
  /** What comes from the origin counts for both limits. */
  readonly fromOrigin: Pace
  readonly #clock: Clock
  readonly #up: TokenBucket
  readonly #down: TokenBucket
  readonly #origin: TokenBucket
  readonly #peers = new BoundedMap<PeerId, TokenBucket>(MAX_PEERS)
  #values: LimitValues = { up: undefined, upPerPeer: undefined, down: undefined, origin: undefined }

  /** @throws ShoalError `bad-request` */
  constructor(initial: LimitValues, clock: Clock) {
    this.#clock = clock
    const bucket = () => new TokenBucket(undefined, clock.now())
    this.#up = bucket()
    this.#down = bucket()
    this.#origin = bucket()
    this.downloads = this.#pace([this.#down])
    this.fromOrigin = this.#pace([this.#down, this.#origin])
    this.change(initial)
  }

  /** False: leech mode. Peers are given nothing, and hear that there is nothing to be had here. */
  get givesToPeers(): boolean {
    return this.#values.up !== 0
  }

  values(): LimitValues {
    return this.#values
  }

  change(change: Partial<LimitValues>): LimitValues {
    const problems = KEYS.flatMap((key) => problemOf(key, change[key]))
    if (problems.length > 0) throw new ShoalError('bad-request', problems.join('; '), { problems })
    this.#values = { ...this.#values, ...change }
    const now = this.#clock.now()
    const { up, upPerPeer, down, origin } = this.#values
    this.#up.setRate(up === 0 ? undefined : up, now)
    this.#down.setRate(down, now)
    this.#origin.setRate(origin, now)
    for (const bucket of this.#peers.values()) bucket.setRate(upPerPeer, now)
    return this.#values
  }

  uploads(peer: PeerId): Pace {
    let bucket = this.#peers.get(peer)
    if (bucket === undefined) {
      bucket = new TokenBucket(this.#values.upPerPeer, this.#clock.now())
      this.#peers.set(peer, bucket)
    }
    return this.#pace([this.#up, bucket])
  }

  #pace(buckets: readonly TokenBucket[]): Pace {
    const clock = this.#clock
    return {
      get pieceBytes() {
        return Math.min(...buckets.map((bucket) => bucket.pieceBytes))
      },
      pass(bytes, signal) {
        const now = clock.now()
        let waitMs = 0
        for (const bucket of buckets) waitMs = Math.max(waitMs, bucket.take(bytes, now))
        return waitMs < WORTH_WAITING_MS ? undefined : sleep(clock, waitMs, signal)
      },
    }
  }
}

function problemOf(key: keyof LimitValues, value: number | undefined): string[] {
  if (value === undefined || (key === 'up' && value === 0)) return []
  if (value >= LEAST_BYTES_PER_SECOND && value <= MOST_BYTES_PER_SECOND) return []
  const none = key === 'up' ? ', or 0 to give peers nothing' : ''
  return [
    `${key}: a limit is ${LEAST_BYTES_PER_SECOND} (1 Mbit/s) to ${MOST_BYTES_PER_SECOND} bytes a second, or none${none}; received ${value}`,
  ]
}
