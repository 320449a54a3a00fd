// The demo's story, in order: Hub, mesh, one host pulls, the others pull, a stock client reads, the table, the verdict.
import { once } from 'node:events'
import { formatBytes, formatDuration } from '@shoal/agent/cli/format.ts'
import type { PullShape } from '@shoal/agent/http/node-shapes.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import { type LocalHub, startLocalHub } from '@shoal/test/support/local-hub/hub.ts'
import { followPulls, startPull, untilConnected } from './agent-api.ts'
import { type DemoMesh, startMesh } from './mesh.ts'
import type { DemoOptions } from './options.ts'
import type { Program } from './programs.ts'
import { createProgress } from './progress.ts'
import { amplificationText, type HostResult, hostTable, type Outcome, verdictOf } from './report.ts'
import { SILERO_REPO, shardedRepo, sileroRepo } from './repos.ts'
import { checkFile, filesOf, type HubFileFacts, type Origin } from './stock-client.ts'

export interface DemoRun extends DemoOptions {
  readonly clock: Clock
  /** Emptied by the caller. */
  readonly folder: string
  /** Ends the demo, at any point. */
  readonly signal: AbortSignal
}

const SHARDED = { id: 'shoal-demo/sharded', seed: 'shoal', shards: 4 }

/** @returns whether the verdict is good */
export async function runDemo(run: DemoRun): Promise<boolean> {
  const failure = new AbortController()
  const signal = AbortSignal.any([run.signal, failure.signal])
  await using hub = run.real === undefined ? await startEmbeddedHub(run.generatedBytes) : undefined
  const origin: Origin = {
    url: hub?.url ?? run.real?.upstream ?? '',
    token: hub === undefined ? process.env.HF_TOKEN : undefined,
  }
  const repos = run.real === undefined ? [SILERO_REPO, SHARDED.id] : [run.real.repo]
  const files = (await Promise.all(repos.map((repo) => filesOf(origin, repo)))).flat()
  const modelBytes = files.reduce((total, { sizeBytes }) => total + sizeBytes, 0)
  console.log(`Hub          ${origin.url}${hub === undefined ? '' : ' (embedded)'}`)
  console.log(`models       ${repos.join(', ')}: ${files.length} files, ${formatBytes(modelBytes)}`)

  const mesh = await startMesh({
    clock: run.clock,
    folder: run.folder,
    upstream: origin.url,
    withToken: hub === undefined,
    usualPort: !run.once,
    signal,
    onEnd: (error) => failure.abort(error),
  })
  try {
    printMesh(mesh)
    const startedAt = run.clock.now()
    const others = mesh.agents.length - 1
    await Promise.all(mesh.agents.map(({ http }) => untilConnected(run.clock, http, others, signal)))
    const elapsedMs = run.clock.now() - startedAt
    console.log(`mesh         each host found the ${others} others within ${formatDuration(elapsedMs)}`)
    hub?.counts.reset()
    const outcome = await pullAndRead({ run, mesh, hub, origin, repos, files, modelBytes, signal })
    const verdict = verdictOf(outcome)
    console.log(
      `\n${hostTable(outcome.hosts)}\n\n${amplificationText(outcome)}\nverdict       ${verdict.text}`,
    )
    console.log(`coordinator   ${mesh.coordinator.http}/metrics (it has no dashboard in this version)`)
    if (!run.once) await stayUp(mesh, files, signal)
    return verdict.good
  } catch (error) {
    // A program that died is the cause; what failed because of it is not worth a word.
    throw failure.signal.aborted ? failure.signal.reason : error
  } finally {
    await mesh.stop()
  }
}

async function startEmbeddedHub(bytes: number): Promise<LocalHub> {
  console.log(`making a sharded model of ${formatBytes(bytes)} …`)
  const sharded = shardedRepo({ ...SHARDED, shardBytes: Math.floor(bytes / SHARDED.shards) })
  return startLocalHub({ repos: [await sileroRepo(), sharded] })
}

function printMesh({ coordinator, agents }: DemoMesh): void {
  console.log(`coordinator  ${coordinator.http}`)
  for (const { name, http } of agents) console.log(`${name.padEnd(12)} ${http}`)
}

interface Scene {
  readonly run: DemoRun
  readonly mesh: DemoMesh
  readonly hub: LocalHub | undefined
  readonly origin: Origin
  readonly repos: readonly string[]
  readonly files: readonly HubFileFacts[]
  readonly modelBytes: number
  readonly signal: AbortSignal
}

async function pullAndRead(scene: Scene): Promise<Outcome> {
  const { mesh, hub, files, modelBytes } = scene
  const [first, ...others] = mesh.agents
  if (first === undefined) throw new Error('the mesh has no agent')
  console.log(`\n${first.name} pulls`)
  const pulls = await pullOn(scene, [first])
  console.log(`${others.map(({ name }) => name).join(' and ')} pull`)
  for (const [name, own] of await pullOn(scene, others)) pulls.set(name, own)
  console.log(`a stock client (@huggingface/hub) reads ${files.length} files through each host`)
  const hosts: HostResult[] = []
  for (const agent of mesh.agents) hosts.push(await readThrough(scene, agent, pulls.get(agent.name) ?? []))
  const counted = [...pulls.values()].flat().reduce((total, pull) => total + pull.originBytes, 0)
  return {
    hosts,
    modelBytes,
    originBytes: hub?.counts.bytes ?? counted,
    countedBy: hub === undefined ? 'the agents' : 'the Hub',
  }
}

/** All repos on all these hosts at once. */
async function pullOn(scene: Scene, agents: readonly Program[]): Promise<Map<string, readonly PullShape[]>> {
  const { run, repos, signal } = scene
  const progress = createProgress(run.clock, process.stdout)
  const found = await Promise.all(
    agents.map(async ({ name, http }): Promise<[string, readonly PullShape[]]> => {
      const started = await Promise.all(repos.map((repo) => startPull(http, repo, signal)))
      const ids = started.map(({ id }) => id)
      return [name, await followPulls(run.clock, http, ids, (pulls) => progress.update(name, pulls), signal)]
    }),
  )
  progress.close()
  return new Map(found)
}

async function readThrough(
  { origin, files, signal }: Scene,
  agent: Program,
  pulls: readonly PullShape[],
): Promise<HostResult> {
  const problems: string[] = []
  for (const file of files) {
    try {
      const { right, found } = await checkFile(agent.http, origin, file, signal)
      if (!right) problems.push(`${file.path} has the hash ${found} and not ${file.sha256 ?? file.gitOid}`)
    } catch (error) {
      if (signal.aborted) throw error
      problems.push(`${file.path} could not be read: ${String(error)}`)
    }
  }
  return { host: agent.name, pulls, filesRead: files.length, problems }
}

async function stayUp(
  { agents }: DemoMesh,
  files: readonly HubFileFacts[],
  signal: AbortSignal,
): Promise<void> {
  const endpoint = agents[0]?.http ?? ''
  const example = files.find(({ path }) => path === 'config.json') ?? files[0]
  console.log(`
The mesh stays up. In another terminal:

  export HF_ENDPOINT=${endpoint}
  curl -L $HF_ENDPOINT/${example?.repo}/resolve/main/${example?.path}

Ctrl-C ends it and removes everything it stored.`)
  if (!signal.aborted) await once(signal, 'abort')
  if (signal.reason instanceof Error && signal.reason.name !== 'AbortError') throw signal.reason
  console.log('\nstopping …')
}
