// Case `cold`: a client fetches a file that nobody here has: straight from the Hub, and through a fresh agent, which keeps it. The
// agent's copy is proven afterwards by `shoal verify`.

import { systemClock } from '@shoal/protocol/time.ts'
import { eventually } from '../../support/agent-process.ts'
import { REPOSITORY, SHOAL } from '../../support/command-line.ts'
import type { HubProcess } from '../../support/local-hub/process.ts'
import { type BenchCase, type Given, MB, MIB } from './case.ts'
import type { Contestant, Figure, Sample } from './contest.ts'
import { curl } from './nginx.ts'
import { benchAgent, benchHub, fileUrl, loopDelayMs, stopWell } from './ours.ts'
import { runFolder } from './places.ts'
import { peakBytes, startProgram, treeSeconds, whyNotProgram } from './processes.ts'
import type { Scope } from './scope.ts'

const FIGURES: readonly Figure[] = [
  { name: 'MB/s', better: 'more' },
  { name: 'CPU s/GB of the Hub', better: 'less', digits: 2 },
  { name: 'of the agent', better: 'less', digits: 2 },
  { name: 'peak RSS of the agent, MB', better: 'less' },
  { name: 'loop p99, ms', better: 'less', digits: 1 },
  { name: 'kept after, ms', better: 'less' },
]

export const coldCase: BenchCase = {
  name: 'cold',
  about: 'a file that nobody here has, from the Hub to a client',
  smoke: true,
  async prepare(given) {
    const { sizeBytes, place, smoke } = given
    const hub = await benchHub(given)
    const direct: Contestant = {
      name: 'straight-from-the-hub',
      does: 'nothing proven, nothing kept',
      missing: () => whyNotProgram('curl'),
      run: (scope) => straight(scope, given, hub),
    }
    return [
      {
        id: smoke ? 'cold-smoke' : 'cold',
        title: `${Math.round(sizeBytes / MIB)} MiB from a local Hub to \`curl -L -o /dev/null\`, ${place.name}`,
        figures: FIGURES,
        contestants: [
          {
            name: 'shoal',
            ours: true,
            does: 'kept, proven: `shoal verify` agreed after each run',
            missing: () => whyNotProgram('curl'),
            run: (scope) => through(scope, given, hub),
          },
          direct,
        ],
        notes: [
          'The Hub is the same process for both, as the Hub is. "Kept after" is what passed between the last byte at the client and the file being complete on disk.',
        ],
      },
    ]
  },
}

async function straight(scope: Scope, { sizeBytes }: Given, hub: HubProcess): Promise<Sample> {
  const got = await curl(scope, fileUrl(hub.url), '/dev/null', sizeBytes, hub.pid)
  return {
    'MB/s': sizeBytes / MB / got.seconds,
    'CPU s/GB of the Hub': got.serverSeconds / (sizeBytes / 1e9),
  }
}

async function through(scope: Scope, given: Given, hub: HubProcess): Promise<Sample> {
  const { place, env, sizeBytes } = given
  const folder = await runFolder(scope, place)
  const agent = await benchAgent(scope, { hub: hub.url, folder, env })
  await loopDelayMs(agent)
  const [agentBefore, hubBefore] = [await treeSeconds(agent.pid), await treeSeconds(hub.pid)]
  const got = await curl(scope, fileUrl(agent.url), '/dev/null', sizeBytes, agent.pid)
  const endedAt = systemClock.now()
  await eventually('the file is complete on disk', async () => {
    const { usedBytes, blobs } = (await agent.status()).storage
    return blobs > 0 && usedBytes >= sizeBytes
  })
  const keptMs = systemClock.now() - endedAt
  const loop = await loopDelayMs(agent)
  const gigabytes = sizeBytes / 1e9
  const sample = {
    'MB/s': sizeBytes / MB / got.seconds,
    'CPU s/GB of the Hub': ((await treeSeconds(hub.pid)) - hubBefore) / gigabytes,
    'of the agent': ((await treeSeconds(agent.pid)) - agentBefore) / gigabytes,
    'peak RSS of the agent, MB': (await peakBytes(agent.pid)) / MB,
    'loop p99, ms': loop,
    'kept after, ms': keptMs,
  }
  await proven(scope, agent.url)
  await stopWell(agent)
  return sample
}

/** @throws Error unless the agent finds every chunk on its disk good */
async function proven(scope: Scope, url: string): Promise<void> {
  const env = { SHOAL_HTTP: url }
  await startProgram(scope, process.execPath, [SHOAL, 'verify'], { cwd: REPOSITORY, env }).done()
}
