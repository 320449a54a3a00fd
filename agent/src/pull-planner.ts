// Gathers the facts for a pull's plan: what is on this disk, what peers say they hold, rates, room. Asks peers a bounded number of
// questions for a bounded time, and fetches nothing. What follows from the facts is plan/pull-plan.ts.
import { ChunkMap, fixedSlices } from '@shoal/protocol/chunks.ts'
import { isAbort, messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import type { PeerId } from '@shoal/protocol/ids.ts'
import type { FileEntry, Manifest } from '@shoal/protocol/manifest.ts'
import { type Clock, deadline } from '@shoal/protocol/time.ts'
import type { Downloads } from './downloads-port.ts'
import type { LimitValues } from './limits-port.ts'
import type { Log } from './log.ts'
import type { Mesh, PeerStatus } from './net/mesh.ts'
import type { BestRates } from './plan/pull-efficiency.ts'
import { type PeerHolding, type PlannedFile, type PullPlan, planPull, roomOf } from './plan/pull-plan.ts'
import type { ReadRights } from './read-rights.ts'
import type { BlobStore } from './store/blob-store.ts'

/** Peers asked, and questions asked of all of them together: the largest files first. */
export const MAX_PEERS_ASKED = 64
export const MAX_QUESTIONS = 256
/** A plan does not wait longer for what peers say. */
export const ANSWERS_MS = 2_000

export interface PlannerDeps {
  readonly mesh: Pick<Mesh, 'peers' | 'askHave'>
  readonly store: Pick<BlobStore, 'isComplete' | 'partialChunks' | 'usage'>
  readonly rights: Pick<ReadRights, 'grantFor'>
  readonly downloads: Pick<Downloads, 'active'>
  /** What holds now. */
  readonly limits: { values(): Pick<LimitValues, 'down' | 'origin'> }
  readonly bestRates: () => BestRates
  readonly site: string | undefined
  readonly clock: Clock
  readonly log: Log
  /** How blobs are cut. */
  readonly chunkBytes?: number | undefined
}

export class PullPlanner {
  readonly #deps: PlannerDeps

  constructor(deps: PlannerDeps) {
    this.#deps = deps
  }

  /** Looks at the disk before it first waits. When the signal fires it goes on with what it knows by then. */
  async planOf(manifest: Manifest, files: readonly FileEntry[], signal: AbortSignal): Promise<PullPlan> {
    const { store, limits, bestRates, mesh } = this.#deps
    const planned = this.#onDisk(files)
    const peers = mesh.peers().slice(0, MAX_PEERS_ASKED)
    const [asked, usage] = await Promise.all([this.#ask(manifest, planned, peers, signal), store.usage()])
    const { down, origin } = limits.values()
    const best = bestRates()
    return planPull(asked, {
      rates: { origin: best.origin, peers: best.peers, originLimit: origin, downLimit: down },
      room: roomOf(usage),
      peersAsked: peers.length,
    })
  }

  #onDisk(files: readonly FileEntry[]): PlannedFile[] {
    const { store, downloads, chunkBytes } = this.#deps
    const arriving = new Set(downloads.active().map(({ blob }) => blob))
    return files.map(({ path, blob, sizeBytes }) => {
      const geometry = fixedSlices(sizeBytes, chunkBytes)
      const partial = store.partialChunks(blob)
      const held = partial?.geometry.text === geometry.text ? partial.held.clone() : undefined
      return {
        path,
        blob,
        geometry,
        held: store.isComplete(blob) ? 'all' : held,
        promised: arriving.has(blob),
        peers: undefined,
      }
    })
  }

  async #ask(
    manifest: Manifest,
    files: readonly PlannedFile[],
    peers: readonly PeerStatus[],
    signal: AbortSignal,
  ): Promise<readonly PlannedFile[]> {
    if (peers.length === 0) return files
    const missing = files
      .filter(({ held, geometry }) => held !== 'all' && geometry.chunkCount > 0)
      .toSorted((a, b) => missingChunks(b) - missingChunks(a))
    const chosen = new Set(missing.slice(0, Math.max(1, Math.floor(MAX_QUESTIONS / peers.length))))
    const answers = new Map<PlannedFile, PeerHolding[]>()
    using limit = deadline(
      this.#deps.clock,
      ANSWERS_MS,
      () => new ShoalError('aborted', 'the plan is made without more answers'),
      signal,
    )
    const questions = [...chosen].flatMap((file) => {
      const holdings: PeerHolding[] = []
      answers.set(file, holdings)
      return peers.map(async ({ peer, health }) => {
        const holds = await this.#holding(manifest, file, peer, limit.signal)
        if (holds !== undefined) holdings.push({ near: health?.site === this.#deps.site, holds })
      })
    })
    await Promise.all(questions)
    return files.map((file) => ({ ...file, peers: answers.get(file) }))
  }

  /** undefined: nothing, or no answer. */
  async #holding(
    manifest: Manifest,
    file: PlannedFile,
    peer: PeerId,
    signal: AbortSignal,
  ): Promise<ChunkMap | 'all' | undefined> {
    const { mesh, rights, log } = this.#deps
    const entry = manifest.files.find(({ blob }) => blob === file.blob)
    if (entry === undefined) return undefined
    const { geometry } = file
    try {
      const ask = { blob: entry.blob, geometry: geometry.text, want: false, grant: rights.grantFor(manifest) }
      const answer = await mesh.askHave(peer, ask, signal)
      if (answer.state === 'complete') return 'all'
      if (answer.state === 'none' || answer.held === undefined) return undefined
      return ChunkMap.decode(answer.held, geometry.chunkCount)
    } catch (error) {
      if (!isAbort(error)) log.debug({ peer, reason: messageOf(error) }, 'a peer did not say what it holds')
      return undefined
    }
  }
}

function missingChunks({ geometry, held }: PlannedFile): number {
  return geometry.chunkCount - (held instanceof ChunkMap ? held.held : 0)
}
