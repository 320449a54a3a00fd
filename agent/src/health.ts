// Tells the mesh how this host is, every few seconds. Figures only; what to make of them is others' business.
import { availableParallelism, freemem, loadavg } from 'node:os'
import { messageOf } from '@shoal/protocol/errors.ts'
import { createTasks, type Service, type Tasks } from '@shoal/protocol/service.ts'
import { type Clock, sleep } from '@shoal/protocol/time.ts'
import type { Log } from './log.ts'
import type { Mesh } from './net/mesh.ts'
import type { BlobStore } from './store/blob-store.ts'

const FIRST_AFTER_MS = 1_000
const EVERY_MS = 10_000

export interface HealthDeps {
  readonly mesh: Mesh
  readonly store: Pick<BlobStore, 'usage' | 'list'>
  readonly clock: Clock
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
          await publish(deps)
          await sleep(deps.clock, EVERY_MS, signal)
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

async function publish(deps: HealthDeps): Promise<void> {
  try {
    const { freeBytes } = await deps.store.usage()
    await deps.mesh.publishHealth({
      uploadLoad: Math.min(1, Math.max(0, deps.uploadLoad())),
      cpuLoad: (loadavg()[0] ?? 0) / availableParallelism(),
      diskFreeBytes: freeBytes,
      memoryFreeBytes: freemem(),
      blobsHeld: deps.store.list().filter(({ complete }) => complete).length,
      version: deps.version,
      site: deps.site,
      rack: deps.rack,
    })
  } catch (error) {
    deps.log.debug({ reason: messageOf(error) }, 'health not published')
  }
}
