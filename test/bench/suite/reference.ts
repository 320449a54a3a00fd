// What the smoke run is held to: ratios as they were on a quiet machine of two cores. A ratio three times worse is no noise, it is a
// fault of ours. Raise them when ours gets better. Pure.
import type { Result } from './contest.ts'

const TIMES_WORSE = 3

/** Contest and rival to how many times better ours was (below 1: worse). */
export const REFERENCE: Readonly<Record<string, number>> = {
  'pair-smoke, raw-node-tls': 0.2,
  'hit whole-smoke, plain-node-http': 0.8,
  'cold-smoke, straight-from-the-hub': 0.12,
  'get idle-smoke, plain-node-http': 0.9,
  'start-smoke, shoal-with-nothing': 0.95,
  'hash-smoke, SHA-256, node:crypto': 2,
  'plan-smoke, one look at every chunk': 1.5,
}

/** A sentence for each ratio that is three times worse than its reference, and for each that has none. */
export function worseThanReference(
  { id, rows }: Result,
  reference: Readonly<Record<string, number>> = REFERENCE,
): readonly string[] {
  return rows.flatMap(({ name, ours, ratio }) => {
    if (ours) return []
    const known = reference[`${id}, ${name}`]
    if (known === undefined) return [`${id}, ${name}: no reference ratio is recorded`]
    if (ratio === undefined) return [`${id}, ${name}: no ratio was measured`]
    if (ratio * TIMES_WORSE >= known) return []
    return [`${id}, ${name}: ours is ${ratio.toFixed(3)} x, it was ${known} x`]
  })
}
