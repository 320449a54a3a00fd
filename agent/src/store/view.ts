// Port: the Hub view, a directory that is a valid HF_HUB_CACHE (hub-protocol note 1.11): blobs by hard link, snapshots by
// relative symlink, refs. The one place where names from outside become paths, through one checked function.
import type { Commit, FilePath, Repo, Revision } from '@shoal/protocol/ids.ts'
import type { FileEntry, Manifest } from '@shoal/protocol/manifest.ts'
import type { Service } from '@shoal/protocol/service.ts'

export interface HubView extends Service {
  /** What HF_HUB_CACHE is to be set to. */
  readonly path: string
  /** Shows a complete blob as a file of a commit: hard link in `blobs`, then the symlink in `snapshots`. Idempotent. */
  link(repo: Repo, commit: Commit, entry: FileEntry): Promise<void>
  /** Takes a file away, its blob too: what it shows must not be used any more. Other commits of it: {@link restore}. */
  unlink(repo: Repo, commit: Commit, entry: FileEntry): Promise<void>
  /** Writes `refs/<revision>` (no newline). Only after the snapshot directory exists; otherwise creates it first. */
  setRef(repo: Repo, revision: Revision, commit: Commit): Promise<void>
  /** A known 404: an empty file under `.no_exist`. Never the first thing written for a commit: then it does nothing. */
  setMissing(repo: Repo, commit: Commit, path: FilePath): Promise<void>
  /** Removes a repo from the view. */
  remove(repo: Repo): Promise<void>
  /**
   * Restores links of complete blobs that a user or a crash took away. Links of others that lead nowhere are removed:
   * one of them makes Hub clients call the whole repo corrupted.
   */
  restore(manifest: Manifest, isComplete: (entry: FileEntry) => boolean): Promise<void>
}
