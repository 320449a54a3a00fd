// The Models port: what this host keeps, as an operator sees it. Starts pulls (and takes up again those that a stop or a crash
// cut off), lists, verifies, removes. Moves no byte itself.
import { randomUUID } from 'node:crypto'
import { hasCode, messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import { type BlobId, isCommit, type Repo, type Revision, repoKey } from '@shoal/protocol/ids.ts'
import type { FileEntry, Manifest } from '@shoal/protocol/manifest.ts'
import { createTasks, type Service, type Tasks } from '@shoal/protocol/service.ts'
import { throwIfAborted } from '@shoal/protocol/time.ts'
import type { Log } from './log.ts'
import type {
  ModelDetails,
  ModelSummary,
  Models,
  PullOptions,
  PullProgress,
  PullRequest,
  VerifyResult,
} from './models-port.ts'
import type { QueuePlace } from './plan/download-queue.ts'
import { takes } from './plan/file-filter.ts'
import { Pull, type PullDeps } from './pull.ts'
import { type KeptPull, keptPulls, PullRows } from './pull-rows.ts'
import type { BlobStore, VerifyReport } from './store/blob-store.ts'
import type { Index } from './store/index-port.ts'
import type { Records } from './store/records.ts'
import type { HubView } from './store/view.ts'

/** Ended pulls that are still told about. */
const MAX_ENDED = 100
const OPERATOR = { kind: 'operator' } as const

type Held = ReadonlyMap<BlobId, { readonly heldBytes: number; readonly complete: boolean }>

export interface ModelsDeps extends PullDeps {
  readonly store: BlobStore
  readonly records: Records
  readonly view: Pick<HubView, 'remove' | 'path'>
  readonly index: Index
  readonly log: Log
  /** Ends a download whose blob is to be removed. */
  readonly abandon: (blob: BlobId) => Promise<void>
  /** A repo is gone: forget what was derived from it. */
  readonly onForgotten: (repo: Repo) => void
  readonly onFailure: (name: string, error: unknown) => void
}

export class ModelKeeper implements Models, Service {
  readonly name = 'models'
  readonly #deps: ModelsDeps
  readonly #pulls = new Map<string, Pull>()
  readonly #rows: PullRows
  #tasks: Tasks | undefined

  constructor(deps: ModelsDeps) {
    this.#deps = deps
    this.#rows = new PullRows(deps.index)
  }

  async start(): Promise<void> {
    if (this.#tasks !== undefined) return
    this.#tasks = createTasks(this.#deps.onFailure)
    for (const kept of await keptPulls(this.#deps.index)) this.#begin(kept)
  }

  async stop(): Promise<void> {
    const tasks = this.#tasks
    this.#tasks = undefined
    await tasks?.stop()
  }

  /** @throws ShoalError `not-running` */
  pull(request: PullRequest, options: PullOptions = {}): PullProgress {
    if (this.#tasks === undefined) throw new ShoalError('not-running', 'the agent is starting or stopping')
    const priority = options.priority ?? 'pull'
    const text = JSON.stringify(request)
    for (const pull of this.#pulls.values()) {
      if (pull.over || pull.priority !== priority || JSON.stringify(pull.request) !== text) continue
      this.resumePull(pull.id)
      return pull.progress()
    }
    return this.#begin({ id: randomUUID(), request, priority, paused: false }, options.plan).progress()
  }

  async plan(request: PullRequest, signal: AbortSignal) {
    const { catalog, planOf } = this.#deps
    const manifest = await catalog.manifest(request.repo, request.revision, OPERATOR, signal)
    await catalog.checkAccess(manifest, OPERATOR, signal)
    const files = manifest.files.filter(({ path }) => takes(request, path))
    if (files.length === 0 && manifest.files.length > 0)
      throw new ShoalError('file-not-found', `no file of ${request.repo.id} matches the patterns`)
    return { ...(await planOf(manifest, files, signal)), commit: manifest.commit }
  }

  pulls(): readonly PullProgress[] {
    const ended = [...this.#pulls.values()].filter(({ over }) => over)
    return [...this.#alive(), ...ended].map((pull) => pull.progress())
  }

  pullById(id: string): PullProgress | undefined {
    return this.#pulls.get(id)?.progress()
  }

  cancelPull(id: string): boolean {
    const pull = this.#pulls.get(id)
    if (pull === undefined || pull.over) return false
    pull.cancel()
    return true
  }

  pausePull(id: string): boolean {
    const pull = this.#pulls.get(id)
    if (pull === undefined || pull.over) return false
    if (pull.pause()) this.#keep()
    return true
  }

  resumePull(id: string): boolean {
    const pull = this.#pulls.get(id)
    if (pull === undefined || pull.over) return false
    if (pull.resume()) this.#keep()
    return true
  }

  movePulls(ids: readonly string[], place: QueuePlace): void {
    for (const id of ids) {
      const pull = this.#pulls.get(id)
      if (pull === undefined) throw new ShoalError('not-found', `no such download: ${id}`, { id })
      if (pull.over) throw new ShoalError('conflict', `the download has ended already: ${pull.state}`, { id })
    }
    this.#deps.turns.move(ids, place)
    this.#keep()
  }

  async list(): Promise<readonly ModelSummary[]> {
    const byRepo = await this.#byRepo()
    const held = this.#held()
    return Promise.all([...byRepo.values()].map((manifests) => this.#summary(manifests, held)))
  }

  async show(repo: Repo): Promise<ModelDetails | undefined> {
    const manifests = (await this.#byRepo()).get(repoKey(repo))
    if (manifests === undefined) return undefined
    const held = this.#held()
    return {
      ...(await this.#summary(manifests, held)),
      commits: manifests.map((manifest) => ({
        commit: manifest.commit,
        files: manifest.files.map((entry) => ({ ...entry, ...holding(entry, held) })),
      })),
    }
  }

  async remove(repo: Repo): Promise<{ readonly freedBytes: number; readonly blobs: number }> {
    const { records, view, store } = this.#deps
    const pulls = [...this.#pulls.values()].filter(
      (pull) => !pull.over && repoKey(pull.request.repo) === repoKey(repo),
    )
    for (const pull of pulls) pull.cancel()
    await Promise.all(pulls.map(({ ended }) => ended))
    const ours = new Set<BlobId>()
    const others = new Set<BlobId>()
    for await (const manifest of records.manifests()) {
      const target = repoKey(manifest.repo) === repoKey(repo) ? ours : others
      for (const { blob } of manifest.files) target.add(blob)
    }
    await view.remove(repo)
    await records.forget(repo)
    this.#deps.onForgotten(repo)
    const held = this.#held()
    let freedBytes = 0
    let blobs = 0
    for (const blob of ours) {
      if (others.has(blob)) continue
      await this.#deps.abandon(blob)
      const bytes = held.get(blob)?.heldBytes ?? 0
      try {
        if (!(await store.remove(blob))) continue
      } catch (error) {
        // Somebody has just asked for it again.
        if (!hasCode(error, 'conflict')) throw error
        continue
      }
      freedBytes += bytes
      blobs++
    }
    return { freedBytes, blobs }
  }

  async *verify(repo: Repo | undefined, signal: AbortSignal): AsyncGenerator<VerifyResult> {
    const { records, store } = this.#deps
    const seen = new Set<string>()
    for await (const manifest of records.manifests()) {
      if (repo !== undefined && repoKey(manifest.repo) !== repoKey(repo)) continue
      for (const { blob, path } of manifest.files) {
        throwIfAborted(signal)
        const key = `${repoKey(manifest.repo)}\n${blob}`
        if (seen.has(key) || !store.isComplete(blob)) continue
        seen.add(key)
        const report = await this.#verifyBlob(blob, signal)
        if (report !== undefined) yield { repo: manifest.repo, path, ...report }
      }
    }
  }

  /** undefined: it was removed meanwhile. */
  async #verifyBlob(blob: BlobId, signal: AbortSignal): Promise<VerifyReport | undefined> {
    try {
      return await this.#deps.store.verify(blob, signal)
    } catch (error) {
      if (hasCode(error, 'not-found')) return undefined
      if (!hasCode(error, 'store-corrupt')) throw error
      this.#deps.log.error({ blob, reason: messageOf(error) }, 'a stored blob cannot be read')
      return { ok: false, badChunks: [], bytes: 0 }
    }
  }

  #begin({ id, request, priority, paused }: KeptPull, plan?: boolean): Pull {
    const pull = new Pull(id, request, this.#deps, {
      priority,
      paused,
      ...(plan === undefined ? {} : { plan }),
    })
    this.#pulls.set(id, pull)
    const ended = [...this.#pulls.values()].filter((one) => one.over)
    for (const old of ended.slice(0, Math.max(0, ended.length - MAX_ENDED))) this.#pulls.delete(old.id)
    this.#tasks?.run('pull', async (signal) => {
      await this.#rows.keep(() => this.#alive())
      await pull.run(signal)
      // Stopped with the agent: it goes on after the next start.
      const isCutOff = signal.aborted && pull.state === 'cancelled' && !pull.isUnwanted
      if (!isCutOff) await this.#rows.forget(id)
    })
    return pull
  }

  /** Pulls that have not ended, in the order in which they go. */
  #alive(): readonly Pull[] {
    return this.#deps.turns.order.flatMap((id) => this.#pulls.get(id) ?? []).filter(({ over }) => !over)
  }

  #keep(): void {
    this.#tasks?.run('keep the order of pulls', () => this.#rows.keep(() => this.#alive()))
  }

  async #byRepo(): Promise<Map<string, Manifest[]>> {
    const byRepo = new Map<string, Manifest[]>()
    for await (const manifest of this.#deps.records.manifests()) {
      const key = repoKey(manifest.repo)
      byRepo.set(key, [...(byRepo.get(key) ?? []), manifest])
    }
    for (const manifests of byRepo.values()) manifests.sort((a, b) => b.learnedAt - a.learnedAt)
    return byRepo
  }

  async #summary(manifests: readonly Manifest[], held: Held): Promise<ModelSummary> {
    const [newest] = manifests
    if (newest === undefined) throw new Error('a repo without manifests')
    const blobs = new Map<BlobId, FileEntry>()
    for (const { files } of manifests) for (const entry of files) blobs.set(entry.blob, entry)
    const refs = await this.#deps.records.refs(newest.repo)
    const states = newest.files.map((entry) => holding(entry, held))
    return {
      repo: newest.repo,
      // A ref named like a commit only marks a manifest that a peer gave.
      revisions: [...refs]
        .filter(([revision]) => !isCommit(revision))
        .map(([revision, { commit }]): { revision: Revision; commit: typeof commit } => ({
          revision,
          commit,
        })),
      files: newest.files.length,
      completeFiles: states.filter(({ complete }) => complete).length,
      sizeBytes: newest.files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      heldBytes: [...blobs.values()].reduce((sum, entry) => sum + holding(entry, held).heldBytes, 0),
      access: (await this.#deps.records.access(newest.repo)) ?? newest.access,
    }
  }

  #held(): Held {
    return new Map(this.#deps.store.list().map((record) => [record.blob, record]))
  }
}

function holding(entry: FileEntry, held: Held): { readonly heldBytes: number; readonly complete: boolean } {
  const record = held.get(entry.blob)
  return { heldBytes: record?.heldBytes ?? 0, complete: record?.complete ?? false }
}
