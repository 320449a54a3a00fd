// Models and Host as values in memory, for the API of a host without a host behind it.

import { HostLimits } from '@shoal/agent/host-limits.ts'
import type { Host, HostStatus } from '@shoal/agent/host-port.ts'
import { NO_LIMITS } from '@shoal/agent/limits-port.ts'
import { silentLog } from '@shoal/agent/log.ts'
import type {
  ModelDetails,
  ModelSummary,
  Models,
  PullOptions,
  PullProgress,
  PullRequest,
  VerifyResult,
} from '@shoal/agent/models-port.ts'
import type { PeerStatus } from '@shoal/agent/net/mesh.ts'
import type { QueuePlace } from '@shoal/agent/plan/download-queue.ts'
import type { PullPlan } from '@shoal/agent/plan/pull-plan.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
import {
  parseBlobId,
  parseCommit,
  parseFilePath,
  parseRevision,
  type Repo,
  repoKey,
} from '@shoal/protocol/ids.ts'
import { systemClock } from '@shoal/protocol/time.ts'

const COMMIT = parseCommit('c'.repeat(40))

export const memoryPlan: PullPlan = {
  files: 3,
  filesHere: 1,
  totalBytes: 10_000_000,
  bytes: { disk: 1_000_000, near: 6_000_000, far: 1_000_000, origin: 2_000_000 },
  notAskedBytes: 0,
  peersAsked: 2,
  time: { known: true, ms: 4_000 },
  disk: { neededBytes: 9_000_000, freeBytes: 50_000_000, limitBytes: undefined, missingBytes: 0 },
  evicted: [],
}

/** Never started: what is set is what holds. */
export function memoryLimits(): HostLimits {
  return new HostLimits(
    NO_LIMITS,
    { hours: undefined, load: undefined, background: false, monthCapBytes: undefined },
    {
      clock: systemClock,
      log: silentLog,
      machine: { loadAverage: () => 0, processors: 1, ownCpuMs: () => 0 },
      peers: () => [],
      storagePath: '/s',
      onFailure: () => {},
    },
  )
}

export class MemoryModels implements Models {
  readonly #kept = new Map<string, ModelDetails>()
  readonly #pulls = new Map<string, PullProgress>()
  readonly requests: PullRequest[] = []
  readonly moves: (readonly [ids: readonly string[], place: QueuePlace])[] = []
  /** Paths that `verify` finds bad; a path called `stuck` waits for the signal. */
  readonly badPaths = new Set<string>()
  readonly verifyAborts: string[] = []

  keep(repo: Repo, paths: readonly string[]): void {
    const files = paths.map((path) => ({
      path: parseFilePath(path),
      sizeBytes: 10,
      blob: parseBlobId(`git-sha1:${'a'.repeat(40)}`),
      oid: 'a'.repeat(40),
      heldBytes: 10,
      complete: true,
    }))
    this.#kept.set(repoKey(repo), {
      repo,
      revisions: [{ revision: parseRevision('main'), commit: COMMIT }],
      files: files.length,
      completeFiles: files.length,
      sizeBytes: 10 * files.length,
      heldBytes: 10 * files.length,
      access: 'public',
      commits: [{ commit: COMMIT, files }],
    })
  }

  pull(request: PullRequest, options: PullOptions = {}): PullProgress {
    this.requests.push(request)
    const pull: PullProgress = {
      id: `pull-${this.requests.length}`,
      repo: request.repo,
      revision: request.revision,
      commit: undefined,
      state: 'resolving',
      files: 0,
      filesDone: 0,
      totalBytes: 0,
      doneBytes: 0,
      originBytes: 0,
      peerBytes: 0,
      diskBytes: 0,
      startedAt: 1,
      endedAt: undefined,
      bytesPerSecond: 0,
      priority: options.priority ?? 'pull',
      place: this.requests.length,
      peers: 0,
      planned: undefined,
      efficiency: undefined,
      error: undefined,
    }
    this.#pulls.set(pull.id, pull)
    return pull
  }

  pulls(): readonly PullProgress[] {
    return [...this.#pulls.values()]
  }

  pullById(id: string): PullProgress | undefined {
    return this.#pulls.get(id)
  }

  cancelPull(id: string): boolean {
    const pull = this.#pulls.get(id)
    if (pull === undefined || pull.state === 'cancelled') return false
    this.#pulls.set(id, { ...pull, state: 'cancelled', endedAt: 2 })
    return true
  }

  pausePull(id: string): boolean {
    return this.#change(id, 'paused')
  }

  resumePull(id: string): boolean {
    return this.#change(id, 'queued')
  }

  movePulls(ids: readonly string[], place: QueuePlace): void {
    for (const id of ids) if (!this.#pulls.has(id)) throw new ShoalError('not-found', 'no such download')
    this.moves.push([ids, place])
  }

  async plan(request: PullRequest): Promise<PullPlan & { readonly commit: typeof COMMIT }> {
    this.requests.push(request)
    return { ...memoryPlan, commit: COMMIT }
  }

  #change(id: string, state: 'paused' | 'queued'): boolean {
    const pull = this.#pulls.get(id)
    if (pull === undefined || pull.endedAt !== undefined) return false
    this.#pulls.set(id, { ...pull, state })
    return true
  }

  async list(): Promise<readonly ModelSummary[]> {
    return [...this.#kept.values()]
  }

  async show(repo: Repo): Promise<ModelDetails | undefined> {
    return this.#kept.get(repoKey(repo))
  }

  async remove(repo: Repo) {
    const model = this.#kept.get(repoKey(repo))
    this.#kept.delete(repoKey(repo))
    return { freedBytes: model?.heldBytes ?? 0, blobs: model?.files ?? 0 }
  }

  async *verify(repo: Repo | undefined, signal: AbortSignal): AsyncGenerator<VerifyResult> {
    for (const [key, model] of this.#kept) {
      if (repo !== undefined && repoKey(repo) !== key) continue
      for (const { path } of model.commits.flatMap(({ files }) => files)) {
        if (path === 'stuck') {
          await new Promise<void>((resolve) =>
            signal.addEventListener('abort', () => resolve(), { once: true }),
          )
          this.verifyAborts.push(path)
          return
        }
        const ok = !this.badPaths.has(path)
        yield { repo: model.repo, path, ok, badChunks: ok ? [] : [0], bytes: 10 }
      }
    }
  }
}

export class MemoryHost implements Host {
  readonly limits = memoryLimits()

  originQuota() {
    return [{ bucket: 'api', remaining: 480, seenAt: 1 }]
  }

  notReady: readonly string[] = []
  reloads = 0

  async status(): Promise<HostStatus> {
    return {
      version: '0.1.0',
      peerId: '12D3KooWMemory',
      pid: 1,
      http: 'http://127.0.0.1:1',
      p2p: ['/ip4/127.0.0.1/tcp/1/p2p/12D3KooWMemory'],
      startedAt: 1,
      notReadyBecause: this.notReady,
      storage: {
        path: '/s',
        hubCache: '/s/hub',
        usedBytes: 1,
        limitBytes: undefined,
        freeBytes: 2,
        blobs: 3,
      },
      memory: {
        limitBytes: 100,
        limitFrom: 'host',
        usedBytes: 50,
        arriving: { usedBytes: 1, limitBytes: 10 },
        reading: { usedBytes: 2, limitBytes: 5 },
        isShort: false,
      },
      hub: { upstreams: ['https://huggingface.co'], tokenPresent: false },
      mesh: { site: undefined, rack: 'r1', mdns: false },
      originMonth: this.limits.status().month,
      totals: {
        originBytes: 1,
        peerBytes: 2,
        diskBytes: 3,
        sentToPeersBytes: 4,
        sentToClientsBytes: 5,
      },
    }
  }

  notReadyBecause(): readonly string[] {
    return this.notReady
  }

  peers(): readonly PeerStatus[] {
    return []
  }

  async reloadMesh(): Promise<void> {
    this.reloads += 1
  }
}
