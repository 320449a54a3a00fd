// Background mode: while bytes flow, measures the ways to those who send them and take them, several times a second, and lets
// plan/background-rate.ts say how much this host may take and give. Thin: what is decided is decided there.
import { messageOf } from '@shoal/protocol/errors.ts'
import { type Clock, sleep } from '@shoal/protocol/time.ts'
import { BoundedMap } from './bounded-map.ts'
import { connectDelay, targetOf, type WayTarget } from './connect-delay.ts'
import type { BandwidthLimits } from './limits.ts'
import type { BackgroundStatus, LimitedTraffic } from './limits-port.ts'
import type { Log } from './log.ts'
import type { PeerStatus } from './net/mesh.ts'
import { BackgroundRate, BaseDelay } from './plan/background-rate.ts'

const PROBE_MS = 150
const PROBE_TIMEOUT_MS = 1_000
/** How soon it begins once it is switched on. */
const OFF_MS = 500
/** Rates are those of about the last so many probes. */
const WINDOW = 4
/** Peers measured at once, of those who send and of those who take. */
const MAX_PEERS = 2
const MAX_WAYS = 256
/** Slower traffic than this is none. */
const IDLE_BYTES = 2_000
/** So many silences of a way that never answered, and it is measured no more. */
const GIVE_UP = 3

export interface BackgroundDeps {
  readonly limits: BandwidthLimits
  readonly peers: () => readonly PeerStatus[]
  /** Where bytes of the origin last came from. */
  readonly origin: () => WayTarget | undefined
  readonly clock: Clock
  readonly log: Log
}

interface Way {
  readonly delay: BaseDelay
  silences: number
  answered: boolean
}

interface PeerBytes {
  readonly received: number
  readonly sent: number
}

type Counts = Readonly<Record<LimitedTraffic, number>>

export class BackgroundMode {
  readonly #deps: BackgroundDeps
  readonly #ways = new BoundedMap<string, Way>(MAX_WAYS)
  #rates: Readonly<Record<LimitedTraffic, BackgroundRate>> | undefined
  #peers = new Map<string, PeerBytes>()
  #passed: { readonly at: number; readonly bytes: Counts }[] = []
  #queueMs: number | undefined

  constructor(deps: BackgroundDeps) {
    this.#deps = deps
  }

  get status(): BackgroundStatus {
    return { enabled: this.#rates !== undefined, queueMs: this.#queueMs }
  }

  set(on: boolean): void {
    if (on === (this.#rates !== undefined)) return
    const { limits, clock, log } = this.#deps
    const now = clock.now()
    this.#rates = on
      ? { up: new BackgroundRate(now), down: new BackgroundRate(now), origin: new BackgroundRate(now) }
      : undefined
    this.#queueMs = undefined
    for (const kind of ['up', 'down', 'origin'] as const)
      limits.setCeiling(kind, 'background', this.#rates?.[kind].bytesPerSecond)
    log.info({ background: on }, 'background mode')
  }

  async run(signal: AbortSignal): Promise<void> {
    for (;;) {
      await sleep(this.#deps.clock, this.#rates === undefined ? OFF_MS : PROBE_MS, signal)
      try {
        await this.#step()
      } catch (error) {
        this.#deps.log.debug({ reason: messageOf(error) }, 'the ways to others could not be measured')
      }
    }
  }

  async #step(): Promise<void> {
    const { limits, clock } = this.#deps
    if (this.#rates === undefined) return
    const senders = this.#busiest()
    this.#passed.push({ at: clock.now(), bytes: { ...limits.passed } })
    if (this.#passed.length > WINDOW + 1) this.#passed.shift()
    const flowing = this.#flowing()
    const origin = flowing.origin * PROBE_MS > IDLE_BYTES * 1_000 ? this.#deps.origin() : undefined
    const [originMs, downMs, upMs] = await Promise.all([
      this.#shortest(origin === undefined ? [] : [origin]),
      this.#shortest(senders.down),
      this.#shortest(senders.up),
    ])
    // A queue before one source only is not before this host.
    const queues = { origin: originMs, down: least(originMs, downMs), up: upMs }
    this.#queueMs = least(queues.down, upMs)
    const rates = this.#rates
    if (rates === undefined) return
    for (const kind of ['up', 'down', 'origin'] as const) {
      const queueMs = queues[kind]
      if (queueMs === undefined) continue
      limits.setCeiling(kind, 'background', rates[kind].sample(queueMs, flowing[kind], clock.now()))
    }
  }

  /** The shortest queue of the ways to them; undefined when none can be measured. */
  async #shortest(targets: readonly WayTarget[]): Promise<number | undefined> {
    const queues = await Promise.all(targets.map((target) => this.#queue(target)))
    return queues.reduce(least, undefined)
  }

  async #queue(target: WayTarget): Promise<number | undefined> {
    const { clock } = this.#deps
    const key = `${target.address} ${target.port}`
    let way = this.#ways.get(key)
    if (way === undefined) {
      way = { delay: new BaseDelay(), silences: 0, answered: false }
      this.#ways.set(key, way)
    }
    if (!way.answered && way.silences >= GIVE_UP) return undefined
    const delayMs = await connectDelay(target, PROBE_TIMEOUT_MS, clock)
    if (delayMs === undefined) {
      way.silences++
      return way.answered ? Number.POSITIVE_INFINITY : undefined
    }
    way.answered = true
    way.silences = 0
    return way.delay.sample(delayMs, clock.now())
  }

  #flowing(): Counts {
    const [first] = this.#passed
    const last = this.#passed.at(-1)
    const rate = (kind: LimitedTraffic) =>
      first === undefined || last === undefined || last.at <= first.at
        ? 0
        : ((last.bytes[kind] - first.bytes[kind]) * 1_000) / (last.at - first.at)
    return { up: rate('up'), down: rate('down'), origin: rate('origin') }
  }

  /** Those who sent and took most since the last time. */
  #busiest(): { readonly down: readonly WayTarget[]; readonly up: readonly WayTarget[] } {
    const before = this.#peers
    this.#peers = new Map()
    const moved: { readonly target: WayTarget; readonly received: number; readonly sent: number }[] = []
    for (const { peer, addresses, bytesReceived: received, bytesSent: sent } of this.#deps.peers()) {
      const last = before.get(peer) ?? { received, sent }
      this.#peers.set(peer, { received, sent })
      const target = targetOf(addresses[0] ?? '')
      if (target !== undefined)
        moved.push({ target, received: received - last.received, sent: sent - last.sent })
    }
    const most = (of: 'received' | 'sent') =>
      moved
        .filter((one) => one[of] > IDLE_BYTES)
        .toSorted((a, b) => b[of] - a[of])
        .slice(0, MAX_PEERS)
        .map(({ target }) => target)
    return { down: most('received'), up: most('sent') }
  }
}

function least(one: number | undefined, other: number | undefined): number | undefined {
  if (one === undefined || other === undefined) return one ?? other
  return Math.min(one, other)
}
