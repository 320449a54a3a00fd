// PURE. How close a pull came to the shortest time that was possible, and where the rest went. Fed with what the transfer was doing and
// what it moved meanwhile; holds no clock. The bound is that of Kumar and Ross (2006) for one host: max(F/d, F_o/u_s), with what a host can know.

/** How fast this host was ever seen to receive, in bytes a second; undefined: not measured yet. */
export interface BestRates {
  readonly total: number | undefined
  readonly origin: number | undefined
  readonly peers: number | undefined
}

/** What may be hoped for under limits, in bytes a second: no more than they allow, however fast it once was. */
export function withinLimits(
  { total, origin, peers }: BestRates,
  limits: { readonly down: number | undefined; readonly origin: number | undefined },
): BestRates {
  const most = (rate: number | undefined, ...caps: readonly (number | undefined)[]) =>
    rate === undefined ? undefined : Math.min(rate, ...caps.filter((cap) => cap !== undefined))
  return {
    total: most(total, limits.down),
    origin: most(origin, limits.down, limits.origin),
    peers: most(peers, limits.down),
  }
}

/** A best rate holds over this long: shorter moments show what buffers gave, not what a line carries. */
const WINDOW_MS = 1_000
/** What is older says little about today's lines. */
const FORGET_MS = 60 * 60_000

class BestRate {
  #windowStart: number | undefined
  #windowBytes = 0
  #best: { readonly rate: number; readonly at: number } | undefined

  note(bytes: number, now: number): void {
    this.#windowStart ??= now
    const elapsedMs = now - this.#windowStart
    if (elapsedMs >= WINDOW_MS) {
      const rate = (this.#windowBytes * 1000) / elapsedMs
      if (this.#best === undefined || rate >= this.#best.rate || now - this.#best.at > FORGET_MS)
        this.#best = { rate, at: now }
      this.#windowStart = now
      this.#windowBytes = 0
    }
    this.#windowBytes += bytes
  }

  at(now: number): number | undefined {
    if (this.#best === undefined || now - this.#best.at > FORGET_MS) return undefined
    return this.#best.rate
  }
}

/** The fastest seconds of the last hour. */
export class ObservedRates {
  readonly #total = new BestRate()
  readonly #origin = new BestRate()
  readonly #peers = new BestRate()

  /** Bytes have come. */
  note(from: 'origin' | 'peer', bytes: number, now: number): void {
    this.#total.note(bytes, now)
    if (from === 'origin') this.#origin.note(bytes, now)
    else this.#peers.note(bytes, now)
  }

  best(now: number): BestRates {
    return { total: this.#total.at(now), origin: this.#origin.at(now), peers: this.#peers.at(now) }
  }
}

/** What a download is doing at a moment. */
export interface Doing {
  /** Chunks asked of the origin and of peers that have not come yet. */
  readonly originFlights: number
  readonly peerFlights: number
  /** Chunks that have come and are being proven and written. */
  readonly writing: number
  /** The digest of the whole is being made. */
  readonly verifying: boolean
  /** The digest has passed; the file is being made safe on the disk. */
  readonly syncing: boolean
}

export const IDLE: Doing = { originFlights: 0, peerFlights: 0, writing: 0, verifying: false, syncing: false }

/** Why a pull took longer than it had to. `origin`: waiting for the origin; `peers`: for peers; `stall`: nothing was on its way. */
export const CAUSES = ['origin', 'peers', 'stall', 'verification', 'disk'] as const
export type Cause = (typeof CAUSES)[number]

interface Spent {
  ms: number
  bytes: number
}

/** Accounts for the time of one pull, moment by moment. */
export class TimeAccount {
  readonly #spent = new Map<Cause, Spent>()
  #activeMs = 0
  #at: number
  #doing: readonly Doing[] | 'asking' | 'waiting' = 'asking'

  constructor(now: number) {
    this.#at = now
  }

  /**
   * What went on since the last call was what that call said; `bytes` came meanwhile.
   * @param doing of each file from now on; `asking` for the list of files; `waiting` for its turn or paused, which counts for nothing
   */
  note(doing: readonly Doing[] | 'asking' | 'waiting', bytes: number, now: number): void {
    const ms = Math.max(0, now - this.#at)
    this.#at = Math.max(now, this.#at)
    const before = this.#doing
    this.#doing = doing
    if (before === 'waiting') return
    this.#activeMs += ms
    if (before === 'asking') this.#add('origin', ms, bytes)
    else for (const [cause, share] of sharesOf(before)) this.#add(cause, ms * share, bytes * share)
  }

  /** Time in which the pull was neither paused nor waiting for its turn. */
  get activeMs(): number {
    return this.#activeMs
  }

  spent(cause: Cause): { readonly ms: number; readonly bytes: number } {
    return this.#spent.get(cause) ?? { ms: 0, bytes: 0 }
  }

  #add(cause: Cause, ms: number, bytes: number): void {
    const known = this.#spent.get(cause) ?? { ms: 0, bytes: 0 }
    this.#spent.set(cause, { ms: known.ms + ms, bytes: known.bytes + bytes })
  }
}

/** While anything is on its way, that is what is waited for; then the disk, then the digest. */
function sharesOf(doing: readonly Doing[]): readonly (readonly [Cause, number])[] {
  let origin = 0
  let peers = 0
  let disk = 0
  let verifying = 0
  for (const one of doing) {
    origin += one.originFlights
    peers += one.peerFlights
    if (one.writing > 0 || one.syncing) disk++
    if (one.verifying) verifying++
  }
  const flights = origin + peers
  if (flights > 0)
    return [
      ['origin', origin / flights],
      ['peers', peers / flights],
    ]
  if (disk > 0) return [['disk', 1]]
  return verifying > 0 ? [['verification', 1]] : [['stall', 1]]
}

export interface Efficiency {
  /** Without pauses and waiting for a turn. */
  readonly actualMs: number
  /** No shorter time was possible. */
  readonly boundMs: number
  /** `boundMs / actualMs`, 0 to 1. */
  readonly efficiency: number
  /** Where the difference went. Sums up to it. */
  readonly lostMs: Readonly<Record<Cause, number>>
}

/**
 * The lower bound is the longer of: all bytes at the best rate at which this host ever received, and the origin's bytes at the best rate at
 * which the origin ever gave. What was never measured is taken from this pull itself. undefined: nothing was fetched.
 */
export function efficiencyOf(
  account: Pick<TimeAccount, 'activeMs' | 'spent'>,
  fetched: { readonly originBytes: number; readonly peerBytes: number },
  best: BestRates,
): Efficiency | undefined {
  const bytes = fetched.originBytes + fetched.peerBytes
  const actualMs = account.activeMs
  if (bytes === 0 || actualMs <= 0) return undefined
  const movingMs = account.spent('origin').ms + account.spent('peers').ms
  // A pull shorter than the measure has only its own mean to be held against.
  const own = (bytes * 1000) / Math.max(1, movingMs)
  const total = best.total ?? own
  const origin = best.origin ?? own
  const boundMs = Math.min(actualMs, Math.max((bytes * 1000) / total, (fetched.originBytes * 1000) / origin))
  const overMs = actualMs - boundMs
  const raw = CAUSES.map((cause) => {
    const { ms, bytes: moved } = account.spent(cause)
    const rate = cause === 'origin' ? Math.min(origin, total) : total
    return [cause, Math.max(0, ms - (moved * 1000) / rate)] as const
  })
  const sum = raw.reduce((total, [, ms]) => total + ms, 0)
  const lost = raw.map(([cause, ms]) => [cause, sum === 0 ? 0 : (ms * overMs) / sum] as const)
  const lostMs = Object.fromEntries(lost) as Record<Cause, number>
  if (sum === 0) lostMs.peers = overMs
  return { actualMs, boundMs, efficiency: boundMs / actualMs, lostMs }
}
