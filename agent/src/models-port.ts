// Port: models as an operator sees them: pulled, listed, shown, verified, removed.
import type { Commit, Repo, Revision } from '@shoal/protocol/ids.ts'
import type { Access, FileEntry } from '@shoal/protocol/manifest.ts'
import type { TransferCounts } from './downloads-port.ts'

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

export type PullState = 'resolving' | 'running' | 'complete' | 'failed' | 'cancelled'

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
  readonly error: { readonly code: string; readonly message: string } | undefined
}

export interface PullRequest {
  readonly repo: Repo
  readonly revision: Revision
  /** Glob patterns over file paths (`*` also crosses `/`, as in huggingface_hub). Empty `include` means all. */
  readonly include: readonly string[]
  readonly exclude: readonly string[]
}

export interface VerifyResult {
  readonly repo: Repo
  readonly path: string
  readonly ok: boolean
  readonly badChunks: readonly number[]
  readonly bytes: number
}

export interface Models {
  /** Starts a pull in the background, or returns the one already running for the same request. */
  pull(request: PullRequest): PullProgress
  pulls(): readonly PullProgress[]
  pullById(id: string): PullProgress | undefined
  cancelPull(id: string): boolean
  list(): Promise<readonly ModelSummary[]>
  show(repo: Repo): Promise<ModelDetails | undefined>
  /** Removes the repo's view, records and every blob no other repo here uses. Bytes freed. */
  remove(repo: Repo): Promise<{ readonly freedBytes: number; readonly blobs: number }>
  verify(repo: Repo | undefined, signal: AbortSignal): AsyncIterable<VerifyResult>
}
