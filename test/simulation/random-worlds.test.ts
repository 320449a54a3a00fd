// Ten thousand small random worlds: whatever goes wrong, every living host comes to hold all, or there is a reason why it cannot.
// SEED=17 replays one world alone and prints what happens in it; SEEDS=500 runs only the first ones.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { SimHost } from './host.ts'
import { CHUNK_BYTES, type RandomWorld, randomWorld } from './random-worlds.ts'

const DEFAULT_SEEDS = 10_000
/** So long after the last fault everybody must be done: the slowest of these worlds has a minute's work. */
const LIMIT_MS = 20 * 60_000
/** How often hosts that cannot finish are looked for. */
const GLANCE_MS = 5_000

const given = process.env.SEED
const count = Number(process.env.SEEDS ?? DEFAULT_SEEDS)

function isLiving({ left, behaviour }: SimHost): boolean {
  return !left && behaviour !== 'dead'
}

/** Chunks that a living host lacks and that could still reach it. */
function missing(host: SimHost, { world, originIsLost }: RandomWorld): number[] {
  const givers = world.hosts.filter(
    (other) => other !== host && isLiving(other) && other.behaviour !== 'liar',
  )
  return Array.from({ length: world.options.chunks }, (_, index) => index).filter(
    (index) => !host.held.has(index) && (!originIsLost || givers.some((giver) => giver.held.has(index))),
  )
}

/** Runs until every living host has all that it can have. @returns hosts that have not */
function run(random: RandomWorld): SimHost[] {
  const { world, calmAtMs } = random
  const unfinished = () => world.hosts.filter((host) => isLiving(host) && missing(host, random).length > 0)
  for (let until = calmAtMs; until < calmAtMs + LIMIT_MS; until += GLANCE_MS) {
    world.run(until)
    if (
      until >= calmAtMs &&
      world.hosts.every(({ behaviour }) => behaviour !== 'stopped') &&
      unfinished().length === 0
    )
      return []
  }
  return unfinished()
}

/** How often each chunk came from the origin, whole. */
function timesFromOrigin({ world }: RandomWorld): number[] {
  const times = new Array<number>(world.options.chunks).fill(0)
  for (const { originChunks } of world.hosts)
    for (const index of originChunks) times[index] = (times[index] ?? 0) + 1
  return times
}

interface Outcome {
  /** Chunks that came again from the origin. */
  readonly twice: number
  readonly chunks: number
  readonly isCalm: boolean
  readonly about: string
}

function check(seed: number): Outcome {
  const random = randomWorld(seed)
  const { world, faults, sites, slowHosts } = random
  const about = () =>
    [
      `seed ${seed} (replay with SEED=${seed}): ${world.options.chunks} chunks, ${sites} sites`,
      ...faults,
      ...world.hosts.map(
        ({ name, site, behaviour, left, held, originChunks, finishedAt }) =>
          `${name} at site ${site}: ${left ? 'left' : behaviour}, ${held.held} chunks, done ${finishedAt}, from the origin ${originChunks.join()}`,
      ),
    ].join('\n')
  const unfinished = run(random)
  assert.deepEqual(
    unfinished.map((host) => `${host.name} lacks ${missing(host, random).join()}`),
    [],
    about(),
  )
  const times = timesFromOrigin(random)
  // Once for each site; once more for two that began together, for what each fault may have lost or hidden, and for each slow host:
  // others do not wait for ever for what it fetches from the origin, nor for a place in its line.
  const most = Math.min(world.hosts.length, sites + 1 + faults.length + slowHosts)
  assert.ok(
    Math.max(...times) <= most,
    `a chunk came ${Math.max(...times)} times from the origin\n${about()}`,
  )
  for (const { originChunks } of world.hosts)
    assert.equal(new Set(originChunks).size, originChunks.length, `a chunk twice to one host\n${about()}`)
  const twice = times.reduce((sum, each) => sum + Math.max(0, each - 1), 0)
  if (faults.length === 0) {
    const { chunks } = world.options
    const again = slowHosts === 0 ? 1 : 1 + chunks / 2
    assert.ok(
      twice <= again + (sites - 1) * chunks,
      `${twice} chunks came again from the origin though nothing went wrong\n${about()}`,
    )
  }
  assert.ok(
    world.originBytes >= 0 &&
      world.originBytes <= world.hosts.length * world.options.chunks * 2 * CHUNK_BYTES,
  )
  return { twice, chunks: world.options.chunks, isCalm: faults.length === 0, about: about() }
}

test('in small random worlds with churn and faults every living host ends with all it can have', {
  timeout: 290_000,
}, (context) => {
  if (given !== undefined) {
    context.diagnostic(check(Number(given)).about)
    return
  }
  context.diagnostic(`seeds 1 to ${count}`)
  let twice = 0
  let chunks = 0
  let calm = 0
  const failed: string[] = []
  for (let seed = 1; seed <= count; seed++) {
    try {
      const result = check(seed)
      twice += result.twice
      chunks += result.chunks
      if (result.isCalm) calm++
    } catch (error) {
      failed.push(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}`)
      if (failed.length >= 12) break
    }
  }
  context.diagnostic(`nothing went wrong in ${calm} worlds`)
  context.diagnostic(`${((100 * twice) / chunks).toFixed(1)} % of chunks came again from the origin`)
  assert.deepEqual(failed, [], failed.join('\n\n'))
})
