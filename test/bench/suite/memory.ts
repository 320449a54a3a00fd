// Case `memory`: the most memory an agent has resident while it pulls eight files at once and eight clients read them slowly, so
// that what arrives cannot all be handed on.
import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { atEnd } from '../../support/cleanups.ts'
import { spawnLocalHub } from '../../support/local-hub/process.ts'
import { type BenchCase, FILE, type Given, MB, MIB } from './case.ts'
import type { Sample } from './contest.ts'
import { benchAgent, loopDelayMs, stopWell } from './ours.ts'
import { runFolder } from './places.ts'
import { peakBytes, treeSeconds } from './processes.ts'
import type { Ending, Scope } from './scope.ts'

const PULLS = 8
const READER_BYTES_PER_SECOND = 4 * MB

export const memoryCase: BenchCase = {
  name: 'memory',
  about: `${PULLS} pulls at once with ${PULLS} slow readers`,
  async prepare(given) {
    const { scope, sizeBytes, place } = given
    const repos = Array.from({ length: PULLS }, (_, at) => ({
      id: repoOf(at),
      files: { [FILE]: { seed: `memory ${at}`, sizeBytes } },
    }))
    const hub = await spawnLocalHub({ repos })
    atEnd(scope, () => hub.stop())
    return [
      {
        id: 'memory',
        title: `${PULLS} files of ${Math.round(sizeBytes / MIB)} MiB from a local Hub, ${place.name}`,
        figures: [
          { name: 'peak RSS, MB', better: 'less' },
          { name: 'MB/s in all', better: 'more' },
          { name: 'CPU s/GB', better: 'less', digits: 2 },
          { name: 'loop p99, ms', better: 'less', digits: 1 },
          { name: 'MB that readers got', better: 'more' },
        ],
        contestants: [{ name: 'shoal', ours: true, run: (own) => pullAll(own, given, hub.url) }],
        notes: [
          `Each reader takes ${READER_BYTES_PER_SECOND / MB} MB a second of its file, from the first byte on.`,
        ],
      },
    ]
  },
}

async function pullAll(scope: Scope, { place, env, sizeBytes }: Given, hub: string): Promise<Sample> {
  const folder = await runFolder(scope, place)
  const agent = await benchAgent(scope, { hub, folder, env })
  await loopDelayMs(agent)
  const over = new AbortController()
  const before = await treeSeconds(agent.pid)
  const startedAt = systemClock.wallTime()
  const pulls = Array.from({ length: PULLS }, (_, at) => agent.pull(repoOf(at)))
  const readers = Array.from({ length: PULLS }, (_, at) =>
    readSlowly(scope, `${agent.url}/${repoOf(at)}/resolve/main/${FILE}`, over.signal),
  )
  const ended = await Promise.all(pulls).finally(() => over.abort())
  const seconds = (Math.max(...ended.map(({ endedAt }) => endedAt ?? 0)) - startedAt) / 1000
  const read = (await Promise.all(readers)).reduce((sum, bytes) => sum + bytes, 0)
  const sample = {
    'peak RSS, MB': (await peakBytes(agent.pid)) / MB,
    'MB/s in all': (PULLS * sizeBytes) / MB / seconds,
    'CPU s/GB': ((await treeSeconds(agent.pid)) - before) / ((PULLS * sizeBytes) / 1e9),
    'loop p99, ms': await loopDelayMs(agent),
    'MB that readers got': read / MB,
  }
  await stopWell(agent)
  return sample
}

/** Reads until the signal. @returns bytes read @throws Error when the answer is no 200 or ends early */
async function readSlowly(scope: Ending, url: string, until: AbortSignal): Promise<number> {
  const request = get(url, { agent: false })
  atEnd(scope, () => request.destroy())
  let bytes = 0
  try {
    const [response] = (await once(request, 'response', { signal: until })) as [IncomingMessage]
    if (response.statusCode !== 200) throw new Error(`a reader was answered ${response.statusCode}`)
    for await (const piece of response) {
      bytes += (piece as Buffer).byteLength
      await sleep(systemClock, ((piece as Buffer).byteLength * 1000) / READER_BYTES_PER_SECOND, until)
    }
    return bytes
  } catch (error) {
    if (until.aborted) return bytes
    throw error
  }
}

function repoOf(at: number): string {
  return `bench/memory-${at}`
}
