// Port: models as an operator sees them: pulled, listed, shown, verified, removed.
import type { Commit, Repo, Revision } from '@shoal/protocol/ids.ts'
import type { Access, FileEntry } from '@shoal/protocol/manifest.ts'
import type { TransferCounts } from './downloads-port.ts'
import type { Priority, QueuePlace } from './plan/download-queue.ts'
import type { Efficiency } from './plan/pull-efficiency.ts'
import type { PullPlan } from './plan/pull-plan.ts'

export interface ModelSummary {
  readonly repo: Repo
  readonly revisions: readonly { readonly revision: Revision; readonly commit: Commit }[]
  readonly files: number
  readonly completeFiles: number
  readonly sizeBytes: number
  readonly heldBytes: number
  readonly access: Access
}

export interface ModelDetails extends ModelSummary {
  readonly commits: readonly {
    readonly commit: Commit
    readonly files: readonly (FileEntry & { readonly heldBytes: number; readonly complete: boolean })[]
  }[]
}

/** `queued`: others go first. `paused`: an operator said so, until one says otherwise. */
export type PullState = 'resolving' | 'queued' | 'running' | 'paused' | 'complete' | 'failed' | 'cancelled'

export interface PullProgress extends TransferCounts {
  readonly id: string
  readonly repo: Repo
  readonly revision: Revision
  readonly commit: Commit | undefined
  readonly state: PullState
  readonly files: number
  readonly filesDone: number
  readonly totalBytes: number
  readonly doneBytes: number
  /** Unix times in milliseconds. */
  readonly startedAt: number
  readonly endedAt: number | undefined
  readonly bytesPerSecond: number
  readonly priority: Priority
  /** Its place among the pulls that have not ended, from 1; undefined when it has. */
  readonly place: number | undefined
  /** Peers that hold some of what is arriving now. */
  readonly peers: number
  /** What it was going to do, when that was asked for. */
  readonly planned: PullPlan | undefined
  /** Of a complete one that fetched something. */
  readonly efficiency: Efficiency | undefined
  readonly error: { readonly code: string; readonly message: string } | undefined
}

export interface PullRequest {
  readonly repo: Repo
  readonly revision: Revision
  /** Glob patterns over file paths (`*` also crosses `/`, as in huggingface_hub). Empty `include` means all. */
  readonly include: readonly string[]
  readonly exclude: readonly string[]
}

export interface PullOptions {
  /** By default `pull`. */
  readonly priority?: Exclude<Priority, 'reader'> | undefined
  /** Ask peers at the start what they hold, so that `planned` can be told. */
  readonly plan?: boolean
}

export interface VerifyResult {
  readonly repo: Repo
  readonly path: string
  readonly ok: boolean
  readonly badChunks: readonly number[]
  readonly bytes: number
}

export interface Models {
  /**
   * Starts a pull in the background, or returns the one already under way for the same request and priority; one that is paused
   * goes on.
   */
  pull(request: PullRequest, options?: PullOptions): PullProgress
  /** What a pull would do now. Fetches nothing but the list of files. @throws as the catalog does */
  plan(request: PullRequest, signal: AbortSignal): Promise<PullPlan & { readonly commit: Commit }>
  /** Those that have not ended in the order in which they go, then the others. */
  pulls(): readonly PullProgress[]
  pullById(id: string): PullProgress | undefined
  /** These three: false when it has ended or is not there. */
  cancelPull(id: string): boolean
  /** Nothing more is fetched for it; what has arrived stays. Survives a restart. */
  pausePull(id: string): boolean
  resumePull(id: string): boolean
  /** Moves pulls within their class. @throws ShoalError `not-found` | `conflict` when one of them has ended */
  movePulls(ids: readonly string[], place: QueuePlace): void
  list(): Promise<readonly ModelSummary[]>
  show(repo: Repo): Promise<ModelDetails | undefined>
  /** Removes the repo's view, records and every blob no other repo here uses. Bytes freed. */
  remove(repo: Repo): Promise<{ readonly freedBytes: number; readonly blobs: number }>
  verify(repo: Repo | undefined, signal: AbortSignal): AsyncIterable<VerifyResult>
}
