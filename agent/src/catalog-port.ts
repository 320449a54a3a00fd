// Port: from (repo, revision) to a commit, to its files. Resolves a revision once per question, keeps manifests for
// ever, remembers misses briefly, answers offline, and holds every caller to what the Hub would let them read.
import type { Commit, FilePath, Repo, Revision } from '@shoal/protocol/ids.ts'
import type { FileEntry, Manifest } from '@shoal/protocol/manifest.ts'

/** On whose behalf something is asked. */
export type Caller =
  /** An HTTP client: its own Hub token, or none. The agent's token is never used for it. */
  | { readonly kind: 'client'; readonly token: string | undefined }
  /** The host's operator, over the CLI: the agent's own token. */
  | { readonly kind: 'operator' }

export interface Resolved {
  readonly commit: Commit
  /** Where the answer came from. `stale`: the Hub could not be asked and this is the last known one. */
  readonly from: 'commit' | 'origin' | 'peer' | 'memory' | 'stale'
  /** Unix time in milliseconds when the Hub said so. */
  readonly resolvedAt: number
}

export interface Catalog {
  /** @throws ShoalError `repo-not-found` | `repo-gated` | `revision-not-found` | `origin-*` */
  resolve(repo: Repo, revision: Revision, caller: Caller, signal: AbortSignal): Promise<Resolved>
  /** All files of a commit. @throws as `resolve` */
  manifest(repo: Repo, revision: Revision, caller: Caller, signal: AbortSignal): Promise<Manifest>
  /** One file. @throws as `resolve`, and `file-not-found` with `details.commit` */
  file(
    repo: Repo,
    revision: Revision,
    path: FilePath,
    caller: Caller,
    signal: AbortSignal,
  ): Promise<{ readonly manifest: Manifest; readonly entry: FileEntry }>
  /**
   * Throws what the Hub would say if `caller` may not read files of `repo`; resolves if it may. Public repos pass at once,
   * others by a short-lived verdict per token, refreshed at the Hub.
   * @throws ShoalError `repo-gated` | `repo-not-found` | `unauthorized` | `origin-*`
   */
  checkAccess(manifest: Manifest, caller: Caller, signal: AbortSignal): Promise<void>
  /** Manifests on record, newest first per repo. */
  known(): Promise<readonly Manifest[]>
  /** Commits that revisions of a repo last resolved to. */
  refs(repo: Repo): Promise<ReadonlyMap<Revision, Resolved>>
  /** A manifest on record by exact commit, whoever may read it; asks nobody. For internal use. */
  recorded(repo: Repo, commit: Commit): Promise<Manifest | undefined>
  forget(repo: Repo): Promise<void>
}
