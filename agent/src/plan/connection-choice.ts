// PURE. Which hosts of a mesh to be connected with. In a small mesh all; in a large one about fifty, chosen by a weight that
// both of a pair work out alike, half of them near if labels tell who is. The rest of the places is left to hosts that come:
// a full host lets them in for a moment and ends connections that both ends value least. Dials and closes nothing itself.
import type { PeerId } from '@shoal/protocol/ids.ts'
import { shareSeed, shareWeight } from './origin-share.ts'

/** Connections that a host makes itself, as long as it has fewer. */
export const CHOSEN_CONNECTIONS = 48
/** Near ones that it wants among them; for lack of these it makes so many more. */
export const NEAR_CONNECTIONS = 24
/** Connections that a host keeps, made by either end. */
export const KEPT_CONNECTIONS = 128
/** More that it lets in for a moment, so that nobody finds only closed doors. */
export const VISITOR_CONNECTIONS = 64
/** Time enough to be admitted and told whom this host knows. */
export const VISIT_MS = 5_000

/** A host that is known and not connected. */
export interface KnownHost {
  /** Undefined: an operator's address whose host is not known yet. */
  readonly peer: string | undefined
  /** By the operator. */
  readonly isGiven: boolean
  /** Dials in a row that failed. */
  readonly failures: number
}

/** Peers there are, those being dialled included. */
export interface PeerCounts {
  readonly all: number
  readonly near: number
}

export interface OpenConnection {
  readonly peer: PeerId
  readonly isGiven: boolean
  readonly isInbound: boolean
  readonly isNear: boolean
  /** Chunks may be on their way. */
  readonly isInUse: boolean
  readonly ageMs: number
}

/** How much two hosts want to be connected: the same for both, uniform in 32 bits. */
export function pairWeight(one: string, other: string): number {
  return weightOf(seedOf(one), seedOf(other))
}

/** Whom to dial of those that wait for it, best first. The operator's always, while this host is not full. */
export function chooseDials<T extends KnownHost>(
  self: string,
  waiting: readonly T[],
  counts: PeerCounts,
  isNear: (peer: string) => boolean,
): T[] {
  const nearRoom = Math.min(
    NEAR_CONNECTIONS - counts.near,
    CHOSEN_CONNECTIONS + NEAR_CONNECTIONS - counts.all,
  )
  const room = CHOSEN_CONNECTIONS - counts.all
  const given = waiting.filter(({ isGiven }) => isGiven).slice(0, Math.max(0, KEPT_CONNECTIONS - counts.all))
  if (nearRoom <= 0 && room <= 0) return given.toSorted((a, b) => a.failures - b.failures)
  const own = seedOf(self)
  const others = waiting
    .filter(({ isGiven }) => !isGiven)
    .map((host) => ({
      host,
      weight: host.peer === undefined ? 0 : weightOf(own, seedOf(host.peer)),
      near: host.peer !== undefined && isNear(host.peer),
    }))
    .toSorted((a, b) => a.host.failures - b.host.failures || b.weight - a.weight)
  const near = others.filter((other) => other.near).slice(0, Math.max(0, nearRoom))
  const any = others.filter((other) => !near.includes(other)).slice(0, Math.max(0, room - near.length))
  return [...given, ...[...near, ...any].map(({ host }) => host)].toSorted((a, b) => rank(a) - rank(b))
}

/** Whose connections to end because there are more than this host keeps. Never the operator's, nor those it made itself. */
export function chooseCloses(self: string, open: readonly OpenConnection[]): readonly PeerId[] {
  const surplus = open.length - KEPT_CONNECTIONS
  if (surplus <= 0) return []
  return open
    .filter(({ isGiven, isInbound, ageMs }) => isInbound && !isGiven && ageMs >= VISIT_MS)
    .map((connection) => ({ ...connection, weight: pairWeight(self, connection.peer) }))
    .toSorted(
      (a, b) =>
        Number(a.isInUse) - Number(b.isInUse) || Number(a.isNear) - Number(b.isNear) || a.weight - b.weight,
    )
    .slice(0, surplus)
    .map(({ peer }) => peer)
}

function seedOf(peer: string): number {
  return shareSeed('mesh', peer).seed
}

function weightOf(a: number, b: number): number {
  return shareWeight(Math.min(a, b), Math.max(a, b) >>> 1)
}

/** Hosts that answer come before those that fail, the operator's before others. */
function rank(host: KnownHost): number {
  return host.failures + (host.isGiven ? 0 : 0.5)
}
