// PURE. Who of a site asks the origin about one thing. Every subject has a keeper among the hosts, found by rendezvous hashing without a
// message; the keeper gives one host the turn to ask, lets the others wait for what it finds, and gives the turn on when it fails. Holds
// no timer: told `now`. Bounded, as strangers name the subjects.
import { shareSeed } from './origin-share.ts'

/** Who has the turn and says nothing for so long has lost it. */
export const TURN_MS = 5_000
/** Subjects remembered by one keeper; the oldest go first. */
export const MAX_SUBJECTS = 1_024
/** A found value is handed out for no longer. */
export const MAX_VALUE_LIFE_MS = 60 * 60_000

/** For a host that let so many turns in a row run out nobody waits any more, until it says what it found. */
export const MAX_LAPSES = 3
const MAX_HOSTS = 1_024

export interface FoundValue {
  readonly value: string
  /** Names the value. */
  readonly digest: string
  readonly lifeMs: number
}

export type TurnVerdict =
  | { readonly turn: 'yours' }
  | { readonly turn: 'told'; readonly value: string; readonly lifeMs: number; readonly from: string }
  /** Somebody else is asking, until `until` at the latest. */
  | { readonly turn: 'wait'; readonly until: number }

interface Subject {
  holder: string | undefined
  isWaitedFor: boolean
  until: number
  /** The one who had the turn got nothing: whoever wants may try. */
  failedAt: number
  found:
    | { readonly value: string; readonly digest: string; readonly until: number; readonly from: string }
    | undefined
}

export class TurnTable {
  readonly #subjects = new Map<string, Subject>()
  readonly #lapses = new Map<string, number>()

  get size(): number {
    return this.#subjects.size
  }

  /** @param useless digest of a value that did not serve `host` */
  want(subject: string, host: string, useless: string | undefined, now: number): TurnVerdict {
    const known = this.#subject(subject)
    const { found } = known
    if (found !== undefined && found.until > now && found.digest !== useless)
      return { turn: 'told', value: found.value, lifeMs: Math.floor(found.until - now), from: found.from }
    if (known.holder !== undefined && known.holder !== host && known.until > now)
      return { turn: 'wait', until: known.until }
    if (known.holder !== undefined && known.holder !== host && known.isWaitedFor) this.#lapsed(known.holder)
    known.holder = host
    // After a failure nobody waits for the next: one after the other would keep the last waiting for long.
    known.isWaitedFor = now - known.failedAt >= TURN_MS && (this.#lapses.get(host) ?? 0) < MAX_LAPSES
    known.until = known.isWaitedFor ? now + TURN_MS : now
    return { turn: 'yours' }
  }

  /** Only whose turn it is, or was last, may say. @returns whether it was taken in */
  told(subject: string, host: string, found: FoundValue, now: number): boolean {
    const known = this.#subjects.get(subject)
    if (known?.holder !== host) return false
    this.#lapses.delete(host)
    known.found = {
      value: found.value,
      digest: found.digest,
      until: now + Math.min(found.lifeMs, MAX_VALUE_LIFE_MS),
      from: host,
    }
    known.holder = undefined
    return true
  }

  failed(subject: string, host: string, now: number): void {
    const known = this.#subjects.get(subject)
    if (known?.holder !== host) return
    known.holder = undefined
    known.failedAt = now
  }

  /** Turns of a host that left are free. @returns their subjects */
  gone(host: string): readonly string[] {
    const freed: string[] = []
    for (const [subject, known] of this.#subjects) {
      if (known.holder !== host) continue
      known.holder = undefined
      freed.push(subject)
    }
    return freed
  }

  #lapsed(host: string): void {
    const count = (this.#lapses.get(host) ?? 0) + 1
    this.#lapses.delete(host)
    this.#lapses.set(host, count)
    for (const oldest of this.#lapses.keys()) {
      if (this.#lapses.size <= MAX_HOSTS) break
      this.#lapses.delete(oldest)
    }
  }

  #subject(subject: string): Subject {
    const known = this.#subjects.get(subject) ?? {
      holder: undefined,
      isWaitedFor: false,
      until: 0,
      failedAt: Number.NEGATIVE_INFINITY,
      found: undefined,
    }
    this.#subjects.delete(subject)
    this.#subjects.set(subject, known)
    for (const oldest of this.#subjects.keys()) {
      if (this.#subjects.size <= MAX_SUBJECTS) break
      this.#subjects.delete(oldest)
    }
    return known
  }
}

/** The hosts in the order in which they keep `key`: every host works out the same. Ties by name. */
export function keepersOf(key: string, hosts: Iterable<string>): readonly string[] {
  return [...hosts]
    .map((host) => shareSeed(key, host))
    .toSorted((a, b) => b.seed - a.seed || (a.host < b.host ? -1 : 1))
    .map(({ host }) => host)
}
