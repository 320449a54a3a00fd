// Case `hit`: a file that this host has, through the Hub endpoint to one client: whole, and in a thousand ranges.
import { Agent, request } from 'node:http'
import { join } from 'node:path'
import { seededRandom, systemClock } from '@shoal/protocol/time.ts'
import { type BenchCase, FILE, type Given, MB, MIB } from './case.ts'
import { type Contest, type Figure, percentile, type Sample } from './contest.ts'
import { curl } from './nginx.ts'
import { benchHub, filledStorage, SEED } from './ours.ts'
import { runFolder, writeSeeded } from './places.ts'
import { peakBytes, treeSeconds, whyNotProgram } from './processes.ts'
import type { Scope } from './scope.ts'
import { type Server, type Serving, servings } from './servers.ts'

const RANGES = 1000
const RANGE_BYTES = MIB
const WHOLE: readonly Figure[] = [
  { name: 'MB/s', better: 'more' },
  { name: 'CPU s/GB of the server', better: 'less', digits: 2 },
  { name: 'peak RSS, MB', better: 'less' },
  { name: 'loop p99, ms', better: 'less', digits: 1 },
]
const PARTS: readonly Figure[] = [
  { name: 'ranges/s', better: 'more' },
  { name: 'p50, ms', better: 'less', digits: 2 },
  { name: 'p99, ms', better: 'less', digits: 2 },
  { name: 'CPU ms each, of the server', better: 'less', digits: 2 },
]

export const hitCase: BenchCase = {
  name: 'hit',
  about: 'a file that this host has, to a client on it',
  smoke: true,
  async prepare(given) {
    const { scope, place, sizeBytes, smoke } = given
    const hub = await benchHub(given)
    const holder = await filledStorage(given, hub.url)
    const files = await runFolder(scope, place)
    await writeSeeded(join(files, FILE), SEED, sizeBytes)
    const servers = servings(given, hub.url, holder, files)
    const contest = (
      part: string,
      title: string,
      figures: readonly Figure[],
      measure: (server: Server, scope: Scope) => Promise<Sample>,
    ): Contest => ({
      id: `hit ${part}${smoke ? '-smoke' : ''}`,
      title: `${title}, ${place.name}`,
      figures,
      contestants: servers.map((serving) => measured(serving, measure)),
    })
    const size = `${Math.round(sizeBytes / MIB)} MiB`
    const all = [
      contest('whole', `${size} whole, to \`curl -o /dev/null\``, WHOLE, whole(given)),
      contest(
        'ranges',
        `${RANGES.toLocaleString('en')} ranges of 1 MiB of it, one after the other on one connection`,
        PARTS,
        ranges(given),
      ),
    ]
    // Each server more to start costs the smoke run seconds.
    return smoke ? all.slice(0, 1) : all
  },
}

function measured(
  serving: Serving,
  measure: (server: Server, scope: Scope) => Promise<Sample>,
): Contest['contestants'][number] {
  return {
    ...serving,
    missing: async () => (await whyNotProgram('curl')) ?? serving.missing?.(),
    run: async (scope) => measure(await serving.start(scope), scope),
  }
}

/** The second of two: the first opens what opens at first use, on every server. */
function whole({ sizeBytes }: Given) {
  return async ({ url, pid, loopDelayMs }: Server, scope: Scope): Promise<Sample> => {
    await curl(scope, url, '/dev/null', sizeBytes, pid)
    await loopDelayMs?.()
    const got = await curl(scope, url, '/dev/null', sizeBytes, pid)
    const loop = await loopDelayMs?.()
    return {
      'MB/s': sizeBytes / MB / got.seconds,
      'CPU s/GB of the server': got.serverSeconds / (sizeBytes / 1e9),
      'peak RSS, MB': (await peakBytes(pid)) / MB,
      ...(loop === undefined ? {} : { 'loop p99, ms': loop }),
    }
  }
}

function ranges({ sizeBytes }: Given) {
  return async ({ url, pid }: Server): Promise<Sample> => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    const random = seededRandom(1)
    const places = Array.from({ length: RANGES }, () =>
      Math.floor(random.next() * Math.max(1, sizeBytes - RANGE_BYTES)),
    )
    for (const start of places.slice(0, RANGES / 10)) await rangeOf(agent, url, start)
    const before = await treeSeconds(pid)
    const times: number[] = []
    const startedAt = systemClock.now()
    for (const start of places) {
      const askedAt = systemClock.now()
      await rangeOf(agent, url, start)
      times.push(systemClock.now() - askedAt)
    }
    const seconds = (systemClock.now() - startedAt) / 1000
    agent.destroy()
    times.sort((a, b) => a - b)
    return {
      'ranges/s': RANGES / seconds,
      'p50, ms': percentile(times, 0.5),
      'p99, ms': percentile(times, 0.99),
      'CPU ms each, of the server': (((await treeSeconds(pid)) - before) * 1000) / RANGES,
    }
  }
}

async function rangeOf(agent: Agent, url: string, start: number): Promise<void> {
  const headers = { range: `bytes=${start}-${start + RANGE_BYTES - 1}` }
  const bytes = await new Promise<number>((resolve, reject) => {
    const asked = request(url, { agent, headers }, (response) => {
      let received = 0
      response.on('data', (piece: Buffer) => {
        received += piece.byteLength
      })
      response.once('end', () => resolve(response.statusCode === 206 ? received : -1))
      response.once('error', reject)
    })
    asked.once('error', reject)
    asked.end()
  })
  if (bytes !== RANGE_BYTES) throw new Error(`a range of ${RANGE_BYTES} bytes came as ${bytes}`)
}
