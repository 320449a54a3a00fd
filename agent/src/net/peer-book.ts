// Which hosts are known, where, and when to try one again. Pure: told the time and the luck, decides; dials nothing.
// Bounded: of the hosts that others told us about, the ones that fail most are forgotten first.
import type { PeerId } from '@shoal/protocol/ids.ts'
import type { Random } from '@shoal/protocol/time.ts'
import { MAX_ADDRESSES_PER_PEER, type PeerAddresses } from './questions.ts'

export const MAX_KNOWN_PEERS = 512
const FIRST_RETRY_MS = 1_000
const LONGEST_RETRY_MS = 60_000
/** After so many failures in a row a host that others told us about is forgotten. */
const FORGET_AFTER_FAILURES = 8
/** Both ends of a broken connection wait up to this long, each its own time, so that seldom both dial. */
const RECONNECT_SPREAD_MS = 1_500

/** `static`: given by the operator, never forgotten. `told`: by other hosts, mDNS or the file of an earlier run. */
export type Provenance = 'static' | 'told'

export interface DialTarget {
  /** What results are reported for. */
  readonly key: string
  readonly peer: PeerId | undefined
  readonly addresses: readonly string[]
}

interface Entry {
  readonly key: string
  readonly provenance: Provenance
  peer: PeerId | undefined
  /** What the operator gave stays, and stays first: the host may know only its address behind a port mapping. */
  readonly given: readonly string[]
  addresses: readonly string[]
  failures: number
  notBeforeMs: number
}

export class PeerBook {
  readonly #random: Random
  readonly #entries = new Map<string, Entry>()

  constructor(random: Random) {
    this.#random = random
  }

  /**
   * A host and where it can be reached. Newer addresses come before older ones, which are pushed out in the end.
   * @returns true if the host or an address of it is new
   */
  learn(peer: PeerId, addresses: readonly string[], provenance: Provenance, now: number): boolean {
    if (addresses.length === 0) return false
    const known = this.#entries.get(peer)
    if (known !== undefined) {
      const isNew = addresses.some((address) => !known.addresses.includes(address))
      const all = new Set([...known.given, ...addresses, ...known.addresses])
      known.addresses = [...all].slice(0, MAX_ADDRESSES_PER_PEER)
      // A host that moved is worth trying at once.
      if (isNew && known.failures > 0) known.notBeforeMs = now
      return isNew
    }
    if (this.#entries.size >= MAX_KNOWN_PEERS && !this.#forgetWorst()) return false
    const given = provenance === 'static' ? addresses : []
    this.#entries.set(peer, { key: peer, provenance, peer, given, addresses, failures: 0, notBeforeMs: now })
    return true
  }

  /** An operator's address whose host is not known yet. */
  learnAddress(address: string, now: number): void {
    if (this.#entries.has(address)) return
    this.#entries.set(address, {
      key: address,
      provenance: 'static',
      peer: undefined,
      given: [address],
      addresses: [address],
      failures: 0,
      notBeforeMs: now,
    })
  }

  /** Hosts to dial now, the operator's and the most reliable first. */
  due(now: number, isSettled: (peer: PeerId) => boolean): readonly DialTarget[] {
    return this.#waiting(isSettled)
      .filter((entry) => entry.notBeforeMs <= now)
      .toSorted((a, b) => rank(a) - rank(b))
  }

  /** When {@link due} will next have something besides `except` (keys); undefined if all known hosts are settled. */
  nextDueAt(isSettled: (peer: PeerId) => boolean, except: ReadonlySet<string>): number | undefined {
    const times = this.#waiting(isSettled)
      .filter((entry) => !except.has(entry.key))
      .map((entry) => entry.notBeforeMs)
    return times.length === 0 ? undefined : Math.min(...times)
  }

  /** A dial worked: now the host behind the address is known. */
  succeeded(key: string, peer: PeerId): void {
    const entry = this.#entries.get(key)
    if (entry === undefined) return
    entry.failures = 0
    entry.peer = peer
  }

  failed(key: string, now: number): void {
    const entry = this.#entries.get(key)
    if (entry === undefined) return
    entry.failures++
    if (entry.provenance === 'told' && entry.failures >= FORGET_AFTER_FAILURES) this.#entries.delete(key)
    const delay = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** (entry.failures - 1))
    entry.notBeforeMs = now + delay * (0.5 + this.#random.next() / 2)
  }

  /** Its last connection closed. */
  lost(peer: PeerId, now: number): void {
    for (const entry of this.#entries.values())
      if (entry.peer === peer) entry.notBeforeMs = now + this.#random.next() * RECONNECT_SPREAD_MS
  }

  forget(key: string): void {
    this.#entries.delete(key)
  }

  addressesOf(peer: PeerId): readonly string[] {
    return this.#entries.get(peer)?.addresses ?? []
  }

  /** Every host known by its id. */
  known(): readonly PeerAddresses[] {
    return [...this.#entries.values()].flatMap(({ peer, addresses }) =>
      peer === undefined ? [] : [{ peer, addresses: [...addresses] }],
    )
  }

  #waiting(isSettled: (peer: PeerId) => boolean): readonly Entry[] {
    return [...this.#entries.values()].filter((entry) => {
      if (entry.peer === undefined) return true
      // A host found behind an operator's address is dialled by its id first; the address waits until that fails.
      const own = this.#entries.get(entry.peer)
      const isSpare = own !== undefined && own !== entry && own.failures === 0
      return !isSpare && !isSettled(entry.peer)
    })
  }

  #forgetWorst(): boolean {
    const told = [...this.#entries.values()].filter(
      (entry) => entry.provenance === 'told' && entry.failures > 0,
    )
    const worst = told.toSorted((a, b) => b.failures - a.failures)[0]
    if (worst === undefined) return false
    this.#entries.delete(worst.key)
    return true
  }
}

function rank(entry: Entry): number {
  return entry.failures + (entry.provenance === 'static' ? 0 : 0.5)
}
