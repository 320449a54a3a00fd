// Port: what the catalog asks the other hosts, when the Hub cannot be asked. A hint of hosts that proved the mesh secret: less
// than the Hub's word, and marked as such.
import type { Commit, Repo, Revision } from '@shoal/protocol/ids.ts'
import type { Manifest } from '@shoal/protocol/manifest.ts'

/** What a peer knows about a revision or commit. `manifest` is of exactly that repo and commit. */
export interface PeerAnswer {
  readonly commit: Commit
  /** Unix time in milliseconds when the Hub said so to whoever asked it. */
  readonly resolvedAt: number
  readonly manifest: Manifest
}

/** Asks the other hosts; undefined when none knows. */
export type AskPeers = (
  repo: Repo,
  revision: Revision | Commit,
  signal: AbortSignal,
) => Promise<PeerAnswer | undefined>
