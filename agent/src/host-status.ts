// Puts together what this host says of itself. Reads; changes nothing.
import type { Settings } from './config.ts'
import type { HostStatus } from './host-port.ts'
import type { Limits } from './limits-port.ts'
import type { MemoryBudget } from './memory-budget.ts'
import type { Mesh } from './net/mesh.ts'
import type { BlobStore } from './store/blob-store.ts'

export interface HostFacts {
  readonly settings: Settings
  readonly version: string
  readonly pid: number
  readonly startedAt: number
  readonly hubCache: string
  readonly mesh: Pick<Mesh, 'self' | 'addresses'>
  readonly store: Pick<BlobStore, 'usage' | 'list'>
  readonly memory: Pick<MemoryBudget, 'status'>
  readonly http: () => string
  readonly notReadyBecause: () => string[]
  readonly limits: Pick<Limits, 'status'>
  readonly totals: () => HostStatus['totals']
}

export async function hostStatus(facts: HostFacts): Promise<HostStatus> {
  const { settings, mesh, store } = facts
  return {
    version: facts.version,
    peerId: mesh.self,
    pid: facts.pid,
    http: facts.http(),
    p2p: mesh.addresses(),
    startedAt: facts.startedAt,
    notReadyBecause: facts.notReadyBecause(),
    storage: {
      path: settings.storage.path,
      hubCache: facts.hubCache,
      ...(await store.usage()),
      limitBytes: settings.storage.limitBytes,
      blobs: store.list().filter(({ complete }) => complete).length,
    },
    memory: facts.memory.status(),
    hub: { upstreams: settings.hub.upstreams, tokenPresent: settings.hub.token() !== undefined },
    mesh: { site: settings.mesh.site, rack: settings.mesh.rack, mdns: settings.mesh.mdns },
    originMonth: facts.limits.status().month,
    totals: facts.totals(),
  }
}
