// The bandwidth limits of this host: one bucket for each kind of traffic, and the waiting. The arithmetic is plan/token-bucket.ts.
// Decides nothing about who may have what, nor what the hour or the load asks for: those set ceilings (host-limits.ts).
import { ShoalError } from '@shoal/protocol/errors.ts'
import type { PeerId } from '@shoal/protocol/ids.ts'
import { type Clock, sleep } from '@shoal/protocol/time.ts'
import { BoundedMap } from './bounded-map.ts'
import {
  LEAST_BYTES_PER_SECOND,
  type LimitedTraffic,
  type LimitInForce,
  type LimitReason,
  type LimitValues,
  type MeshPace,
  MOST_BYTES_PER_SECOND,
  type Pace,
} from './limits-port.ts'
import { TokenBucket } from './plan/token-bucket.ts'

/** Shorter waits cost more than they are worth: the debt is paid with the next piece. */
const WORTH_WAITING_MS = 2
const MAX_PEERS = 1_024

const KEYS = ['up', 'upPerPeer', 'down', 'origin', 'perDownload'] as const

type Ceilings = Map<Exclude<LimitReason, 'set'>, number>

export class BandwidthLimits implements MeshPace {
  readonly downloads: Pace
  /** What comes from the origin counts for both limits. */
  readonly fromOrigin: Pace
  readonly #clock: Clock
  readonly #buckets: Readonly<Record<LimitedTraffic, TokenBucket>>
  readonly #ceilings: Readonly<Record<LimitedTraffic, Ceilings>>
  readonly #peers = new BoundedMap<PeerId, TokenBucket>(MAX_PEERS)
  readonly #downloads = new Set<WeakRef<TokenBucket>>()
  readonly #passed: Record<LimitedTraffic, number> = { up: 0, down: 0, origin: 0 }
  #values: LimitValues

  /** @throws ShoalError `bad-request` */
  constructor(initial: LimitValues, clock: Clock) {
    this.#clock = clock
    const bucket = () => new TokenBucket(undefined, clock.now())
    this.#buckets = { up: bucket(), down: bucket(), origin: bucket() }
    this.#ceilings = { up: new Map(), down: new Map(), origin: new Map() }
    this.downloads = this.#pace(['down'])
    this.fromOrigin = this.#pace(['down', 'origin'])
    this.#values = initial
    this.change(initial)
  }

  /** False: leech mode. Peers are given nothing, and hear that there is nothing to be had here. */
  get givesToPeers(): boolean {
    return this.#values.up !== 0
  }

  /** Bytes that passed since the start. */
  get passed(): Readonly<Record<LimitedTraffic, number>> {
    return this.#passed
  }

  values(): LimitValues {
    return this.#values
  }

  change(change: Partial<LimitValues>): LimitValues {
    const problems = KEYS.flatMap((key) => problemOf(key, change[key]))
    if (problems.length > 0) throw new ShoalError('bad-request', problems.join('; '), { problems })
    this.#values = { ...this.#values, ...change }
    for (const kind of ['up', 'down', 'origin'] as const) this.#apply(kind)
    const now = this.#clock.now()
    const { upPerPeer, perDownload } = this.#values
    for (const bucket of this.#peers.values()) bucket.setRate(upPerPeer, now)
    for (const bucket of this.#liveDownloads()) bucket.setRate(perDownload, now)
    return this.#values
  }

  /** Somebody else than the operator asks for a limit, or no longer does. The lowest counts. */
  setCeiling(kind: LimitedTraffic, because: Exclude<LimitReason, 'set'>, rate: number | undefined): void {
    const ceilings = this.#ceilings[kind]
    if (ceilings.get(because) === rate) return
    if (rate === undefined) ceilings.delete(because)
    else ceilings.set(because, Math.max(LEAST_BYTES_PER_SECOND, rate))
    this.#apply(kind)
  }

  inForce(kind: LimitedTraffic): LimitInForce {
    let lowest: LimitInForce = { bytesPerSecond: undefined, because: 'none' }
    const own = this.#values[kind]
    if (own !== undefined) lowest = { bytesPerSecond: own, because: 'set' }
    for (const [because, bytesPerSecond] of this.#ceilings[kind])
      if (bytesPerSecond < (lowest.bytesPerSecond ?? Number.POSITIVE_INFINITY))
        lowest = { bytesPerSecond, because }
    return lowest
  }

  /** What holds now, for whoever plans with it. */
  effective(): LimitValues {
    return {
      ...this.#values,
      up: this.inForce('up').bytesPerSecond,
      down: this.inForce('down').bytesPerSecond,
      origin: this.inForce('origin').bytesPerSecond,
    }
  }

  uploads(peer: PeerId): Pace {
    let bucket = this.#peers.get(peer)
    if (bucket === undefined) {
      bucket = new TokenBucket(this.#values.upPerPeer, this.#clock.now())
      this.#peers.set(peer, bucket)
    }
    return this.#pace(['up'], bucket)
  }

  /** For one download, from whatever source: beside the limits that hold for all. */
  download(): Pace {
    const bucket = new TokenBucket(this.#values.perDownload, this.#clock.now())
    this.#liveDownloads()
    this.#downloads.add(new WeakRef(bucket))
    return this.#pace([], bucket)
  }

  /** Those that somebody still moves bytes through. */
  #liveDownloads(): TokenBucket[] {
    const live: TokenBucket[] = []
    for (const ref of this.#downloads) {
      const bucket = ref.deref()
      if (bucket === undefined) this.#downloads.delete(ref)
      else live.push(bucket)
    }
    return live
  }

  #apply(kind: LimitedTraffic): void {
    const { bytesPerSecond } = this.inForce(kind)
    this.#buckets[kind].setRate(bytesPerSecond === 0 ? undefined : bytesPerSecond, this.#clock.now())
  }

  #pace(kinds: readonly LimitedTraffic[], own?: TokenBucket): Pace {
    const clock = this.#clock
    const passed = this.#passed
    const buckets = [...kinds.map((kind) => this.#buckets[kind]), ...(own === undefined ? [] : [own])]
    return {
      get pieceBytes() {
        let least = Number.POSITIVE_INFINITY
        for (const bucket of buckets) least = Math.min(least, bucket.pieceBytes)
        return least
      },
      pass(bytes, signal) {
        const now = clock.now()
        let waitMs = 0
        for (const kind of kinds) passed[kind] += bytes
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
