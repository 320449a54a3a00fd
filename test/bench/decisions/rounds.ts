// Runs the variants of a measurement, each in a fresh process, in rounds whose order is turned around each time; prints the
// best value (what else ran on the machine only makes a value worse), its ratio to the first variant's, and all values.
import { fork } from 'node:child_process'
import { once } from 'node:events'

/**
 * @param file the script itself: started again with `VARIANT` set, it sends one number to its parent
 * @param unit of that number
 * @param best whether more or less of it is better
 */
export async function compareInRounds(
  file: string,
  variants: readonly string[],
  unit: string,
  best: 'most' | 'least' = 'most',
  rounds = Number(process.argv[2] ?? 5),
): Promise<void> {
  const values = new Map<string, number[]>(variants.map((variant) => [variant, []]))
  for (let round = 0; round < rounds; round++) {
    for (const variant of round % 2 === 0 ? variants : variants.toReversed())
      values.get(variant)?.push(await measureFresh(file, variant))
  }
  const bestOf = (seen: readonly number[]) => (best === 'most' ? Math.max(...seen) : Math.min(...seen))
  const first = bestOf(values.get(variants[0] ?? '') ?? [])
  console.log(`Node.js ${process.version}, ${rounds} rounds, ${unit}`)
  for (const [variant, seen] of values) {
    const value = bestOf(seen)
    const all = seen.map((one) => one.toFixed(0)).join(' ')
    console.log(
      `${variant.padEnd(34)} ${value.toFixed(0).padStart(7)}  x${(value / first).toFixed(2)}  (${all})`,
    )
  }
}

/** One number from one fresh process of the script. */
export async function measureFresh(file: string, variant: string): Promise<number> {
  const child = fork(file, [], { env: { ...process.env, VARIANT: variant } })
  const ended = once(child, 'exit')
  const [value] = await Promise.race([once(child, 'message'), ended.then(() => [undefined])])
  if (typeof value !== 'number') throw new Error(`${variant} ended without a result`)
  await ended
  return value
}
