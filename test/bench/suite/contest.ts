// What a case of the benchmark is: contests between ours and rivals, each run in fresh processes, in turn, and what the runs say:
// medians, and how many times better ours is. Pure but for `runContest`; knows no program by name.

import { ShoalError } from '@shoal/protocol/errors.ts'
import { deadline, systemClock } from '@shoal/protocol/time.ts'
import { openScope, type Scope } from './scope.ts'

/** What one run measured, by the name of the figure. A figure that a contestant cannot tell is left out. */
export type Sample = Readonly<Record<string, number>>

export interface Contestant {
  readonly name: string
  readonly ours?: boolean
  /** How it proves and hides bytes: a figure means little without. */
  readonly does?: string
  /** Why it cannot run here; undefined when it can. */
  missing?(): Promise<string | undefined>
  run(scope: Scope): Promise<Sample>
}

export interface Figure {
  readonly name: string
  readonly better: 'more' | 'less'
  readonly digits?: number
}

export interface Contest {
  /** Stable: reference ratios are kept under it. */
  readonly id: string
  readonly title: string
  /** The first is the one that ratios are made of. */
  readonly figures: readonly Figure[]
  readonly contestants: readonly Contestant[]
  readonly notes?: readonly string[]
}

export interface Row {
  readonly name: string
  readonly ours: boolean
  readonly does: string
  /** How many times better ours is in the first figure; undefined for ours, and without both medians. */
  readonly ratio: number | undefined
  readonly medians: Sample
  /** Of the first figure, every run. */
  readonly values: readonly number[]
  /** Runs that ended with an error. */
  readonly failed: readonly string[]
}

export interface Result {
  readonly id: string
  readonly title: string
  readonly figures: readonly Figure[]
  readonly notes: readonly string[]
  readonly runs: number
  readonly rows: readonly Row[]
  readonly missing: readonly { readonly name: string; readonly because: string }[]
}

const RUN_TIMEOUT_MS = 8 * 60_000

/**
 * Every contestant once, then every contestant again: what else the machine does meets all of them alike.
 * @param say a line of progress
 */
export async function runContest(
  contest: Contest,
  runs: number,
  say: (line: string) => void,
): Promise<Result> {
  const missing: { name: string; because: string }[] = []
  const able: Contestant[] = []
  for (const one of contest.contestants) {
    const because = await one.missing?.()
    if (because === undefined) able.push(one)
    else {
      missing.push({ name: one.name, because })
      say(`MISSING: ${one.name}: ${because}`)
    }
  }
  const samples = new Map<Contestant, Sample[]>(able.map((one) => [one, []]))
  const failed = new Map<Contestant, string[]>(able.map((one) => [one, []]))
  for (let run = 1; run <= runs; run++)
    for (const one of able) {
      try {
        const sample = await runOnce(one)
        samples.get(one)?.push(sample)
        say(`${contest.id}, run ${run} of ${runs}: ${one.name.padEnd(28)} ${inWords(contest, sample)}`)
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error)
        failed.get(one)?.push(message)
        say(`FAILED: ${contest.id}, run ${run}: ${one.name}: ${message}`)
      }
    }
  const { id, title, figures, notes = [] } = contest
  const given = able.map((one) => ({
    contestant: one,
    samples: samples.get(one) ?? [],
    failed: failed.get(one) ?? [],
  }))
  return { id, title, figures, notes, runs, missing, rows: rowsOf(figures, given) }
}

async function runOnce(contestant: Contestant): Promise<Sample> {
  await using scope = openScope()
  const tooLong = () => new ShoalError('aborted', `not done in ${RUN_TIMEOUT_MS / 60_000} minutes`)
  using limit = deadline(systemClock, RUN_TIMEOUT_MS, tooLong)
  const over = new Promise<never>((_, reject) => {
    limit.signal.addEventListener('abort', () => reject(limit.signal.reason), { once: true })
  })
  return await Promise.race([contestant.run(scope), over])
}

export interface Measured {
  readonly contestant: Pick<Contestant, 'name' | 'ours' | 'does'>
  readonly samples: readonly Sample[]
  readonly failed: readonly string[]
}

/** One row each; ratios are of medians, to the first contestant that is ours. */
export function rowsOf(figures: readonly Figure[], measured: readonly Measured[]): readonly Row[] {
  const [first] = figures
  if (first === undefined) throw new Error('a contest without a figure')
  const valuesOf = (samples: readonly Sample[], name: string) =>
    samples.flatMap((sample) => sample[name] ?? [])
  const own = measured.find(({ contestant }) => contestant.ours === true)
  const ours = own === undefined ? undefined : median(valuesOf(own.samples, first.name))
  return measured.map(({ contestant, samples, failed }) => {
    const medians: Record<string, number> = {}
    for (const { name } of figures) {
      const value = median(valuesOf(samples, name))
      if (value !== undefined) medians[name] = value
    }
    const theirs = medians[first.name]
    return {
      name: contestant.name,
      ours: contestant.ours === true,
      does: contestant.does ?? '',
      ratio: contestant.ours === true ? undefined : timesBetter(first, ours, theirs),
      medians,
      values: valuesOf(samples, first.name),
      failed,
    }
  })
}

/** More than 1: ours is the better one. */
export function timesBetter(
  { better }: Figure,
  ours: number | undefined,
  theirs: number | undefined,
): number | undefined {
  if (ours === undefined || theirs === undefined) return undefined
  const ratio = better === 'more' ? ours / theirs : theirs / ours
  return Number.isFinite(ratio) ? ratio : undefined
}

/** Of an even count the mean of the middle two; undefined of none. */
export function median(values: readonly number[]): number | undefined {
  const sorted = values.toSorted((a, b) => a - b)
  const upper = sorted[Math.floor(sorted.length / 2)]
  const lower = sorted[Math.floor((sorted.length - 1) / 2)]
  return upper === undefined || lower === undefined ? undefined : (upper + lower) / 2
}

/** The value that a share `part` (0 to 1) of them does not exceed; `sorted` in rising order. */
export function percentile(sorted: readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * part) - 1)] ?? Number.NaN
}

function inWords({ figures }: Contest, sample: Sample): string {
  return figures
    .flatMap((figure) => {
      const value = sample[figure.name]
      return value === undefined ? [] : [`${figure.name} ${shown(figure, value)}`]
    })
    .join(', ')
}

export function shown({ digits }: Figure, value: number | undefined): string {
  if (value === undefined) return ''
  return digits === undefined ? Math.round(value).toLocaleString('en') : value.toFixed(digits)
}
