// The benchmark: ours beside what else there is, in one go and in fresh processes. Nothing else should run beside it.
// Run: npm run bench -- --help
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { systemClock } from '@shoal/protocol/time.ts'
import type { BenchCase } from './case.ts'
import { coldCase } from './cold.ts'
import { type Result, runContest } from './contest.ts'
import { crowdCase } from './crowd.ts'
import { hashCase, planCase } from './decisions.ts'
import { headCase } from './head.ts'
import { hitCase } from './hit.ts'
import { commit, load, machine, versions } from './machine.ts'
import { memoryCase } from './memory.ts'
import { type Options, optionsOf, USAGE } from './options.ts'
import { pairCase } from './pair.ts'
import { type Place, placesOf, warmMemory } from './places.ts'
import { worseThanReference } from './reference.ts'
import { pageOf, plainTable, type Section } from './report.ts'
import { closeAll, openScope } from './scope.ts'
import { startCase } from './start.ts'

const CASES: readonly BenchCase[] = [
  pairCase,
  hitCase,
  coldCase,
  headCase,
  startCase,
  memoryCase,
  crowdCase,
  hashCase,
  planCase,
]
const PAGE = join(import.meta.dirname, '../results.md')
const USAGE_EXIT = 2

if (process.argv.includes('--help')) console.log(USAGE)
else await main()

async function main(): Promise<void> {
  let options: Options
  try {
    options = optionsOf(
      process.argv.slice(2),
      CASES.map(({ name }) => name),
    )
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n${USAGE}`)
    process.exitCode = USAGE_EXIT
    return
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => closeAll().finally(() => process.exit(1)))
  const sections = await measure(options)
  const results = sections.flatMap((section) => section.results)
  if (options.json) console.log(JSON.stringify({ machine: machine(), commit: commit(), sections }, null, 2))
  else for (const result of results) console.log(`\n${plainTable(result)}`)
  // A table with a part of the rivals does not take the place of one with all.
  if (!options.smoke && options.rivals.length === 0) {
    const before = await readFile(PAGE, 'utf8').catch(() => '')
    await writeFile(PAGE, pageOf(before, sections, machine(), await versions()))
  }
  const worse = options.smoke ? results.flatMap((result) => worseThanReference(result)) : []
  for (const line of worse) console.error(`WORSE: ${line}`)
  process.exitCode = results.some(failedOurs) || worse.length > 0 ? 1 : 0
}

async function measure(options: Options): Promise<readonly Section[]> {
  const { only, smoke, runs } = options
  const chosen = CASES.filter((one) => (only.length > 0 ? only.includes(one.name) : !smoke || one.smoke))
  await using scope = openScope()
  const places = await placesOf(scope, options.disk)
  const sections: Section[] = []
  for (const one of chosen) {
    const loadBefore = load()
    const results: Result[] = []
    for (const place of one.once === true ? places.slice(0, 1) : places)
      results.push(...(await measureCase(one, place, options)))
    const date = new Date(systemClock.wallTime()).toISOString().slice(0, 16).replace('T', ' ')
    const settings = Object.entries(options.env).map(([name, value]) => ` ${name}=${value}`)
    sections.push({
      name: one.name,
      about: one.about,
      stamp: `${date} UTC, commit ${commit()}, ${runs} runs, load of the machine before ${loadBefore}.${settings.join('')}`,
      results,
    })
  }
  return sections
}

async function measureCase(one: BenchCase, place: Place, options: Options): Promise<readonly Result[]> {
  await using scope = openScope()
  const { sizeBytes, smoke, env, rivals } = options
  const wants = (rival: string) => rivals.length === 0 || rivals.includes(rival)
  if (!smoke) await warmMemory(place, 3 * sizeBytes)
  const results: Result[] = []
  for (const contest of await one.prepare({ scope, sizeBytes, place, smoke, env, wants })) {
    const measure = () => runContest(contest, options.runs, (line) => console.error(line))
    let result = await measure()
    // A neighbour on the machine can do that once.
    if (smoke && worseThanReference(result).length > 0) {
      console.error(`${contest.id}: looks worse than it was, measured again`)
      result = await measure()
    }
    results.push(result)
  }
  return results
}

function failedOurs({ rows }: Result): boolean {
  return rows.some(({ ours, failed }) => ours && failed.length > 0)
}
