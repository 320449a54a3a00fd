// Our side of the contests: the local Hub with the file, agents that hold it or fetch it, and what an agent says of itself.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type AgentProcess, startAgent } from '../../support/agent-process.ts'
import { atEnd } from '../../support/cleanups.ts'
import { type HubProcess, spawnLocalHub } from '../../support/local-hub/process.ts'
import { FILE, type Given, REPO } from './case.ts'
import type { Ending } from './scope.ts'

export const SEED = 'bench'
export const SMALL_FILE = 'config.json'
export const SMALL_TEXT = JSON.stringify({ architectures: ['BenchModel'], notes: 'x'.repeat(700) })

/** A Hub process that has the file, and a small one, under {@link REPO}. */
export async function benchHub({ scope, sizeBytes }: Given): Promise<HubProcess> {
  const files = { [FILE]: { seed: SEED, sizeBytes }, [SMALL_FILE]: { text: SMALL_TEXT } }
  const hub = await spawnLocalHub({ repos: [{ id: REPO, files }] })
  atEnd(scope, () => hub.stop())
  return hub
}

export interface AgentSpec {
  readonly hub: string
  readonly folder: string
  readonly env: Readonly<Record<string, string>>
  readonly peers?: readonly AgentProcess[]
}

/** A fresh process; its storage is what the folder holds. */
export async function benchAgent(
  scope: Ending,
  { hub, folder, env, peers = [] }: AgentSpec,
): Promise<AgentProcess> {
  await mkdir(folder, { recursive: true })
  const storage = join(folder, 'store')
  return startAgent(scope, { hub, storage, peers, env: { SHOAL_LOG_LEVEL: 'warn', ...env } })
}

const filled = new Map<string, Promise<string>>()

/**
 * Lets an agent fetch the file and end. @returns a folder whose storage has the file, for agents to start on: one at a time, the same
 * for every case
 */
export function filledStorage({ scope, place, sizeBytes, env }: Given, hub: string): Promise<string> {
  const folder = join(place.folder, `holder-${sizeBytes}`)
  const fill = async () => {
    const agent = await benchAgent(scope, { hub, folder, env })
    await agent.pull(REPO)
    await stopWell(agent)
    return folder
  }
  const known = filled.get(folder) ?? fill()
  filled.set(folder, known)
  return known
}

export async function stopWell(agent: AgentProcess): Promise<void> {
  const code = await agent.stop()
  if (code !== 0) throw new Error(`an agent ended with ${code}:\n${agent.output().slice(-2000)}`)
}

export function fileUrl(base: string, path = FILE): string {
  return `${base}/${REPO}/resolve/main/${path}`
}

/**
 * Event-loop delay of the agent's main thread since this was last asked, 99th percentile in milliseconds, from its metrics. The
 * timer that measures it rests 10 ms: an idle loop reads 10.
 */
export async function loopDelayMs(agent: Pick<AgentProcess, 'url'>): Promise<number> {
  const text = await (await fetch(`${agent.url}/metrics`)).text()
  const seconds = /^nodejs_eventloop_lag_p99_seconds (\S+)$/m.exec(text)?.[1]
  if (seconds === undefined) throw new Error('the agent has no metric of its event loop')
  return Number(seconds) * 1000
}
