// Tells the mesh how this host is, the more seldom the more hosts do. Figures only; what to make of them is others' business.
import { availableParallelism, freemem, loadavg } from 'node:os'
import { messageOf } from '@shoal/protocol/errors.ts'
import { createTasks, type Service, type Tasks } from '@shoal/protocol/service.ts'
import { type Clock, type Random, sleep } from '@shoal/protocol/time.ts'
import type { Log } from './log.ts'
import type { Mesh } from './net/mesh.ts'
import { gossipIntervalMs, jittered, lifetimeMs, SHORTEST_INTERVAL_MS } from './plan/gossip-interval.ts'
import type { BlobStore } from './store/blob-store.ts'

const FIRST_AFTER_MS = 1_000

export interface HealthDeps {
  readonly mesh: Mesh
  readonly store: Pick<BlobStore, 'usage' | 'list'>
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly version: string
  readonly site: string | undefined
  readonly rack: string | undefined
  /** Share of the upload slots in use, 0 to 1. */
  readonly uploadLoad: () => number
  readonly onFailure: (name: string, error: unknown) => void
}

export function createHealth(deps: HealthDeps): Service {
  let tasks: Tasks | undefined
  return {
    name: 'health',
    async start() {
      if (tasks !== undefined) return
      tasks = createTasks(deps.onFailure)
      tasks.run('tell how this host is', async (signal) => {
        await sleep(deps.clock, FIRST_AFTER_MS, signal)
        for (;;) {
          await publish(deps, lifetimeMs(gossipIntervalMs(deps.mesh.hostsKnown())))
          await pause(deps, signal)
        }
      })
    },
    async stop() {
      const running = tasks
      tasks = undefined
      await running?.stop()
    },
  }
}

/** The number of hosts is looked up again and again: one that has just come, with a thousand others, knows few of them yet. */
async function pause({ mesh, clock, random }: HealthDeps, signal: AbortSignal): Promise<void> {
  const start = clock.now()
  const luck = random.next()
  for (;;) {
    const leftMs = start + jittered(gossipIntervalMs(mesh.hostsKnown()), luck) - clock.now()
    if (leftMs <= 0) return
    await sleep(clock, Math.min(leftMs, SHORTEST_INTERVAL_MS), signal)
  }
}

async function publish(deps: HealthDeps, forMs: number): Promise<void> {
  try {
    const { freeBytes } = await deps.store.usage()
    await deps.mesh.publishHealth(
      {
        uploadLoad: Math.min(1, Math.max(0, deps.uploadLoad())),
        cpuLoad: (loadavg()[0] ?? 0) / availableParallelism(),
        diskFreeBytes: freeBytes,
        memoryFreeBytes: freemem(),
        blobsHeld: deps.store.list().filter(({ complete }) => complete).length,
        version: deps.version,
        site: deps.site,
        rack: deps.rack,
      },
      forMs,
    )
  } catch (error) {
    deps.log.debug({ reason: messageOf(error) }, 'health not published')
  }
}
