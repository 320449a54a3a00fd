// Case `head`: how long small requests wait, offered 2,000 a second whatever the server does: HEAD while a pull runs at full speed,
// HEAD and a small file when nothing else runs.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { connected } from '../../support/agent-process.ts'
import { type BenchCase, FILE, type Given, MB, REPO } from './case.ts'
import type { Contest, Figure, Sample } from './contest.ts'
import { openLoop } from './open-loop.ts'
import {
  benchAgent,
  benchHub,
  fileUrl,
  filledStorage,
  loopDelayMs,
  SEED,
  SMALL_FILE,
  SMALL_TEXT,
} from './ours.ts'
import { runFolder, writeSeeded } from './places.ts'
import { treeSeconds } from './processes.ts'
import type { Scope } from './scope.ts'
import { type Server, servings } from './servers.ts'

const PER_SECOND = 2000
const SMOKE_PER_SECOND = 300
const IDLE_MS = 5000
const SMOKE_IDLE_MS = 2000
const WARM_MS = 500
const FIGURES: readonly Figure[] = [
  { name: 'p99, ms', better: 'less', digits: 2 },
  { name: 'p50, ms', better: 'less', digits: 2 },
  { name: 'answered/s', better: 'more' },
  { name: 'loop p99, ms', better: 'less', digits: 1 },
  { name: 'CPU ms each', better: 'less', digits: 3 },
  { name: 'pull, MB/s', better: 'more' },
  { name: 'sent late, p99 ms', better: 'less', digits: 2 },
]

/** The median is steadier on a busy machine. */
const SMOKE_FIGURES = [
  ...FIGURES.filter(({ name }) => name === 'p50, ms'),
  ...FIGURES.filter(({ name }) => name !== 'p50, ms'),
]

export const headCase: BenchCase = {
  name: 'head',
  about: 'how long small requests wait',
  once: true,
  smoke: true,
  async prepare(given) {
    const { scope, place, sizeBytes, smoke } = given
    const hub = await benchHub(given)
    const holder = await filledStorage(given, hub.url)
    const files = await runFolder(scope, place)
    await writeSeeded(join(files, FILE), SEED, sizeBytes)
    await writeFile(join(files, SMALL_FILE), SMALL_TEXT)
    const perSecond = smoke ? SMOKE_PER_SECOND : PER_SECOND
    const idle = (method: 'HEAD' | 'GET', title: string): Contest => ({
      id: `${method.toLowerCase()} idle${smoke ? '-smoke' : ''}`,
      title: `${title}, offered ${perSecond.toLocaleString('en')} a second, nothing else running`,
      figures: smoke ? SMOKE_FIGURES : FIGURES,
      contestants: servings(given, hub.url, holder, files).map((serving) => ({
        ...serving,
        run: async (own) => idleLoad(own, await serving.start(own), method, perSecond, smoke),
      })),
      notes: [
        'Latency runs from the time at which a request was due; "sent late" is what the client itself adds.',
      ],
    })
    const small = idle('GET', `GET of a file of ${SMALL_TEXT.length} bytes`)
    if (smoke) return [small]
    const during: Contest = {
      id: 'head pull',
      title: `HEAD, offered ${perSecond.toLocaleString('en')} a second, while this host pulls the file from another`,
      figures: FIGURES,
      contestants: [
        {
          name: 'shoal',
          ours: true,
          does: 'HEAD of the file that is being pulled',
          run: (own) => whilePulling(own, given, hub.url, holder, perSecond),
        },
      ],
      notes: ['Three processes share the cores here: both agents and the client.'],
    }
    return [during, idle('HEAD', 'HEAD of the file'), small]
  },
}

async function whilePulling(
  scope: Scope,
  { place, sizeBytes, env }: Given,
  hub: string,
  holder: string,
  perSecond: number,
): Promise<Sample> {
  const folder = await runFolder(scope, place)
  const sender = await benchAgent(scope, { hub, folder: holder, env })
  const receiver = await benchAgent(scope, { hub, folder, env, peers: [sender] })
  await connected(receiver, 1)
  const load = { url: fileUrl(receiver.url), method: 'HEAD', perSecond } as const
  await openLoop(scope, { ...load, perSecond: 200, until: AbortSignal.timeout(WARM_MS) })
  await loopDelayMs(receiver)
  const over = new AbortController()
  const startedAt = systemClock.wallTime()
  const pulled = receiver.pull(REPO).finally(() => over.abort())
  const [answered, { endedAt }] = await Promise.all([
    openLoop(scope, { ...load, until: over.signal }),
    pulled,
  ])
  const loop = await loopDelayMs(receiver)
  const seconds = ((endedAt ?? systemClock.wallTime()) - startedAt) / 1000
  return {
    'p99, ms': answered.p99Ms,
    'p50, ms': answered.p50Ms,
    'answered/s': answered.perSecond,
    'loop p99, ms': loop,
    'pull, MB/s': sizeBytes / MB / seconds,
    'sent late, p99 ms': answered.lateP99Ms,
  }
}

async function idleLoad(
  scope: Scope,
  server: Server,
  method: 'HEAD' | 'GET',
  perSecond: number,
  smoke: boolean,
): Promise<Sample> {
  const load = { url: method === 'GET' ? server.smallUrl : server.url, method, perSecond } as const
  await openLoop(scope, { ...load, until: AbortSignal.timeout(WARM_MS) })
  await sleep(systemClock, WARM_MS)
  await server.loopDelayMs?.()
  const before = await treeSeconds(server.pid)
  const until = AbortSignal.timeout(smoke ? SMOKE_IDLE_MS : IDLE_MS)
  const answered = await openLoop(scope, { ...load, until })
  const spent = (await treeSeconds(server.pid)) - before
  const loop = await server.loopDelayMs?.()
  return {
    'p99, ms': answered.p99Ms,
    'p50, ms': answered.p50Ms,
    'answered/s': answered.perSecond,
    'CPU ms each': (spent * 1000) / answered.count,
    'sent late, p99 ms': answered.lateP99Ms,
    ...(loop === undefined ? {} : { 'loop p99, ms': loop }),
  }
}
