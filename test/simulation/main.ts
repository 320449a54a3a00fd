// `npm run simulate`: runs one scenario, prints a table or JSON, writes a chart. The process edge: what is simulated is in simulation.ts.
// Ends with 0 when all limits are kept, 1 when one is not, 2 when it was not told right what to do.
import { writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { systemClock } from '@shoal/protocol/time.ts'
import { chart } from './chart.ts'
import { SCENARIOS } from './scenarios.ts'
import { isKept, type Order, type Outcome, simulate } from './simulation.ts'

const USAGE = `npm run simulate -- --scenario NAME [--hosts N] [--chunks M] [--rate-mbit R] [--chunk-kib K] [--seed S] [--json] [--svg FILE]
scenarios:
${Object.entries(SCENARIOS)
  .map(([name, { says }]) => `  ${name.padEnd(20)} ${says}`)
  .join('\n')}`

interface Told {
  readonly order: Order
  readonly json: boolean
  readonly svg: string
}

process.exitCode = await main()

async function main(): Promise<number> {
  let told: Told | undefined
  try {
    told = read(process.argv.slice(2))
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`)
    return 2
  }
  if (told === undefined) {
    console.log(USAGE)
    return 0
  }
  const startedAt = systemClock.now()
  const cpuBefore = process.cpuUsage()
  const outcome = simulate(told.order)
  const wallSeconds = (systemClock.now() - startedAt) / 1_000
  const { user, system } = process.cpuUsage(cpuBefore)
  const cpuSeconds = (user + system) / 1e6
  await writeFile(told.svg, chart(outcome))
  if (told.json) {
    const { result, limits, isWithin } = outcome
    console.log(
      JSON.stringify({ ...result, wallSeconds, cpuSeconds, limits, passed: isWithin, svg: told.svg }),
    )
  } else {
    console.log(table(outcome))
    console.log(
      `took ${wallSeconds.toFixed(1)} s (${cpuSeconds.toFixed(1)} s of processor time); chart: ${told.svg}`,
    )
  }
  return outcome.isWithin ? 0 : 1
}

/** @returns undefined when only help was asked for @throws Error with what is wrong */
function read(words: string[]): Told | undefined {
  const { values } = parseArgs({
    args: words,
    options: {
      scenario: { type: 'string', default: 'flash-crowd' },
      hosts: { type: 'string' },
      chunks: { type: 'string' },
      'rate-mbit': { type: 'string' },
      'chunk-kib': { type: 'string' },
      seed: { type: 'string', default: '1' },
      json: { type: 'boolean', default: false },
      svg: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return undefined
  if (!Object.hasOwn(SCENARIOS, values.scenario))
    throw new Error(`no scenario "${values.scenario}"; there are ${Object.keys(SCENARIOS).join(', ')}`)
  const chunkKib = whole('chunk-kib', values['chunk-kib'], 1, 8_192)
  const order: Order = {
    scenario: values.scenario,
    seed: whole('seed', values.seed, 0, 2 ** 32 - 1) ?? 1,
    ...given('hosts', whole('hosts', values.hosts, 1, 20_000)),
    ...given('chunks', whole('chunks', values.chunks, 1, 100_000)),
    ...given('rateMbit', whole('rate-mbit', values['rate-mbit'], 1, 1_000_000)),
    ...given('chunkBytes', chunkKib === undefined ? undefined : chunkKib * 1_024),
  }
  return { order, json: values.json, svg: values.svg ?? join(tmpdir(), 'shoal-simulation.svg') }
}

function given<K extends string>(name: K, value: number | undefined): { readonly [key in K]?: number } {
  return value === undefined ? {} : ({ [name]: value } as { readonly [key in K]?: number })
}

function whole(name: string, text: string | undefined, least: number, most: number): number | undefined {
  if (text === undefined) return undefined
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (!(value >= least && value <= most))
    throw new Error(`--${name} must be a whole number from ${least} to ${most}, not "${text}"`)
  return value
}

function table({ result, limits, isWithin }: Outcome): string {
  const rows: readonly (readonly [string, string])[] = [
    ['scenario', `${result.scenario}: ${SCENARIOS[result.scenario]?.says ?? ''}`],
    ['hosts, chunks, seed', `${result.hosts}, ${result.chunks}, ${result.seed}`],
    ['last host done after', `${result.seconds.toFixed(1)} s`],
    [
      'lower bound',
      `${result.boundSeconds.toFixed(1)} s = max(F/u_s, F/d, N*F/(u_s+N*u), (M + floor(log2 N)) chunk-times)`,
    ],
    [
      'last, p99, median / bound',
      [result.ratio, result.p99, result.p50].map((one) => one.toFixed(3)).join(', '),
    ],
    ['amplification', result.amplification.toFixed(4)],
    ['duplicate bytes', `${(100 * result.duplicates).toFixed(3)} %`],
    ['busiest uploader / mean', result.uploaderMaxOverMean.toFixed(2)],
    ['gossip', `${result.gossipBytesPerSecondPerHost.toFixed(0)} B/s a host`],
    [
      'requests, decisions',
      `${result.requestsPerChunk.toFixed(2)}, ${result.decisionsPerChunk.toFixed(2)} a chunk`,
    ],
  ]
  const lines = rows.map(([name, value]) => `${name.padEnd(26)} ${value}`)
  const checks = limits.map((limit) => {
    const numbers = `${Number(limit.measured.toFixed(4))} (at most ${limit.most})`
    return `${isKept(limit) ? 'pass' : 'FAIL'}  ${limit.what}: ${numbers}`
  })
  return [...lines, '', ...checks, isWithin ? 'all limits kept' : 'NOT all limits kept'].join('\n')
}
