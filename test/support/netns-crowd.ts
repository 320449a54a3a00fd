// Agents and the local Hub on the hosts of a shaped network, what a flash crowd there costs, and the least it can cost.
// Measures; asserts nothing.
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { PullShape } from '@shoal/agent/http/node-shapes.ts'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { type AgentOptions, type AgentProcess, connected, startAgent } from './agent-process.ts'
import { atEnd } from './cleanups.ts'
import type { FileJson } from './local-hub/control.ts'
import { type HubProcess, spawnLocalHub } from './local-hub/process.ts'
import type { LinkRate, NetHost, Netns } from './netns.ts'

const MEMORY = '/dev/shm'
const P2P_PORT = 8002
const HTTP_PORT = 8001
const SAMPLE_MS = 100
const ASK_MS = 250

export interface CrowdShape {
  readonly sizeBytes: number
  readonly hosts: number
  readonly rate: LinkRate
  readonly originRate: LinkRate
}

/**
 * Seconds that no scheme can beat: `max(F/u_s, F/d, N*F/(u_s+N*u))`, for N hosts that all want F bytes of one origin.
 * Rates are those of the links, frame headers and all, so about 5 % of it is out of reach of any program.
 */
export function lowerBoundSeconds({ sizeBytes, hosts, rate, originRate }: CrowdShape): number {
  const up = bytesPerSecond(rate.upMbit)
  const originUp = bytesPerSecond(originRate.upMbit)
  return Math.max(
    sizeBytes / originUp,
    sizeBytes / bytesPerSecond(rate.downMbit),
    (hosts * sizeBytes) / (originUp + hosts * up),
  )
}

export function bytesPerSecond(mbit: number): number {
  return (mbit * 1e6) / 8
}

/** A folder in memory where there is such a thing: disks are not what is measured. Removed with the test. */
export async function memoryFolder(context: Pick<TestContext, 'after'>): Promise<string> {
  const root = existsSync(MEMORY) ? MEMORY : tmpdir()
  await removeStale(root)
  const path = await mkdtemp(join(root, `shoal-${process.pid}-`))
  atEnd(context, () => rm(path, { recursive: true, force: true }))
  return path
}

/** Memory that a killed run left filled. */
async function removeStale(root: string): Promise<void> {
  for (const name of await readdir(root)) {
    const pid = /^shoal-(\d+)-\w+$/.exec(name)?.[1]
    if (pid !== undefined && !existsSync(`/proc/${pid}`))
      await rm(join(root, name), { recursive: true, force: true })
  }
}

/** The local Hub on the origin's host, steered over its control link. */
export async function hubOn(
  context: Pick<TestContext, 'after'>,
  { address, controlAddress, launch }: NetHost,
  repos: Readonly<Record<string, Readonly<Record<string, FileJson>>>>,
): Promise<HubProcess> {
  const list = Object.entries(repos).map(([id, files]) => ({ id, files }))
  const hub = await spawnLocalHub({ host: address, controlHost: controlAddress, repos: list }, launch)
  atEnd(context, () => hub.stop())
  return hub
}

/** An agent on a host: peers reach it over the shaped link, this process over the control link. */
export async function agentOn(
  context: TestContext,
  host: NetHost,
  options: AgentOptions,
): Promise<AgentProcess> {
  return startAgent(context, {
    storage: join(await memoryFolder(context), 'store'),
    ...options,
    args: ['--insecure'],
    launch: host.launch,
    env: {
      SHOAL_P2P_LISTEN: `/ip4/${host.address}/tcp/${P2P_PORT}`,
      SHOAL_HTTP_LISTEN: `${host.controlAddress}:${HTTP_PORT}`,
      ...options.env,
    },
  })
}

/** An agent on each host; all know the first only. Resolves when each is connected with each. */
export async function agentsOn(
  context: TestContext,
  hosts: readonly NetHost[],
  options: AgentOptions,
): Promise<readonly AgentProcess[]> {
  const [one, ...others] = hosts
  if (one === undefined) return []
  const first = await agentOn(context, one, options)
  const rest = await Promise.all(others.map((host) => agentOn(context, host, { ...options, peers: [first] })))
  const agents = [first, ...rest]
  await Promise.all(agents.map((agent) => connected(agent, hosts.length - 1)))
  return agents
}

export interface CrowdRun {
  /** From the first being told to the last having the complete file, its digest checked. */
  readonly seconds: number
  readonly pulls: readonly PullShape[]
  /** Of each host, in the order of the agents. */
  readonly secondsEach: readonly number[]
  /** Unix milliseconds. */
  readonly startedAt: number
  readonly endedAt: number
}

/** All are told at once. @throws Error when one does not complete */
export async function pullAll(agents: readonly AgentProcess[], repo: string): Promise<CrowdRun> {
  const startedAt = systemClock.wallTime()
  const pulls = await Promise.all(agents.map((agent) => pullQuietly(agent, repo)))
  const ends = pulls.map(({ endedAt }) => endedAt ?? systemClock.wallTime())
  const endedAt = Math.max(...ends)
  return {
    seconds: (endedAt - startedAt) / 1000,
    secondsEach: ends.map((end) => (end - startedAt) / 1000),
    pulls,
    startedAt,
    endedAt,
  }
}

/** Asks seldom how far it is: the agents say when they were done, and share their processors with this one. */
async function pullQuietly(agent: AgentProcess, repo: string): Promise<PullShape> {
  const { id } = await agent.startPull(repo)
  for (;;) {
    const pull = (await agent.downloads()).pulls.find((one) => one.id === id)
    if (pull?.state === 'complete') return pull
    if (pull === undefined || pull.state === 'failed' || pull.state === 'cancelled')
      throw new Error(`pull ${pull?.state}: ${pull?.error?.code} ${pull?.error?.message}\n${agent.output()}`)
    await sleep(systemClock, ASK_MS)
  }
}

export interface LinkWatch {
  /** Ends it. Unix milliseconds of the last sample in which the host sent a tenth of its rate or more. */
  lastBusyAt(): Promise<number>
}

/** Watches what a host sends, at the link itself: what a program handed to its socket may lie there for seconds. */
export function watchSending(net: Netns, host: NetHost, rate: LinkRate): LinkWatch {
  const stop = new AbortController()
  let lastBusyAt = 0
  const watched = (async () => {
    let before = (await net.bytes(host)).sentBytes
    let at = systemClock.now()
    while (!stop.signal.aborted) {
      await sleep(systemClock, SAMPLE_MS)
      const { sentBytes } = await net.bytes(host)
      const now = systemClock.now()
      const busy = sentBytes - before > (bytesPerSecond(rate.upMbit) * (now - at)) / 1000 / 10
      if (busy) lastBusyAt = systemClock.wallTime()
      before = sentBytes
      at = now
    }
  })()
  return {
    async lastBusyAt() {
      stop.abort()
      await watched
      return lastBusyAt
    },
  }
}
