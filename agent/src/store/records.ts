// Port: what this host knows about commits, kept for ever: manifests and what revisions last resolved to. Files on disk are
// the truth (written whole, synced, renamed); LevelDB is a fast way to them and can be rebuilt.
import type { Commit, Repo, Revision } from '@shoal/protocol/ids.ts'
import type { Access, Manifest } from '@shoal/protocol/manifest.ts'
import type { Service } from '@shoal/protocol/service.ts'

export interface RefRecord {
  readonly commit: Commit
  /** Unix time in milliseconds when the Hub (`origin`) or a peer said so. */
  readonly resolvedAt: number
  readonly from: 'origin' | 'peer'
}

export interface Records extends Service {
  putManifest(manifest: Manifest): Promise<void>
  manifest(repo: Repo, commit: Commit): Promise<Manifest | undefined>
  manifests(): AsyncIterable<Manifest>
  putRef(repo: Repo, revision: Revision, record: RefRecord): Promise<void>
  refs(repo: Repo): Promise<ReadonlyMap<Revision, RefRecord>>
  /** The newest word on who may read a repo: outlives the manifests, which keep what was true when they were made. */
  putAccess(repo: Repo, access: Access): Promise<void>
  access(repo: Repo): Promise<Access | undefined>
  /** Everything about a repo. */
  forget(repo: Repo): Promise<void>
}
