// How far away connected peers are, by the labels they tell in their health reports. Labels are words, not proof: they decide whom to ask
// first, and whose share of the origin counts as ours.
import type { PeerId } from '@shoal/protocol/ids.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import type { Mesh } from './net/mesh.ts'
import type { Distance } from './plan/neighbours.ts'

/** Labels are looked at again after this long. */
const FRESH_MS = 1_000

export interface PlaceLabels {
  readonly site?: string | undefined
  readonly rack?: string | undefined
}

/** Two hosts of which one has no site label count as of one site. */
export function distanceOf(self: PlaceLabels, other: PlaceLabels | undefined): Distance {
  if (self.site !== undefined && other?.site !== undefined && self.site !== other.site) return 2
  return self.rack !== undefined && self.rack === other?.rack ? 0 : 1
}

/** @returns the distance of a connected peer; as of one site for one that has not told its labels */
export function peerDistances(
  mesh: Pick<Mesh, 'peers'>,
  self: PlaceLabels,
  clock: Clock,
): (peer: PeerId) => Distance {
  let known = new Map<PeerId, Distance>()
  let freshUntil = Number.NEGATIVE_INFINITY
  return (peer) => {
    const now = clock.now()
    if (now >= freshUntil) {
      freshUntil = now + FRESH_MS
      known = new Map(mesh.peers().map((status) => [status.peer, distanceOf(self, status.health)]))
    }
    return known.get(peer) ?? distanceOf(self, undefined)
  }
}
