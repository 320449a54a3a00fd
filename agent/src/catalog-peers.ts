// Port: what the catalog asks the other hosts, when the Hub cannot be asked or another host is asking it already. A hint of hosts that proved the mesh secret: less
// than the Hub's word, and marked as such.
import type { Commit, PeerId, Repo, Revision } from '@shoal/protocol/ids.ts'
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

export type RevisionTurn =
  /** Another host asked the Hub, which said so at `resolvedAt`, and that the repo is public. */
  | { readonly state: 'told'; readonly commit: Commit; readonly resolvedAt: number }
  /** This host is to ask the Hub, and to say what came of it: exactly one of the two, once. */
  | { readonly state: 'yours'; told(commit: Commit, resolvedAt: number): void; failed(): void }

export type ManifestTurn =
  | { readonly state: 'told'; readonly manifest: Manifest; readonly from: PeerId }
  | { readonly state: 'yours'; told(): void; failed(): void }

/** Asking the Hub once for all hosts of a site. Waits for another host for a bounded time. @throws ShoalError `aborted`, nothing else */
export interface SiteMetadata {
  revision(repo: Repo, revision: Revision, signal: AbortSignal): Promise<RevisionTurn>
  /** Of public repos only. */
  manifest(repo: Repo, commit: Commit, signal: AbortSignal): Promise<ManifestTurn>
  /** That the repo is public is a peer's word, until the Hub says it. */
  hearsay(repo: Repo): void
  /** How long from now what a peer said is compared with the Hub's word. */
  confirmAfterMs(): number
  /** The Hub says something else than this peer did. */
  lied(peer: PeerId, reason: string): void
}
