// Asking peers for a manifest when the Hub cannot be asked. What a peer says is its word only: it is used because the mesh lets
// in only its own hosts, and every file still has to match the digests in it. The newest answer wins.
import { isAbort, messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import { type Commit, isCommit, type Repo, type Revision, repoKey } from '@shoal/protocol/ids.ts'
import { type Manifest, manifestSchema } from '@shoal/protocol/manifest.ts'
import type { ManifestAnswer } from '@shoal/protocol/messages.ts'
import { type Clock, deadline, throwIfAborted } from '@shoal/protocol/time.ts'
import type { Log } from './log.ts'
import type { Mesh } from './net/mesh.ts'

const MAX_ASKED = 8
const TIMEOUT_MS = 5_000

export interface PeerManifest {
  readonly commit: Commit
  /** When the Hub said so to that peer, Unix milliseconds; when the manifest was learnt, for a bare commit. */
  readonly resolvedAt: number
  readonly manifest: Manifest
}

export interface PeerManifestsDeps {
  readonly mesh: Pick<Mesh, 'peers' | 'askManifest'>
  readonly clock: Clock
  readonly log: Log
}

/** The newest manifest that a peer has for a revision or commit; undefined when none has one. @throws ShoalError `aborted`, nothing else */
export async function askPeersForManifest(
  deps: PeerManifestsDeps,
  repo: Repo,
  revision: Revision | Commit,
  signal: AbortSignal,
): Promise<PeerManifest | undefined> {
  using limit = deadline(
    deps.clock,
    TIMEOUT_MS,
    () => new ShoalError('peer-timeout', 'peers took too long to say what they know'),
    signal,
  )
  const peers = deps.mesh.peers().slice(0, MAX_ASKED)
  const answers = await Promise.all(
    peers.map(async ({ peer }) => {
      try {
        const answer = await deps.mesh.askManifest(peer, { repo: repoKey(repo), revision }, limit.signal)
        return readManifestAnswer(answer, repo, revision, deps.clock.wallTime())
      } catch (error) {
        if (!isAbort(error))
          deps.log.debug({ peer, reason: messageOf(error) }, 'a peer had no manifest to give')
        return undefined
      }
    }),
  )
  throwIfAborted(signal)
  let newest: PeerManifest | undefined
  for (const answer of answers) {
    if (answer !== undefined && (newest === undefined || answer.resolvedAt > newest.resolvedAt))
      newest = answer
  }
  return newest
}

/** A peer's answer, checked. undefined: it has none. @throws ShoalError `bad-message` */
export function readManifestAnswer(
  answer: ManifestAnswer,
  repo: Repo,
  revision: string,
  wallTime: number,
): PeerManifest | undefined {
  if (!answer.found || answer.manifest === undefined || answer.commit === undefined) return undefined
  const parsed = manifestSchema.safeParse(parseJson(answer.manifest))
  if (!parsed.success) throw new ShoalError('bad-message', 'a peer sent a manifest that is none')
  const manifest = parsed.data
  const fits =
    repoKey(manifest.repo) === repoKey(repo) &&
    manifest.commit === answer.commit &&
    (!isCommit(revision) || revision === manifest.commit)
  if (!fits) throw new ShoalError('bad-message', 'a peer sent the manifest of something else')
  // Nobody can know what the Hub is going to say: a stamp from the future must not win over everything that comes later.
  const resolvedAt = Math.min(answer.resolvedAt ?? manifest.learnedAt, wallTime)
  return { commit: manifest.commit, resolvedAt, manifest }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new ShoalError('bad-message', 'a peer sent a manifest that is no JSON', {}, error)
  }
}
