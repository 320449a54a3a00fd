// Case `start`: seconds from the start of the process to ready, and memory then, with a million chunks on record; beside it the same
// agent with nothing on record.
import { join } from 'node:path'
import { type BenchCase, type Given, MB } from './case.ts'
import { seedChunkStore } from './chunk-store.ts'
import type { Contestant, Sample } from './contest.ts'
import { benchAgent, benchHub, stopWell } from './ours.ts'
import { runFolder } from './places.ts'
import { peakBytes, treeSeconds } from './processes.ts'
import type { Scope } from './scope.ts'

const CHUNKS = 1_000_000
const SMOKE_CHUNKS = 50_000

export const startCase: BenchCase = {
  name: 'start',
  about: 'start-up with chunks on record',
  smoke: true,
  async prepare(given) {
    const { scope, place, smoke, env } = given
    const hub = await benchHub({ ...given, sizeBytes: MB })
    const full = await runFolder(scope, place)
    const empty = await runFolder(scope, place)
    const seeded = await seedChunkStore(join(full, 'store'), smoke ? SMOKE_CHUNKS : CHUNKS)
    // Once before the first measured start: it writes what only an agent writes (its key, the index).
    for (const folder of [full, empty]) await stopWell(await benchAgent(scope, { hub: hub.url, folder, env }))
    const on = (name: string, folder: string, ours: boolean): Contestant => ({
      name,
      ours,
      run: (own) => started(own, given, hub.url, folder),
    })
    return [
      {
        id: smoke ? 'start-smoke' : 'start',
        title: `${seeded.chunks.toLocaleString('en')} chunks of ${seeded.files} files in ${seeded.repos} repos on record, ${place.name}`,
        figures: [
          { name: 'ready after, s', better: 'less', digits: 2 },
          { name: 'RSS when ready, MB', better: 'less' },
          { name: 'peak RSS, MB', better: 'less' },
          { name: 'CPU s', better: 'less', digits: 2 },
        ],
        contestants: [on('shoal', full, true), on('shoal-with-nothing', empty, false)],
        notes: [
          'Files are sparse, 1,250 chunks of 4 MiB each, one in 40 still arriving. Journals are believed: the machine has not restarted.',
        ],
      },
    ]
  },
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
