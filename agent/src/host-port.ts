// Port: this host as a whole, for its own API: what it is, how it is, and joining a mesh anew. Implemented by agent.ts.

import type { TransferCounts } from './downloads-port.ts'
import type { Limits, MonthStatus } from './limits-port.ts'
import type { MemoryStatus } from './memory-budget.ts'
import type { PeerStatus } from './net/mesh.ts'

export interface HostStatus {
  readonly version: string
  readonly peerId: string
  readonly pid: number
  readonly http: string
  readonly p2p: readonly string[]
  readonly startedAt: number
  /** Why `/readyz` answers 503; empty when ready. */
  readonly notReadyBecause: readonly string[]
  readonly storage: {
    readonly path: string
    readonly hubCache: string
    readonly usedBytes: number
    readonly limitBytes: number | undefined
    readonly freeBytes: number
    readonly blobs: number
  }
  readonly memory: MemoryStatus
  readonly hub: { readonly upstreams: readonly string[]; readonly tokenPresent: boolean }
  readonly mesh: {
    readonly site: string | undefined
    readonly rack: string | undefined
    readonly mdns: boolean
  }
  /** What came from the origin this month. */
  readonly originMonth: MonthStatus
  readonly totals: TransferCounts & { readonly sentToPeersBytes: number; readonly sentToClientsBytes: number }
}

export interface OriginQuota {
  readonly bucket: string
  readonly remaining: number
  /** Unix time in milliseconds. */
  readonly seenAt: number
}

export interface Host {
  status(): Promise<HostStatus>
  /** From memory: no I/O. Empty when ready. */
  notReadyBecause(): readonly string[]
  peers(): readonly PeerStatus[]
  /** Requests that the origin still allows, by bucket, as it last said. */
  originQuota(): readonly OriginQuota[]
  readonly limits: Limits
  /** Reads the mesh secret and the joined peers from disk again and restarts the mesh with them. */
  reloadMesh(): Promise<void>
}
