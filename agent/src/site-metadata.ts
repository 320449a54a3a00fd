// Commits and lists of files, asked of the Hub once for all hosts of a site that want them at once. What another host found is its word:
// believed for public repos only, for a while, and compared with the Hub's afterwards (catalog-manifests.ts).
import { isAbort, messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import { type Commit, isCommit, type PeerId, type Repo, type Revision, repoKey } from '@shoal/protocol/ids.ts'
import { type Clock, deadline, type Random } from '@shoal/protocol/time.ts'
import { z } from 'zod'
import type { ManifestTurn, RevisionTurn, SiteMetadata } from './catalog-peers.ts'
import type { Log } from './log.ts'
import type { Mesh } from './net/mesh.ts'
import { readManifestAnswer } from './peer-manifests.ts'
import { BAN_MS } from './plan/source-score.ts'
import type { SiteTurns } from './site-turns.ts'

/** Clients give up after 10 s. */
const PATIENCE_MS = 5_000
const MANIFEST_MS = 5_000
/** What is found is told for so long; the catalog of each host judges by its own settings. */
const LIFE_MS = 10 * 60_000
const CONFIRM_AFTER_MS = 60_000
/** All hosts of a site together confirm lists of files about this often, however many lists there are: two calls of the API each. */
const CONFIRM_EVERY_MS = 10_000

const foundSchema = z.strictObject({ commit: z.string().refine(isCommit), resolvedAt: z.number().min(0) })

export interface SiteMetadataDeps {
  readonly turns: Pick<SiteTurns, 'take' | 'neighbours'>
  readonly mesh: Pick<Mesh, 'askManifest' | 'ban'>
  readonly hearsay: (repo: Repo) => void
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

export function siteMetadata(deps: SiteMetadataDeps): SiteMetadata {
  const { turns, clock, log } = deps
  let lastConfirm = Number.NEGATIVE_INFINITY

  async function manifestOf(from: PeerId, repo: Repo, commit: Commit, signal: AbortSignal) {
    const late = () => new ShoalError('peer-timeout', `${from} took too long to give a list of files`)
    using limit = deadline(clock, MANIFEST_MS, late, signal)
    try {
      const ask = { repo: repoKey(repo), revision: commit }
      const answer = await deps.mesh.askManifest(from, ask, limit.signal)
      return readManifestAnswer(answer, repo, commit, clock.wallTime())
    } catch (error) {
      if (signal.aborted) throw error
      if (!isAbort(error))
        log.debug({ peer: from, reason: messageOf(error) }, 'a peer had no manifest to give')
      return undefined
    }
  }

  return {
    async revision(repo: Repo, revision: Revision, signal: AbortSignal): Promise<RevisionTurn> {
      const subject = { kind: 'revision', key: `${repoKey(repo)}@${revision}`, patienceMs: PATIENCE_MS }
      const turn = await turns.take(subject, undefined, signal)
      if (turn.state === 'yours')
        return {
          state: 'yours',
          told: (commit, resolvedAt) => turn.told(JSON.stringify({ commit, resolvedAt }), LIFE_MS),
          failed: turn.failed,
        }
      const found = foundSchema.safeParse(parseJson(turn.value))
      if (turn.from === undefined || !found.success || !isCommit(found.data.commit)) return ALONE
      const resolvedAt = Math.min(found.data.resolvedAt, clock.wallTime())
      return { state: 'told', commit: found.data.commit, resolvedAt }
    },
    async manifest(repo: Repo, commit: Commit, signal: AbortSignal): Promise<ManifestTurn> {
      const subject = { kind: 'manifest', key: `${repoKey(repo)}@${commit}`, patienceMs: PATIENCE_MS }
      const turn = await turns.take(subject, undefined, signal)
      if (turn.state === 'yours')
        return { state: 'yours', told: () => turn.told('', LIFE_MS), failed: turn.failed }
      const { from } = turn
      const answer = from === undefined ? undefined : await manifestOf(from, repo, commit, signal)
      if (answer === undefined || from === undefined || answer.manifest.access !== 'public') return ALONE
      return { state: 'told', manifest: answer.manifest, from }
    },
    hearsay: deps.hearsay,
    confirmAfterMs() {
      const apart = CONFIRM_EVERY_MS * (turns.neighbours().length + 1)
      const now = clock.now()
      lastConfirm = Math.max(now + CONFIRM_AFTER_MS, lastConfirm + apart)
      return lastConfirm - now + deps.random.next() * apart
    },
    lied: (peer, reason) => deps.mesh.ban(peer, BAN_MS, reason),
  }
}

const ALONE = { state: 'yours', told: () => {}, failed: () => {} } as const

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
