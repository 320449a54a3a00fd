// Which peers may have which blobs. A blob of a public repo is open to every admitted peer; of any other only to a peer that
// shows a grant: its signed statement that its own caller's token passed the Hub's gate. Unknown blobs are refused.
import { type BlobId, type PeerId, type Repo, repoKey } from '@shoal/protocol/ids.ts'
import type { Access, Manifest } from '@shoal/protocol/manifest.ts'
import { grantStatement, type ReadGrant } from '@shoal/protocol/messages.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import type { Signatures } from './vouchers.ts'

const GRANT_LIFETIME_MS = 5 * 60_000
/** Hosts' clocks may differ by this much. */
const CLOCK_TOLERANCE_MS = 15 * 60_000

export interface ReadRightsDeps {
  readonly self: PeerId
  readonly signatures: Signatures
  /** The raw Ed25519 key inside a peer id. */
  readonly publicKeyOf: (peer: PeerId) => Uint8Array | undefined
  readonly clock: Clock
}

export class ReadRights {
  readonly #deps: ReadRightsDeps
  readonly #reposOf = new Map<BlobId, Set<string>>()
  readonly #access = new Map<string, Access>()
  /** Repos that only another host called public. */
  readonly #hearsay = new Set<string>()

  constructor(deps: ReadRightsDeps) {
    this.#deps = deps
  }

  /** A manifest is on record: its blobs may be asked for under its repo's rule. */
  learn(manifest: Manifest): void {
    const key = repoKey(manifest.repo)
    if (!this.#access.has(key)) this.#access.set(key, manifest.access)
    for (const { blob } of manifest.files) {
      const repos = this.#reposOf.get(blob)
      if (repos === undefined) this.#reposOf.set(blob, new Set([key]))
      else repos.add(key)
    }
  }

  /** The newest word on who may read a repo. */
  setAccess(repo: Repo, access: Access): void {
    this.#hearsay.delete(repoKey(repo))
    this.#access.set(repoKey(repo), access)
  }

  /** Another host says that a repo is public. It opens no blob that is also one of a repo which is not. */
  hear(repo: Repo): void {
    this.#hearsay.add(repoKey(repo))
  }

  forget(repo: Repo): void {
    const key = repoKey(repo)
    this.#hearsay.delete(key)
    this.#access.delete(key)
    for (const [blob, repos] of this.#reposOf) {
      repos.delete(key)
      if (repos.size === 0) this.#reposOf.delete(blob)
    }
  }

  isOpen(repo: Repo): boolean {
    return this.#access.get(repoKey(repo)) === 'public'
  }

  /** What this host shows to peers when it asks for files of `manifest`, whose caller has passed the Hub's gate. */
  grantFor(manifest: Manifest): ReadGrant | undefined {
    if (this.isOpen(manifest.repo)) return undefined
    const grant = {
      repo: repoKey(manifest.repo),
      commit: manifest.commit,
      expires: Math.floor(this.#deps.clock.wallTime()) + GRANT_LIFETIME_MS,
    }
    return { ...grant, signature: this.#deps.signatures.sign(grantStatement(this.#deps.self, grant)) }
  }

  mayHaveBlob(peer: PeerId, blob: BlobId, grant: ReadGrant | undefined): boolean {
    const repos = this.#reposOf.get(blob)
    if (repos === undefined) return false
    let heardOpen = false
    let closed = false
    for (const key of repos) {
      const isOpen = this.#access.get(key) === 'public'
      if (isOpen && !this.#hearsay.has(key)) return true
      if (isOpen) heardOpen = true
      else closed = true
    }
    if (heardOpen && !closed) return true
    return grant !== undefined && repos.has(grant.repo) && this.#isGood(peer, grant)
  }

  mayHaveRepo(peer: PeerId, repo: Repo, grant: ReadGrant | undefined): boolean {
    if (this.isOpen(repo)) return true
    return grant !== undefined && grant.repo === repoKey(repo) && this.#isGood(peer, grant)
  }

  #isGood(peer: PeerId, { signature, ...grant }: ReadGrant): boolean {
    const now = this.#deps.clock.wallTime()
    if (grant.expires < now - CLOCK_TOLERANCE_MS) return false
    if (grant.expires > now + GRANT_LIFETIME_MS + CLOCK_TOLERANCE_MS) return false
    const key = this.#deps.publicKeyOf(peer)
    return key !== undefined && this.#deps.signatures.verify(key, grantStatement(peer, grant), signature)
  }
}
