// Keeps agents whose upstreams are agents from asking each other in a circle. Every request to an origin names the agent
// that sends it and the agents that asked that agent of late; an agent that finds itself named refuses.
import type { Clock } from '@shoal/protocol/time.ts'

/** Carried by every request to an origin. The HTTP side hands its value to {@link LoopGuard.admits}. */
export const LOOP_HEADER = 'x-shoal-via'

const REMEMBERED_MS = 10 * 60_000
const MAX_REMEMBERED = 16
const AGENT_ID = /^[A-Za-z0-9._:-]{1,128}$/

export interface LoopGuard {
  /** Value of {@link LOOP_HEADER} on our own requests. */
  outgoing(): string
  /**
   * False when a request with this header value came from ourselves, directly or through others: answer 508. Remembers who
   * asks, so that a circle of several agents is seen on its second arc.
   */
  admits(headerValue: string | undefined): boolean
}

/** @param selfId names this agent among all: its peer id, or random text made at start */
export function createLoopGuard(selfId: string, clock: Clock): LoopGuard {
  if (!AGENT_ID.test(selfId)) throw new Error(`not an agent id: ${JSON.stringify(selfId)}`)
  const askers = new Map<string, number>()
  return {
    outgoing() {
      const now = clock.now()
      for (const [id, until] of askers) if (until <= now) askers.delete(id)
      return [selfId, ...askers.keys()].join(', ')
    },
    admits(headerValue) {
      if (headerValue === undefined) return true
      const ids = headerValue
        .slice(0, 4096)
        .split(',')
        .map((id) => id.trim())
        .filter((id) => AGENT_ID.test(id))
      if (ids.includes(selfId)) return false
      for (const id of ids.slice(0, MAX_REMEMBERED)) {
        askers.delete(id)
        askers.set(id, clock.now() + REMEMBERED_MS)
      }
      for (const id of askers.keys()) {
        if (askers.size <= MAX_REMEMBERED) break
        askers.delete(id)
      }
      return true
    },
  }
}
