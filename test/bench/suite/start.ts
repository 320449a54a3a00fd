// Case `start`: seconds from the start of the process to ready, and memory then, with a million chunks on record; beside it the same
// agent with nothing on record.
import { join } from 'node:path'
import { type BenchCase, type Given, MB } from './case.ts'
import { type StoreShape, seedChunkStore } from './chunk-store.ts'
import type { Contest, Contestant, Figure, Sample } from './contest.ts'
import { type AgentSpec, benchAgent, benchHub, stopWell } from './ours.ts'
import { runFolder } from './places.ts'
import { peakBytes, treeSeconds } from './processes.ts'
import type { Scope } from './scope.ts'

const FIGURES: readonly Figure[] = [
  { name: 'ready after, s', better: 'less', digits: 2 },
  { name: 'RSS when ready, MB', better: 'less' },
  { name: 'peak RSS, MB', better: 'less' },
  { name: 'CPU s', better: 'less', digits: 2 },
]
const CHUNKS = 1_000_000
const SMOKE_CHUNKS = 50_000

interface Variant {
  readonly id: string
  readonly shape: StoreShape
  readonly about: string
}

/** What takes time at a start differs: records of chunks, files, journals of what is still arriving. */
const VARIANTS: readonly Variant[] = [
  {
    id: 'start',
    shape: { chunks: CHUNKS, chunksOfFile: 1250, partialEvery: 40 },
    about: 'files of 5 GB, one in 40 still arriving',
  },
  {
    id: 'start arriving',
    shape: { chunks: CHUNKS, chunksOfFile: 1250, partialEvery: 1 },
    about: 'files of 5 GB, every one still arriving',
  },
  {
    id: 'start small',
    shape: { chunks: CHUNKS, chunksOfFile: 50, partialEvery: 400 },
    about: 'files of 0.2 GB, one in 400 still arriving',
  },
]

export const startCase: BenchCase = {
  name: 'start',
  about: 'start-up with chunks on record',
  smoke: true,
  async prepare(given) {
    const { scope, place, smoke, env } = given
    const hub = await benchHub({ ...given, sizeBytes: MB })
    const empty = await runFolder(scope, place)
    await settle(scope, { hub: hub.url, folder: empty, env })
    const contests: Contest[] = []
    for (const { id, shape, about } of smoke ? VARIANTS.slice(0, 1) : VARIANTS) {
      const full = await runFolder(scope, place)
      const chunks = smoke ? SMOKE_CHUNKS : shape.chunks
      const seeded = await seedChunkStore(join(full, 'store'), { ...shape, chunks })
      await settle(scope, { hub: hub.url, folder: full, env })
      const on = (name: string, folder: string, ours: boolean): Contestant => ({
        name,
        ours,
        run: (own) => started(own, given, hub.url, folder),
      })
      contests.push({
        id: smoke ? `${id}-smoke` : id,
        title: `${seeded.chunks.toLocaleString('en')} chunks of ${seeded.files.toLocaleString('en')} files in ${seeded.repos.toLocaleString('en')} repos: ${about}; ${place.name}`,
        figures: FIGURES,
        contestants: [on('shoal', full, true), on('shoal-with-nothing', empty, false)],
        notes: ['Files are sparse, chunks of 4 MiB. Journals are believed: the machine has not restarted.'],
      })
    }
    return contests
  },
}

/** A start before the first measured one: it writes what only an agent writes, its key and the index. */
async function settle(scope: Scope, spec: AgentSpec): Promise<void> {
  await stopWell(await benchAgent(scope, spec))
}

async function started(scope: Scope, { env }: Given, hub: string, folder: string): Promise<Sample> {
  const agent = await benchAgent(scope, { hub, folder, env })
  const sample = {
    'ready after, s': agent.readyAfterMs / 1000,
    'RSS when ready, MB': (await agent.rss()) / MB,
    'peak RSS, MB': (await peakBytes(agent.pid)) / MB,
    'CPU s': await treeSeconds(agent.pid),
  }
  await stopWell(agent)
  return sample
}
