// The command line of the benchmark: what to measure, how often, how large, where. Parses; does nothing.
import { parseArgs } from 'node:util'
import { MIB } from './case.ts'

export interface Options {
  readonly only: readonly string[]
  readonly runs: number
  readonly sizeBytes: number
  readonly smoke: boolean
  readonly json: boolean
  readonly disk: string | undefined
  /** Empty: all. */
  readonly rivals: readonly string[]
  readonly env: Readonly<Record<string, string>>
}

const SIZE_MB = 1024
const SMOKE_SIZE_MB = 64
const RUNS = 5
const SMOKE_RUNS = 2

export const USAGE = `npm run bench -- [options]
  --only CASE,CASE      these cases (default: all)
  --rivals NAME,NAME    beside these only, and leave test/bench/results.md alone (default: all; none: --rivals none)
  --runs N              of each, in turn (default ${RUNS})
  --size-mb N           MiB of the file (default ${SIZE_MB})
  --disk FOLDER         measure there too, besides the RAM disk
  --env NAME=VALUE      a setting of our agents, again for each
  --json                results as JSON on standard output
  --smoke               small and quick; fails where ours is 3 times worse than it was`

/** @throws Error with a sentence for a person */
export function optionsOf(args: readonly string[], known: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      only: { type: 'string', default: '' },
      rivals: { type: 'string', default: '' },
      runs: { type: 'string' },
      'size-mb': { type: 'string' },
      disk: { type: 'string' },
      env: { type: 'string', multiple: true, default: [] },
      json: { type: 'boolean', default: false },
      smoke: { type: 'boolean', default: false },
    },
  })
  const only = listed(values.only)
  const unknown = only.filter((name) => !known.includes(name))
  if (unknown.length > 0) throw new Error(`no case ${unknown.join(', ')}; there are ${known.join(', ')}`)
  const { smoke, json, disk } = values
  return {
    only,
    rivals: listed(values.rivals),
    runs: countOf('runs', values.runs, smoke ? SMOKE_RUNS : RUNS),
    sizeBytes: countOf('size-mb', values['size-mb'], smoke ? SMOKE_SIZE_MB : SIZE_MB) * MIB,
    smoke,
    json,
    disk,
    env: Object.fromEntries(values.env.map(settingOf)),
  }
}

function listed(text: string): readonly string[] {
  return text.split(',').filter((name) => name !== '')
}

function countOf(name: string, text: string | undefined, otherwise: number): number {
  const count = text === undefined ? otherwise : Number(text)
  if (!Number.isInteger(count) || count < 1) throw new Error(`--${name} wants a whole number, not ${text}`)
  return count
}

function settingOf(text: string): readonly [string, string] {
  const at = text.indexOf('=')
  if (at < 1) throw new Error(`--env wants NAME=VALUE, not ${text}`)
  return [text.slice(0, at), text.slice(at + 1)]
}
