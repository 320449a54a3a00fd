// Which hosts are known, where, and when to try one again. Pure: told the time and the luck, decides; dials nothing.
// Bounded: of the hosts that others told us about, the ones that fail most are forgotten first, then any that is not connected:
// what is left is a random choice of all that were told. Whom to dial of those that are due is not decided here.
import type { PeerId } from '@shoal/protocol/ids.ts'
import type { Random } from '@shoal/protocol/time.ts'
import { MAX_ADDRESSES_PER_PEER, type PeerAddresses } from './questions.ts'

export const MAX_KNOWN_PEERS = 2_048
const FIRST_RETRY_MS = 1_000
const LONGEST_RETRY_MS = 60_000
/** A host that lets us in and soon hangs up has connections enough: we are not the only ones to come back. */
const LONGEST_TURNED_AWAY_MS = 10 * 60_000
/** A connection that lasted so long was wanted by both ends. */
export const STEADY_MS = 60_000
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
  /** By the operator. */
  readonly isGiven: boolean
  /** Dials in a row that failed or did not last. */
  readonly failures: number
}

interface Entry {
  readonly key: string
  readonly provenance: Provenance
  peer: PeerId | undefined
  /** What the operator gave stays, and stays first: the host may know only its address behind a port mapping. */
  readonly given: readonly string[]
  addresses: readonly string[]
  failures: number
  /** Connections in a row that did not last. */
  brief: number
  notBeforeMs: number
  connectedAtMs: number | undefined
}

export class PeerBook {
  readonly #random: Random
  readonly #entries = new Map<string, Entry>()

  constructor(random: Random) {
    this.#random = random
  }

  /**
   * A host and where it can be reached. Newer addresses come before older ones, which are pushed out in the end.
   * @param notBeforeMs when it is due at first, if it is new
   * @returns true if the host or an address of it is new
   */
  learn(
    peer: PeerId,
    addresses: readonly string[],
    provenance: Provenance,
    now: number,
    notBeforeMs = now,
  ): boolean {
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
    if (this.#entries.size >= MAX_KNOWN_PEERS && !this.#makeRoom()) return false
    const given = provenance === 'static' ? addresses : []
    this.#add({ key: peer, provenance, peer, given, addresses }, notBeforeMs)
    return true
  }

  /** An operator's address whose host is not known yet. */
  learnAddress(address: string, now: number): void {
    if (this.#entries.has(address)) return
    const addresses = [address]
    this.#add({ key: address, provenance: 'static', peer: undefined, given: addresses, addresses }, now)
  }

  /** Hosts that may be dialled now. */
  due(now: number, isSettled: (peer: PeerId) => boolean): readonly DialTarget[] {
    return this.#waiting(isSettled)
      .filter((entry) => entry.notBeforeMs <= now)
      .map(({ key, peer, addresses, provenance, failures, brief }) => ({
        key,
        peer,
        addresses,
        isGiven: provenance === 'static',
        failures: failures + brief,
      }))
  }

  /** When {@link due} will next have one more than now; undefined if nothing that is waited for comes. */
  nextDueAt(now: number, isSettled: (peer: PeerId) => boolean): number | undefined {
    let next: number | undefined
    for (const { notBeforeMs } of this.#waiting(isSettled))
      if (notBeforeMs > now && (next === undefined || notBeforeMs < next)) next = notBeforeMs
    return next
  }

  /** A dial worked: now the host behind the address is known. */
  succeeded(key: string, peer: PeerId): void {
    const entry = this.#entries.get(key)
    if (entry !== undefined) entry.peer = peer
  }

  /** The host is connected, whoever dialled. */
  connected(peer: PeerId, now: number): void {
    for (const entry of this.#of(peer)) {
      entry.failures = 0
      entry.connectedAtMs ??= now
    }
  }

  failed(key: string, now: number): void {
    const entry = this.#entries.get(key)
    if (entry === undefined) return
    entry.failures++
    if (entry.provenance === 'told' && entry.failures >= FORGET_AFTER_FAILURES) this.#entries.delete(key)
    this.#putOff(entry, now, entry.failures, LONGEST_RETRY_MS)
  }

  /**
   * Its last connection closed. One that lasted is made again at once, others after growing pauses.
   * @param isWellConnected this host has connections enough without it
   */
  lost(peer: PeerId, now: number, isWellConnected: boolean): void {
    for (const entry of this.#of(peer)) {
      const lasted = entry.connectedAtMs === undefined || now - entry.connectedAtMs >= STEADY_MS
      entry.connectedAtMs = undefined
      entry.brief = lasted ? 0 : entry.brief + 1
      if (entry.brief < 2) entry.notBeforeMs = now + this.#random.next() * RECONNECT_SPREAD_MS
      else
        this.#putOff(entry, now, entry.brief - 1, isWellConnected ? LONGEST_TURNED_AWAY_MS : LONGEST_RETRY_MS)
    }
  }

  forget(key: string): void {
    this.#entries.delete(key)
  }

  addressesOf(peer: PeerId): readonly string[] {
    return this.#entries.get(peer)?.addresses ?? []
  }

  /** By the operator, by id or behind an address. */
  isGiven(peer: PeerId): boolean {
    return this.#of(peer).some(({ provenance }) => provenance === 'static')
  }

  /** Every host known by its id, connected ones first. */
  known(): readonly PeerAddresses[] {
    const entries = [...this.#entries.values()]
    const first = entries.filter(({ connectedAtMs }) => connectedAtMs !== undefined)
    return [...new Set([...first, ...entries])].flatMap(({ peer, addresses }) =>
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

  #add(
    entry: Omit<Entry, 'failures' | 'brief' | 'notBeforeMs' | 'connectedAtMs'>,
    notBeforeMs: number,
  ): void {
    const fresh = { failures: 0, brief: 0, notBeforeMs, connectedAtMs: undefined }
    this.#entries.set(entry.key, { ...entry, ...fresh })
  }

  #putOff(entry: Entry, now: number, times: number, longestMs: number): void {
    const delay = Math.min(longestMs, FIRST_RETRY_MS * 2 ** (times - 1))
    entry.notBeforeMs = now + delay * (0.5 + this.#random.next() / 2)
  }

  #of(peer: PeerId): readonly Entry[] {
    return [...this.#entries.values()].filter((entry) => entry.peer === peer)
  }

  /** Forgets a host that others told of: the one that fails most, or any that is not connected. */
  #makeRoom(): boolean {
    const spare = [...this.#entries.values()].filter(
      (entry) => entry.provenance === 'told' && entry.connectedAtMs === undefined,
    )
    const failing = spare.filter(({ failures }) => failures > 0).toSorted((a, b) => b.failures - a.failures)
    const gone = failing[0] ?? spare[Math.floor(this.#random.next() * spare.length)]
    return gone !== undefined && this.#entries.delete(gone.key)
  }
}
