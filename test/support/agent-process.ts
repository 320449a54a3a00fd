// Real agents as processes of their own, on loopback and port 0, for end-to-end tests. Starts, asks, kills; asserts nothing.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import {
  type DownloadsShape,
  downloadsShape,
  type PeersShape,
  type PullShape,
  peersShape,
  pullShape,
  type StatusShape,
  statusShape,
} from '@shoal/agent/http/node-shapes.ts'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { atEnd } from './cleanups.ts'
import { REPOSITORY, SHOAL } from './command-line.ts'
import type { Command } from './netns.ts'
import { tempFolder } from './temp-folder.ts'

export const MESH_SECRET = '5a'.repeat(32)

export interface AgentOptions {
  /** Base URL of the Hub it asks. */
  readonly hub: string
  readonly peers?: readonly AgentProcess[]
  /** Kept over restarts when given. */
  readonly storage?: string
  readonly env?: Readonly<Record<string, string>>
  readonly args?: readonly string[]
  /** How a command is started elsewhere, for example in a namespace; default: as it is. */
  launch?(command: string, args: readonly string[]): Command
}

export interface AgentProcess {
  readonly url: string
  readonly peerId: string
  readonly p2p: readonly string[]
  readonly pid: number
  readonly storage: string
  readonly hubCache: string
  /** Milliseconds from spawn to the ready file. */
  readonly readyAfterMs: number
  /** What it wrote to standard output and error so far. */
  output(): string
  kill(signal: NodeJS.Signals): void
  /** Resolves with the exit code (null after a signal). */
  readonly exited: Promise<number | null>
  /** SIGTERM, then the exit code. */
  stop(): Promise<number | null>
  status(): Promise<StatusShape>
  peers(): Promise<PeersShape['peers']>
  downloads(): Promise<DownloadsShape>
  startPull(repo: string, revision?: string): Promise<PullShape>
  pull(repo: string, revision?: string): Promise<PullShape>
  /** Resident memory in bytes, now. */
  rss(): Promise<number>
}

/** Starts an agent and waits until it is ready; it ends with the test. */
export async function startAgent(
  context: Pick<TestContext, 'after'>,
  options: AgentOptions,
): Promise<AgentProcess> {
  const storage = options.storage ?? join(await tempFolder(context), 'store')
  await mkdir(storage, { recursive: true, mode: 0o700 })
  const readyFile = join(storage, '..', `ready-${crypto.randomUUID()}.json`)
  const startedAt = systemClock.now()
  const own = [SHOAL, 'agent', '--ready-file', readyFile, ...(options.args ?? [])]
  const { command, args } = options.launch?.(process.execPath, own) ?? {
    command: process.execPath,
    args: own,
  }
  const child = spawn(command, args, {
    cwd: REPOSITORY,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env.PATH,
      HOME: join(storage, '..'),
      SHOAL_STORAGE_PATH: storage,
      SHOAL_HTTP_LISTEN: '127.0.0.1:0',
      SHOAL_P2P_LISTEN: '/ip4/127.0.0.1/tcp/0',
      SHOAL_MDNS: 'false',
      SHOAL_UPSTREAM: options.hub,
      SHOAL_MESH_SECRET: MESH_SECRET,
      SHOAL_PEERS: (options.peers ?? []).flatMap(({ p2p }) => p2p).join(','),
      SHOAL_LOG_LEVEL: 'info',
      ...options.env,
    },
  })
  const exited = once(child, 'exit').then(([code]): number | null => (typeof code === 'number' ? code : null))
  atEnd(context, async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
    await exited
    await rm(readyFile, { force: true })
  })
  const output = collect(child)
  const ready = await readyOf(readyFile, exited, output)
  const url = ready.http
  const get = async (path: string) => answerOf(await fetch(`${url}/api/v1/${path}`))
  const status = async () => statusShape.parse(await get('status'))
  const startPull = async (repo: string, revision = 'main') =>
    pullShape.parse(
      await answerOf(
        await fetch(`${url}/api/v1/downloads`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ repo, revision }),
        }),
      ),
    )
  return {
    url,
    peerId: ready.peerId,
    p2p: ready.p2p,
    pid: ready.pid,
    storage,
    hubCache: join(storage, 'hub'),
    readyAfterMs: systemClock.now() - startedAt,
    output,
    exited,
    kill: (signal) => child.kill(signal),
    stop: async () => {
      child.kill('SIGTERM')
      return exited
    },
    status,
    peers: async () => peersShape.parse(await get('peers')).peers,
    downloads: async () => downloadsShape.parse(await get('downloads')),
    startPull,
    async pull(repo, revision) {
      let pull = await startPull(repo, revision)
      while (pull.endedAt === null) {
        await sleep(systemClock, 50)
        pull = pullShape.parse(await get(`downloads/${pull.id}`))
      }
      if (pull.state !== 'complete')
        throw new Error(
          `pull of ${repo} ${pull.state}: ${pull.error?.code} ${pull.error?.message}\n${output()}`,
        )
      return pull
    },
    async rss() {
      const text = await readFile(`/proc/${ready.pid}/status`, 'utf8')
      return Number(/VmRSS:\s+(\d+) kB/.exec(text)?.[1] ?? 0) * 1024
    },
  }
}

/** Agents that all know the first; resolves when every one is connected with every other. */
export async function startMesh(
  context: TestContext,
  count: number,
  options: AgentOptions,
): Promise<readonly AgentProcess[]> {
  const first = await startAgent(context, options)
  const others = await Promise.all(
    Array.from({ length: count - 1 }, () => startAgent(context, { ...options, peers: [first] })),
  )
  const agents = [first, ...others]
  await Promise.all(agents.map((agent) => connected(agent, count - 1)))
  return agents
}

/** Resolves when the agent has at least `count` peers. */
export async function connected(agent: AgentProcess, count: number): Promise<void> {
  await eventually(`${agent.url} has ${count} peers`, async () => (await agent.peers()).length >= count)
}

/** Resolves as soon as `condition` holds. @throws Error naming `what` */
export async function eventually(
  what: string,
  condition: () => Promise<boolean>,
  timeoutMs = 20_000,
): Promise<void> {
  const startedAt = systemClock.now()
  while (!(await condition())) {
    if (systemClock.now() - startedAt > timeoutMs) throw new Error(`waited ${timeoutMs} ms in vain: ${what}`)
    await sleep(systemClock, 50)
  }
}

async function answerOf(response: Response): Promise<unknown> {
  const text = await response.text()
  if (!response.ok) throw new Error(`${response.url} answered ${response.status}: ${text}`)
  return JSON.parse(text)
}

interface Ready {
  readonly http: string
  readonly p2p: readonly string[]
  readonly peerId: string
  readonly pid: number
}

async function readyOf(path: string, exited: Promise<number | null>, output: () => string): Promise<Ready> {
  let ended = false
  exited.then(() => {
    ended = true
  })
  for (let waitedMs = 0; waitedMs < 30_000; waitedMs += 20) {
    const text = await readFile(path, 'utf8').catch(() => '')
    if (text.endsWith('}\n') || text.endsWith('}')) return JSON.parse(text) as Ready
    if (ended) throw new Error(`the agent ended before it was ready:\n${output()}`)
    await sleep(systemClock, 20)
  }
  throw new Error(`the agent was not ready in 30 s:\n${output()}`)
}

function collect(child: ChildProcess): () => string {
  let text = ''
  const add = (piece: Buffer) => {
    text = (text + piece.toString()).slice(-1024 * 1024)
  }
  child.stdout?.on('data', add)
  child.stderr?.on('data', add)
  return () => text
}
