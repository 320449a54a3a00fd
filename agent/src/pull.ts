// One pull: a repo at a revision, its files fetched a few at a time as its turns come, and what to tell about it. Knows nothing of other pulls.
import { asShoalError, isAbort, messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import type { BlobId, Commit } from '@shoal/protocol/ids.ts'
import type { FileEntry, Manifest } from '@shoal/protocol/manifest.ts'
import { type Clock, throwIfAborted } from '@shoal/protocol/time.ts'
import type { Catalog } from './catalog-port.ts'
import type { DownloadTurns } from './download-turns.ts'
import type { BlobProgress, Downloads, WantedFile } from './downloads-port.ts'
import type { PullOptions, PullProgress, PullRequest, PullState } from './models-port.ts'
import { takes } from './plan/file-filter.ts'
import { type BestRates, type Efficiency, efficiencyOf, TimeAccount } from './plan/pull-efficiency.ts'
import type { PullPlan } from './plan/pull-plan.ts'
import { RecentRate } from './transfer/recent-rate.ts'

const OPERATOR = { kind: 'operator' } as const

export interface PullDeps {
  readonly catalog: Catalog
  readonly downloads: Pick<Downloads, 'fetch' | 'hold'>
  readonly clock: Clock
  /** Shared with all other pulls. */
  readonly turns: DownloadTurns
  /** Files of one pull at a time. */
  readonly concurrency: number
  /** What fetching these files would do. Never rejects; when the signal fires, says what it knows by then. */
  readonly planOf: (manifest: Manifest, files: readonly FileEntry[], signal: AbortSignal) => Promise<PullPlan>
  readonly bestRates: () => BestRates
}

type Phase = 'resolving' | 'fetching' | 'complete' | 'failed' | 'cancelled'

export class Pull {
  readonly id: string
  readonly request: PullRequest
  readonly priority: NonNullable<PullOptions['priority']>
  readonly #deps: PullDeps
  readonly #wantsPlan: boolean
  readonly #abort = new AbortController()
  readonly #startedAt: number
  /** Last word on each file that is being fetched or was when the pull was paused. */
  readonly #running = new Map<BlobId, BlobProgress>()
  readonly #fetching = new Map<BlobId, WantedFile>()
  readonly #holds = new Map<BlobId, () => void>()
  readonly #rate = new RecentRate()
  readonly #time: TimeAccount
  readonly #ended = Promise.withResolvers<void>()
  #pausing = new AbortController()
  #phase: Phase = 'resolving'
  #commit: Commit | undefined
  #files: readonly FileEntry[] = []
  #filesDone = 0
  #done = { bytes: 0, originBytes: 0, peerBytes: 0, diskBytes: 0 }
  #accountedBytes = 0
  #planned: PullPlan | undefined
  #efficiency: Efficiency | undefined
  #endedAt: number | undefined
  #error: PullProgress['error']

  /** Takes its place in the queue at once. */
  constructor(
    id: string,
    request: PullRequest,
    deps: PullDeps,
    options: PullOptions & { readonly paused?: boolean } = {},
  ) {
    this.id = id
    this.request = request
    this.priority = options.priority ?? 'pull'
    this.#deps = deps
    this.#wantsPlan = options.plan ?? false
    this.#startedAt = deps.clock.wallTime()
    this.#time = new TimeAccount(deps.clock.now())
    deps.turns.add(id, this.priority, options.paused ?? false)
  }

  get over(): boolean {
    return this.#endedAt !== undefined
  }

  get paused(): boolean {
    return this.#deps.turns.isPaused(this.id)
  }

  get state(): PullState {
    if (this.over) return this.#phase as PullState
    if (this.paused) return 'paused'
    if (this.#phase !== 'fetching') return 'resolving'
    return this.#deps.turns.runningOf(this.id) === 0 ? 'queued' : 'running'
  }

  /** Its operator does not want it any more. */
  get isUnwanted(): boolean {
    return this.#abort.signal.aborted
  }

  /** Resolves when it has ended, however. */
  get ended(): Promise<void> {
    return this.#ended.promise
  }

  cancel(): void {
    this.#abort.abort(new ShoalError('aborted', 'the pull was cancelled'))
  }

  /** Nothing more is fetched for it. What has arrived stays, and peers may have it. False when it has ended or is paused. */
  pause(): boolean {
    if (this.over || !this.#deps.turns.setPaused(this.id, true)) return false
    // Before the fetches are given up: so that no download ends in between.
    for (const [blob, file] of this.#fetching) this.#hold(blob, this.#deps.downloads.hold(file))
    const pausing = this.#pausing
    this.#pausing = new AbortController()
    pausing.abort(new ShoalError('aborted', 'the pull was paused'))
    this.#account()
    return true
  }

  /** False when it has ended or is not paused. */
  resume(): boolean {
    if (this.over || !this.#deps.turns.setPaused(this.id, false)) return false
    this.#account()
    return true
  }

  /** Runs to its end. Never rejects for what the Hub, peers or disk do: that is in {@link progress}. */
  async run(stop: AbortSignal): Promise<void> {
    const signal = AbortSignal.any([stop, this.#abort.signal])
    const { catalog } = this.#deps
    const { repo, revision } = this.request
    try {
      const manifest = await catalog.manifest(repo, revision, OPERATOR, signal)
      this.#commit = manifest.commit
      await catalog.checkAccess(manifest, OPERATOR, signal)
      this.#files = manifest.files.filter(({ path }) => takes(this.request, path))
      if (this.#files.length === 0 && manifest.files.length > 0)
        throw new ShoalError('file-not-found', `no file of ${repo.id} matches the patterns`)
      this.#phase = 'fetching'
      await this.#fetchPlanned(manifest, signal)
      this.#end('complete')
    } catch (error) {
      if (isAbort(error) || signal.aborted) return this.#end('cancelled')
      const known = asShoalError(error)
      if (known === undefined) {
        this.#fail('internal', messageOf(error))
        throw error
      }
      this.#fail(known.code, known.message)
    }
  }

  progress(): PullProgress {
    const { clock, turns } = this.#deps
    let { bytes, originBytes, peerBytes, diskBytes } = this.#done
    let peers = 0
    for (const blob of this.#running.values()) {
      bytes += blob.heldBytes
      originBytes += blob.originBytes
      peerBytes += blob.peerBytes
      diskBytes += blob.diskBytes
      peers = Math.max(peers, blob.peers)
    }
    const { state } = this
    const rate = this.#rate.at(originBytes + peerBytes, clock.now())
    const place = turns.order.indexOf(this.id)
    return {
      id: this.id,
      repo: this.request.repo,
      revision: this.request.revision,
      commit: this.#commit,
      state,
      files: this.#files.length,
      filesDone: this.#filesDone,
      totalBytes: this.#files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      doneBytes: bytes,
      originBytes,
      peerBytes,
      diskBytes,
      startedAt: this.#startedAt,
      endedAt: this.#endedAt,
      bytesPerSecond: state === 'running' ? rate : 0,
      priority: this.priority,
      place: place === -1 ? undefined : place + 1,
      peers: state === 'running' ? peers : 0,
      planned: this.#planned,
      efficiency: this.#efficiency,
      error: this.#error,
    }
  }

  /** The plan is made beside the fetching: nothing waits for it, and it looks at the disk first. */
  async #fetchPlanned(manifest: Manifest, signal: AbortSignal): Promise<void> {
    const enough = new AbortController()
    const planning = this.#wantsPlan
      ? this.#deps.planOf(manifest, this.#files, AbortSignal.any([signal, enough.signal]))
      : undefined
    try {
      await this.#fetchAll(manifest, signal)
    } finally {
      enough.abort()
      this.#planned = await planning
    }
  }

  /** A few files at a time. The first failure ends the pull once the files under way are done or have failed too. */
  async #fetchAll(manifest: Manifest, signal: AbortSignal): Promise<void> {
    this.#account()
    // Files that share a blob (the same content under two names) are fetched once and shown twice, one after the other.
    const queue = [...Map.groupBy(this.#files, ({ blob }) => blob).values()]
    let failure: unknown
    const worker = async () => {
      for (let same = queue.shift(); same !== undefined && failure === undefined; same = queue.shift()) {
        try {
          for (const entry of same) await this.#fetchOne(manifest, entry, signal)
        } catch (error) {
          failure ??= error
        }
      }
    }
    await Promise.all(Array.from({ length: Math.min(this.#deps.concurrency, queue.length) }, worker))
    throwIfAborted(signal)
    if (failure !== undefined) throw failure
  }

  async #fetchOne(manifest: Manifest, entry: FileEntry, signal: AbortSignal): Promise<void> {
    const { revision } = this.request
    const { turns, downloads } = this.#deps
    const file: WantedFile = { manifest, entry, caller: OPERATOR, revision }
    const onProgress = (progress: BlobProgress) => {
      this.#running.set(entry.blob, progress)
      this.#account()
    }
    try {
      for (;;) {
        const endTurn = await turns.take(this.id, signal)
        const pausing = this.#pausing.signal
        try {
          // It may have been paused in the moment in which its turn came.
          if (this.paused) continue
          this.#fetching.set(entry.blob, file)
          this.#account()
          const both = AbortSignal.any([signal, pausing])
          const fetching = downloads.fetch(file, { signal: both, priority: this.priority, onProgress })
          this.#release(entry.blob)
          const ended = await fetching
          this.#filesDone++
          this.#add(ended, entry.sizeBytes)
          return
        } catch (error) {
          if (signal.aborted || !pausing.aborted) throw error
        } finally {
          this.#fetching.delete(entry.blob)
          endTurn()
          this.#account()
        }
      }
    } finally {
      this.#release(entry.blob)
      const last = this.#running.get(entry.blob)
      this.#running.delete(entry.blob)
      if (last !== undefined && last.state !== 'complete') this.#add(last, last.heldBytes)
    }
  }

  #hold(blob: BlobId, release: () => void): void {
    this.#release(blob)
    this.#holds.set(blob, release)
  }

  #release(blob: BlobId): void {
    this.#holds.get(blob)?.()
    this.#holds.delete(blob)
  }

  #add(blob: BlobProgress, bytes: number): void {
    this.#done = {
      bytes: this.#done.bytes + bytes,
      originBytes: this.#done.originBytes + blob.originBytes,
      peerBytes: this.#done.peerBytes + blob.peerBytes,
      diskBytes: this.#done.diskBytes + blob.diskBytes,
    }
    if (blob.state === 'complete') this.#running.delete(blob.blob)
  }

  /** What goes on from now on, and what came since that was last said. */
  #account(): void {
    if (this.over) return
    const { originBytes, peerBytes } = this.#fetched()
    const bytes = originBytes + peerBytes
    const doing = [...this.#running.values()].map((blob) => blob.doing)
    const waits = this.paused || (this.#phase === 'fetching' && this.#fetching.size === 0)
    const now = this.#deps.clock.now()
    this.#time.note(
      waits ? 'waiting' : this.#phase === 'resolving' ? 'asking' : doing,
      Math.max(0, bytes - this.#accountedBytes),
      now,
    )
    this.#accountedBytes = bytes
  }

  #fetched(): { readonly originBytes: number; readonly peerBytes: number } {
    let { originBytes, peerBytes } = this.#done
    for (const blob of this.#running.values()) {
      originBytes += blob.originBytes
      peerBytes += blob.peerBytes
    }
    return { originBytes, peerBytes }
  }

  #fail(code: string, message: string): void {
    this.#error = { code, message }
    this.#end('failed')
  }

  #end(phase: 'complete' | 'failed' | 'cancelled'): void {
    this.#account()
    this.#phase = phase
    this.#endedAt = this.#deps.clock.wallTime()
    if (phase === 'complete')
      this.#efficiency = efficiencyOf(this.#time, this.#fetched(), this.#deps.bestRates())
    this.#deps.turns.remove(this.id)
    this.#ended.resolve()
  }
}
