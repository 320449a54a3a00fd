// One pull: a repo at a revision, its files fetched a few at a time, and what to tell about it. Knows nothing of other pulls.
import { asShoalError, isAbort, messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import type { BlobId, Commit } from '@shoal/protocol/ids.ts'
import type { FileEntry, Manifest } from '@shoal/protocol/manifest.ts'
import { type Clock, throwIfAborted } from '@shoal/protocol/time.ts'
import type { Catalog } from './catalog-port.ts'
import type { BlobProgress, Downloads } from './downloads-port.ts'
import type { PullProgress, PullRequest, PullState } from './models-port.ts'
import { takes } from './plan/file-filter.ts'

/** The rate is measured over about this long. */
const RATE_WINDOW_MS = 4_000
const OPERATOR = { kind: 'operator' } as const

export interface PullDeps {
  readonly catalog: Catalog
  readonly downloads: Downloads
  readonly clock: Clock
  /** Files at a time. */
  readonly concurrency: number
}

export class Pull {
  readonly id: string
  readonly request: PullRequest
  readonly #deps: PullDeps
  readonly #abort = new AbortController()
  readonly #startedAt: number
  readonly #running = new Map<BlobId, BlobProgress>()
  readonly #samples: { readonly at: number; readonly bytes: number }[] = []
  #state: PullState = 'resolving'
  #commit: Commit | undefined
  #files: readonly FileEntry[] = []
  #filesDone = 0
  #done = { bytes: 0, originBytes: 0, peerBytes: 0, diskBytes: 0 }
  #endedAt: number | undefined
  #error: PullProgress['error']
  readonly #ended = Promise.withResolvers<void>()

  constructor(id: string, request: PullRequest, deps: PullDeps) {
    this.id = id
    this.request = request
    this.#deps = deps
    this.#startedAt = deps.clock.wallTime()
  }

  get over(): boolean {
    return this.#endedAt !== undefined
  }

  get state(): PullState {
    return this.#state
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
      this.#state = 'running'
      await this.#fetchAll(manifest, signal)
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
    const { clock } = this.#deps
    let { bytes, originBytes, peerBytes, diskBytes } = this.#done
    for (const blob of this.#running.values()) {
      bytes += blob.heldBytes
      originBytes += blob.originBytes
      peerBytes += blob.peerBytes
      diskBytes += blob.diskBytes
    }
    return {
      id: this.id,
      repo: this.request.repo,
      revision: this.request.revision,
      commit: this.#commit,
      state: this.#state,
      files: this.#files.length,
      filesDone: this.#filesDone,
      totalBytes: this.#files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      doneBytes: bytes,
      originBytes,
      peerBytes,
      diskBytes,
      startedAt: this.#startedAt,
      endedAt: this.#endedAt,
      bytesPerSecond: this.over ? 0 : this.#rate(originBytes + peerBytes, clock.now()),
      error: this.#error,
    }
  }

  /** A few files at a time. The first failure ends the pull once the files under way are done or have failed too. */
  async #fetchAll(manifest: Manifest, signal: AbortSignal): Promise<void> {
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
    const onProgress = (progress: BlobProgress) => this.#running.set(entry.blob, progress)
    try {
      const ended = await this.#deps.downloads.fetch(
        { manifest, entry, caller: OPERATOR, revision },
        { signal, onProgress },
      )
      this.#filesDone++
      this.#add(ended, entry.sizeBytes)
    } finally {
      const last = this.#running.get(entry.blob)
      this.#running.delete(entry.blob)
      if (last !== undefined && last.state !== 'complete') this.#add(last, last.heldBytes)
    }
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

  #rate(bytes: number, now: number): number {
    const samples = this.#samples
    if (now - (samples.at(-1)?.at ?? 0) > 200) samples.push({ at: now, bytes })
    while (samples.length > 1 && now - (samples[0]?.at ?? now) > RATE_WINDOW_MS) samples.shift()
    const [first] = samples
    if (first === undefined || now <= first.at) return 0
    return Math.max(0, Math.round(((bytes - first.bytes) * 1000) / (now - first.at)))
  }

  #fail(code: string, message: string): void {
    this.#error = { code, message }
    this.#end('failed')
  }

  #end(state: PullState): void {
    this.#state = state
    this.#endedAt = this.#deps.clock.wallTime()
    this.#ended.resolve()
  }
}
