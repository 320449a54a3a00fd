// PURE. When a host next tells the others of its site what the origin told it: at once when it matters, otherwise rarely, and more rarely
// the more hosts have to hear it.

/** Two tells are never closer. */
export const SOONEST_TELL_MS = 1_000
const USUAL_TELL_MS = 30_000
const TELL_SPREAD_MS_PER_PEER = 250

/** Milliseconds from `now` to the next tell; `lastAt` is when this host last told, or long ago. */
export function tellDelayMs(urgent: boolean, lastAt: number, peers: number, now: number): number {
  const apart = urgent ? SOONEST_TELL_MS : USUAL_TELL_MS + TELL_SPREAD_MS_PER_PEER * peers
  return Math.max(0, lastAt + apart - now)
}
