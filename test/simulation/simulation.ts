// Runs one scenario: builds its world, lets it run, measures, and compares with the scenario's limits. No output, no process.
import { DEFAULT_CHUNK_BYTES } from '@shoal/protocol/chunks.ts'
import type { Limit, Result } from './results.ts'
import { resultOf } from './results.ts'
import { SCENARIOS, type Setting } from './scenarios.ts'
import { World, type WorldOptions } from './world.ts'

const BYTES_PER_MEGABIT = 125_000
/** A run is given up after so many times the bound, and at least so long. */
const GIVE_UP_RATIO = 8
const GIVE_UP_MS = 300_000
const SAMPLES = 240

export interface Order {
  readonly scenario: string
  readonly seed: number
  readonly hosts?: number
  readonly chunks?: number
  readonly rateMbit?: number
  readonly chunkBytes?: number
  readonly options?: Partial<WorldOptions>
}

/** What was held, and what the origin had given, at one time; in chunks. */
export interface Sample {
  readonly atSeconds: number
  readonly slowest: number
  readonly median: number
  readonly fastest: number
  readonly origin: number
}

export interface Outcome {
  readonly result: Result
  readonly limits: readonly Limit[]
  readonly isWithin: boolean
  readonly samples: readonly Sample[]
  readonly world: World
}

/** Chunks that say enough at acceptable cost: fewer the more hosts there are. */
export function usualChunks(hosts: number): number {
  if (hosts <= 100) return 2_000
  return hosts <= 2_600 ? 500 : 200
}

/** @throws RangeError for a scenario that there is not */
export function simulate(order: Order): Outcome {
  const scenario = Object.hasOwn(SCENARIOS, order.scenario) ? SCENARIOS[order.scenario] : undefined
  if (scenario === undefined)
    throw new RangeError(`no scenario "${order.scenario}"; there are ${Object.keys(SCENARIOS).join(', ')}`)
  const hosts = order.hosts ?? scenario.hosts
  const setting: Setting = {
    hosts,
    chunks: order.chunks ?? usualChunks(hosts),
    bytesPerSecond: (order.rateMbit ?? 100) * BYTES_PER_MEGABIT,
    chunkBytes: order.chunkBytes ?? DEFAULT_CHUNK_BYTES,
  }
  const originBytesPerSecond = setting.bytesPerSecond / (scenario.originSlowness ?? 1)
  const world = new World({
    seed: order.seed,
    chunks: setting.chunks,
    chunkBytes: setting.chunkBytes,
    originBytesPerSecond,
    originDelayMs: 30,
    delayMs: [0.3, 1.5],
    gossipDelayMs: [20, 200],
    originFetchers: 4,
    originDepth: 6,
    totalDepth: 5,
    connections: 48,
    ...scenario.options?.(setting),
    ...order.options,
  })
  const rates = { upBytesPerSecond: setting.bytesPerSecond, downBytesPerSecond: setting.bytesPerSecond }
  for (let number = 0; number < hosts; number++) world.addHost(rates)
  world.connect()
  const staged = scenario.stage?.(world, setting) ?? {}
  const sourceBytesPerSecond = staged.sourceBytesPerSecond ?? originBytesPerSecond
  const idealMs =
    (setting.chunks * setting.chunkBytes * 1_000) / Math.min(sourceBytesPerSecond, setting.bytesPerSecond)
  const samples: Sample[] = []
  const stepMs = (1.5 * idealMs) / SAMPLES
  const limitMs = GIVE_UP_RATIO * idealMs + GIVE_UP_MS
  for (let at = stepMs; !world.run(at) && at < limitMs; at += stepMs) samples.push(sampleOf(world))
  samples.push(sampleOf(world))
  const result = resultOf({
    scenario: order.scenario,
    world,
    counted: staged.counted?.() ?? world.hosts,
    sourceBytesPerSecond,
    ...rates,
  })
  const limits = [...scenario.limits(result), ...(staged.extra?.() ?? [])]
  return { result, limits, isWithin: limits.every(isKept), samples, world }
}

export function isKept({ measured, most }: Limit): boolean {
  return measured <= most
}

function sampleOf(world: World): Sample {
  const held = world.hosts
    .filter(({ left, behaviour }) => !left && behaviour !== 'dead')
    .map((host) => host.held.held)
    .toSorted((a, b) => a - b)
  return {
    atSeconds: world.now / 1_000,
    slowest: held[0] ?? 0,
    median: held[held.length >> 1] ?? 0,
    fastest: held.at(-1) ?? 0,
    origin: world.originBytes / world.options.chunkBytes,
  }
}
