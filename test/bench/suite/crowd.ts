// Case `crowd`: hosts on loopback that all want the same repo at once, and nobody has it. Beside it as many clients that fetch it from
// the Hub without each other. Processors are the limit here; links are in ../netns-crowd.ts.
import { join } from 'node:path'
import { systemClock } from '@shoal/protocol/time.ts'
import { type AgentProcess, connected } from '../../support/agent-process.ts'
import { atEnd } from '../../support/cleanups.ts'
import { type HubProcess, spawnLocalHub } from '../../support/local-hub/process.ts'
import { type BenchCase, type Given, MB, MIB, REPO } from './case.ts'
import type { Figure, Sample } from './contest.ts'
import { benchAgent } from './ours.ts'
import { runFolder } from './places.ts'
import { endedSeconds, peakBytes, startProgram, treeSeconds, whyNotProgram } from './processes.ts'
import type { Scope } from './scope.ts'

const HOSTS = 4
const FILES = ['a.safetensors', 'b.safetensors'] as const
const FIGURES: readonly Figure[] = [
  { name: 'last host, s', better: 'less', digits: 2 },
  { name: 'origin bytes / size', better: 'less', digits: 3 },
  { name: 'CPU s/GB received', better: 'less', digits: 2 },
  { name: 'peak RSS of a host, MB', better: 'less' },
]

export const crowdCase: BenchCase = {
  name: 'crowd',
  about: 'hosts that want the same repo at once',
  async prepare(given) {
    const { scope, sizeBytes, place, wants } = given
    const half = Math.floor(sizeBytes / 2)
    const files = Object.fromEntries(FILES.map((name) => [name, { seed: name, sizeBytes: half }]))
    const hub = await spawnLocalHub({ repos: [{ id: REPO, files }] })
    atEnd(scope, () => hub.stop())
    const rival = {
      name: 'each-from-the-hub',
      does: 'curl, nothing proven',
      missing: () => whyNotProgram('curl'),
      run: (own: Scope) => alone(own, given, hub),
    }
    return [
      {
        id: 'crowd',
        title: `${HOSTS} hosts on loopback, 2 files of ${Math.round(half / MIB)} MiB, ${place.name}`,
        figures: FIGURES,
        contestants: [
          { name: 'shoal', ours: true, does: 'proven, TLS 1.3', run: (own) => together(own, given, hub) },
          ...(wants(rival.name) ? [rival] : []),
        ],
      },
    ]
  },
}

async function together(scope: Scope, { place, env, sizeBytes }: Given, hub: HubProcess): Promise<Sample> {
  const agents: AgentProcess[] = []
  for (let at = 0; at < HOSTS; at++) {
    const folder = await runFolder(scope, place)
    agents.push(await benchAgent(scope, { hub: hub.url, folder, env, peers: agents.slice(0, 1) }))
  }
  await Promise.all(agents.map((agent) => connected(agent, HOSTS - 1)))
  const spent = async () =>
    (await Promise.all(agents.map(({ pid }) => treeSeconds(pid)))).reduce((a, b) => a + b)
  await hub.control.resetCounts()
  const before = await spent()
  const startedAt = systemClock.wallTime()
  const pulls = await Promise.all(agents.map((agent) => agent.pull(REPO)))
  const seconds = (Math.max(...pulls.map(({ endedAt }) => endedAt ?? 0)) - startedAt) / 1000
  return {
    'last host, s': seconds,
    'origin bytes / size': (await hub.control.counts()).bytes / sizeBytes,
    'CPU s/GB received': ((await spent()) - before) / ((HOSTS * sizeBytes) / 1e9),
    'peak RSS of a host, MB': Math.max(...(await Promise.all(agents.map(({ pid }) => peakBytes(pid))))) / MB,
  }
}

async function alone(scope: Scope, { place, sizeBytes }: Given, hub: HubProcess): Promise<Sample> {
  const folder = await runFolder(scope, place)
  await hub.control.resetCounts()
  const before = await endedSeconds()
  const startedAt = systemClock.now()
  const clients = Array.from({ length: HOSTS }, (_, at) => {
    const transfers = FILES.flatMap((name) => [
      '-o',
      join(folder, `${at}-${name}`),
      `${hub.url}/${REPO}/resolve/main/${name}`,
    ])
    return startProgram(scope, 'curl', ['-sfL', ...transfers])
  })
  await Promise.all(clients.map((client) => client.done()))
  return {
    'last host, s': (systemClock.now() - startedAt) / 1000,
    'origin bytes / size': (await hub.control.counts()).bytes / sizeBytes,
    'CPU s/GB received': ((await endedSeconds()) - before) / ((HOSTS * sizeBytes) / 1e9),
    'peak RSS of a host, MB': Math.max(...clients.map((client) => client.peakBytes())) / MB,
  }
}
