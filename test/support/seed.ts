// Seeds of random tests: SEED= replays one run, and every test prints what it used.
import type { TestContext } from 'node:test'

/** `count` seeds, the first ones the same in every run; only the given one when SEED is set. Printed as a diagnostic. */
export function seeds(context: Pick<TestContext, 'diagnostic'>, count: number): number[] {
  const given = Number(process.env.SEED)
  const chosen = process.env.SEED === undefined ? Array.from({ length: count }, (_, at) => at + 1) : [given]
  const [first, last] = [chosen[0], chosen.at(-1)]
  context.diagnostic(`seeds ${first === last ? first : `${first} to ${last}`} (replay one with SEED=)`)
  return chosen
}
