// From (repo, revision) to a commit to its files, for a caller that may know it: memory, records, the Hub, peers, and the
// last known answer when the Hub is away. Asks nobody about a commit on record. Who may read: catalog-access.ts;
// where manifests come from: catalog-manifests.ts.
import { asShoalError, isAbort, ShoalError } from '@shoal/protocol/errors.ts'
import {
  type Commit,
  isCommit,
  parseRevision,
  type Repo,
  type Revision,
  repoKey,
} from '@shoal/protocol/ids.ts'
import { type Access, fileAt, type Manifest } from '@shoal/protocol/manifest.ts'
import { type Clock, deadline } from '@shoal/protocol/time.ts'
import { BoundedMap } from './bounded-map.ts'
import { createAccessGate, isDefinite, tokenKey } from './catalog-access.ts'
import { createManifestShelf } from './catalog-manifests.ts'
import type { AskPeers, PeerAnswer, SiteMetadata } from './catalog-peers.ts'
import type { Caller, Catalog, Resolved } from './catalog-port.ts'
import { createSingleFlight, outcomeWithin } from './single-flight.ts'
import type { Hub } from './sources/hub.ts'
import type { Records, RefRecord } from './store/records.ts'

export interface CatalogSettings {
  /** How long the commit behind a branch or tag is believed before the Hub is asked again. */
  readonly revisionTtlMs: number
  /** How long "not found" and "refused" are repeated to the same caller. */
  readonly negativeTtlMs: number
  /** A passed access check holds so long; while the Hub cannot be asked, `accessGraceMs`. A refused one `refusalTtlMs`. */
  readonly accessTtlMs: number
  readonly accessGraceMs: number
  readonly refusalTtlMs: number
  /** Wait for the Hub before an answer that is at hand is taken instead. Clients give up after 10 s. */
  readonly hubPatienceMs: number
  /** Longest wait for peers. */
  readonly peerPatienceMs: number
}

export const CATALOG_DEFAULTS = {
  negativeTtlMs: 10_000,
  accessTtlMs: 5 * 60_000,
  accessGraceMs: 60 * 60_000,
  refusalTtlMs: 30_000,
  hubPatienceMs: 2_500,
  peerPatienceMs: 2_000,
} as const satisfies Omit<CatalogSettings, 'revisionTtlMs'>

export interface CatalogDeps {
  readonly hub: Pick<Hub, 'revision' | 'tree' | 'authCheck'>
  readonly records: Records
  readonly peers: AskPeers
  /** One question for all hosts of the site; without it each asks for itself. */
  readonly site?: SiteMetadata
  /** The agent's own token, for the operator. */
  readonly operatorToken: () => string | undefined
  readonly clock: Clock
  readonly log: (
    level: 'debug' | 'info' | 'warn' | 'error',
    message: string,
    fields: Readonly<Record<string, string | number | boolean>>,
  ) => void
}

export interface CatalogService extends Catalog {
  /** That the repo is public is another host's word. */
  isHearsay(repo: Repo): boolean
  /** Asks the Hub itself who may read the repo. @throws ShoalError as the Hub's `revision` */
  settle(repo: Repo, commit: Commit, token: string | undefined, signal: AbortSignal): Promise<Access>
  /** Ends questions that go on in the background. */
  stop(): Promise<void>
}

const MAX_REVISIONS = 20_000
const MAX_MISSES = 4_096
/** How long an answer from peers or records is repeated before the Hub is tried again. */
const FALLBACK_TTL_MS = 3_000

interface Known extends RefRecord {
  /** When it was learnt or read, on the monotonic clock; `ageMs` more on the wall clock at that time. */
  readonly at: number
  readonly ageMs: number
  /** Another host of the site asked the Hub, just then. */
  readonly viaSite?: boolean
}

export function createCatalog(
  options: Pick<CatalogSettings, 'revisionTtlMs'> & Partial<CatalogSettings>,
  deps: CatalogDeps,
): CatalogService {
  const settings: CatalogSettings = { ...CATALOG_DEFAULTS, ...options }
  const { clock, hub, records } = deps
  const gate = createAccessGate({ hub, records, clock, settings })
  const shelf = createManifestShelf({
    hub,
    records,
    clock,
    log: deps.log,
    gate,
    askPeers,
    site: deps.site,
    operatorToken: deps.operatorToken,
    patienceMs: settings.hubPatienceMs,
  })
  const lastKnown = new BoundedMap<string, Known>(MAX_REVISIONS)
  const misses = new BoundedMap<string, { readonly error: ShoalError; readonly until: number }>(MAX_MISSES)
  const fallbacks = new BoundedMap<string, { readonly resolved: Resolved; readonly until: number }>(
    MAX_MISSES,
  )
  const questions = createSingleFlight<Resolved>()

  const refKey = (repo: Repo, revision: Revision) => `${repoKey(repo)}@${revision}`
  const tokenOf = (caller: Caller) =>
    (caller.kind === 'operator' ? deps.operatorToken() : caller.token) || undefined

  /** Answers from what we hold; the Hub would let `token` know them. */
  async function mayKnow(repo: Repo, commit: Commit, token: string | undefined, signal: AbortSignal) {
    const access = (await gate.known(repo)) ?? (await shelf.recorded(repo, commit))?.access ?? 'private'
    // The Hub shows everybody what a gated repo holds; only its files are kept back.
    if (access === 'private') await gate.require(repo, access, token, signal)
  }

  async function known(repo: Repo, revision: Revision): Promise<Known | undefined> {
    const key = refKey(repo, revision)
    const cached = lastKnown.get(key)
    if (cached !== undefined) return cached
    const recorded = (await records.refs(repo)).get(revision)
    if (recorded === undefined) return undefined
    // A stamp of the future (a clock that was set back) is as good as an old one.
    const ageMs = clock.wallTime() - recorded.resolvedAt
    const found = { ...recorded, at: clock.now(), ageMs: ageMs < 0 ? Number.POSITIVE_INFINITY : ageMs }
    lastKnown.set(key, found)
    return found
  }

  function isFresh(one: Known): boolean {
    return (
      (one.from === 'origin' || one.viaSite === true) &&
      one.ageMs + clock.now() - one.at < settings.revisionTtlMs
    )
  }

  async function remember(repo: Repo, revision: Revision, record: RefRecord, viaSite = false): Promise<void> {
    const before = await known(repo, revision)
    if (before !== undefined && before.from === 'origin' && before.resolvedAt > record.resolvedAt) return
    const ageMs = Math.max(0, clock.wallTime() - record.resolvedAt)
    lastKnown.set(refKey(repo, revision), { ...record, at: clock.now(), ageMs, viaSite })
    fallbacks.delete(refKey(repo, revision))
    await records.putRef(repo, revision, record)
  }

  async function askHub(
    repo: Repo,
    revision: Revision,
    token: string | undefined,
    signal: AbortSignal,
  ): Promise<Resolved> {
    const resolvedAt = clock.wallTime()
    const missKey = `${refKey(repo, revision)} ${tokenKey(token)}`
    try {
      const found = await hub.revision(repo, revision, { token, signal })
      await gate.learn(repo, found.access)
      if (found.access === 'private') gate.passed(repo, token)
      shelf.noteInfo(repo, found)
      await remember(repo, revision, { commit: found.commit, resolvedAt, from: 'origin' })
      return { commit: found.commit, from: isCommit(revision) ? 'commit' : 'origin', resolvedAt }
    } catch (error) {
      const refusal = asShoalError(error)
      if (refusal !== undefined && isDefinite(refusal)) {
        misses.set(missKey, { error: refusal, until: clock.now() + settings.negativeTtlMs })
        // What was public is gone or hidden: from now on nobody reads it without showing that the Hub lets them.
        const hidden = token === undefined && refusal.details.hubCode === 'RepoNotFound'
        if (hidden && (await gate.known(repo)) !== undefined) await gate.learn(repo, 'private')
      }
      throw error
    }
  }

  /** From another host of the site that asked just now, else from the Hub. A peer is never believed twice in a row. */
  async function ask(
    repo: Repo,
    revision: Revision,
    token: string | undefined,
    own: Known | undefined,
    signal: AbortSignal,
  ): Promise<Resolved> {
    if (deps.site === undefined || own?.from === 'peer') return askHub(repo, revision, token, signal)
    const turn = await deps.site.revision(repo, revision, signal)
    if (turn.state === 'told') {
      const { commit, resolvedAt } = turn
      const isNew = own === undefined || resolvedAt > own.resolvedAt
      const isFresh = clock.wallTime() - resolvedAt < settings.revisionTtlMs
      if (!isNew || !isFresh || (await gate.hear(repo)) !== 'public')
        return askHub(repo, revision, token, signal)
      if (gate.isHearsay(repo)) deps.site.hearsay(repo)
      await remember(repo, revision, { commit, resolvedAt, from: 'peer' }, true)
      return { commit, from: 'peer', resolvedAt }
    }
    try {
      const found = await askHub(repo, revision, token, signal)
      if ((await gate.known(repo)) === 'public') turn.told(found.commit, found.resolvedAt)
      else turn.failed()
      return found
    } catch (error) {
      turn.failed()
      throw error
    }
  }

  async function askPeers(
    repo: Repo,
    revision: Revision | Commit,
    signal: AbortSignal,
  ): Promise<PeerAnswer | undefined> {
    const late = () => new ShoalError('peer-timeout', 'no peer answered in time')
    using limit = deadline(clock, settings.peerPatienceMs, late, signal)
    try {
      const answer = await deps.peers(repo, revision, limit.signal)
      if (answer === undefined || repoKey(answer.manifest.repo) !== repoKey(repo)) return undefined
      if (answer.manifest.commit !== answer.commit || (isCommit(revision) && answer.commit !== revision))
        return undefined
      return { ...answer, resolvedAt: Math.min(answer.resolvedAt, clock.wallTime()) }
    } catch (error) {
      if (signal.aborted) throw error
      return undefined
    }
  }

  /** The Hub is away: what peers know, if it is newer than what we know, else that. */
  async function withoutHub(
    repo: Repo,
    revision: Revision,
    token: string | undefined,
    signal: AbortSignal,
  ): Promise<Resolved | undefined> {
    const own = await known(repo, revision)
    const told = await askPeers(repo, revision, signal)
    if (told !== undefined && (own === undefined || told.resolvedAt > own.resolvedAt)) {
      await gate.learnFromPeer(repo, told.manifest.access)
      await shelf.takeFromPeer(told.manifest)
      await remember(repo, revision, { commit: told.commit, resolvedAt: told.resolvedAt, from: 'peer' })
      await mayKnow(repo, told.commit, token, signal)
      return { commit: told.commit, from: 'peer', resolvedAt: told.resolvedAt }
    }
    if (own === undefined) return undefined
    await mayKnow(repo, own.commit, token, signal)
    deps.log('info', 'the Hub cannot be asked; the last known commit is used', {
      repo: repoKey(repo),
      revision,
      commit: own.commit,
    })
    return { commit: own.commit, from: 'stale', resolvedAt: own.resolvedAt }
  }

  async function resolve(
    repo: Repo,
    revision: Revision,
    caller: Caller,
    signal: AbortSignal,
  ): Promise<Resolved> {
    const token = tokenOf(caller)
    if (isCommit(revision)) {
      const manifest = await shelf.recorded(repo, revision)
      if (manifest !== undefined) {
        await mayKnow(repo, revision, token, signal)
        return { commit: revision, from: 'commit', resolvedAt: manifest.learnedAt }
      }
    }
    const key = refKey(repo, revision)
    const askKey = `${key} ${tokenKey(token)}`
    const miss = misses.get(askKey)
    if (miss !== undefined && clock.now() < miss.until) throw miss.error
    const own = await known(repo, revision)
    if (own !== undefined && isFresh(own)) {
      await mayKnow(repo, own.commit, token, signal)
      return { commit: own.commit, from: 'memory', resolvedAt: own.resolvedAt }
    }
    const recent = fallbacks.get(key)
    if (recent !== undefined && clock.now() < recent.until) {
      await mayKnow(repo, recent.resolved.commit, token, signal)
      return recent.resolved
    }
    const question = questions.run(askKey, (ending) => ask(repo, revision, token, own, ending), signal)
    const outcome = await outcomeWithin(question, settings.hubPatienceMs, clock)
    if (outcome.state === 'done') return outcome.value
    if (outcome.state === 'failed' && (isAbort(outcome.error) || isDefinite(outcome.error)))
      throw outcome.error
    const instead = await withoutHub(repo, revision, token, signal)
    if (instead === undefined) return question
    fallbacks.set(key, { resolved: instead, until: clock.now() + FALLBACK_TTL_MS })
    return instead
  }

  async function manifest(
    repo: Repo,
    revision: Revision,
    caller: Caller,
    signal: AbortSignal,
  ): Promise<Manifest> {
    const { commit } = await resolve(repo, revision, caller, signal)
    return shelf.get(repo, commit, tokenOf(caller), signal)
  }

  return {
    resolve,
    manifest,
    async file(repo, revision, path, caller, signal) {
      const found = await manifest(repo, revision, caller, signal)
      const entry = fileAt(found, path)
      if (entry !== undefined) return { manifest: found, entry }
      throw new ShoalError('file-not-found', 'Entry not found', { commit: found.commit, httpStatus: 404 })
    },
    async checkAccess(of, caller, signal) {
      const access = (await gate.known(of.repo)) ?? of.access
      if (access !== 'public') await gate.require(of.repo, access, tokenOf(caller), signal)
    },
    isHearsay: (repo) => gate.isHearsay(repo),
    async settle(repo, commit, token, signal) {
      const { access } = await hub.revision(repo, parseRevision(commit), { token, signal })
      await gate.learn(repo, access)
      return access
    },
    async known() {
      const all: Manifest[] = []
      for await (const one of records.manifests()) all.push(one)
      return all.sort((a, b) => compareText(repoKey(a.repo), repoKey(b.repo)) || b.learnedAt - a.learnedAt)
    },
    async refs(repo) {
      const found = new Map<Revision, Resolved>()
      for (const [revision, { commit, resolvedAt, from }] of await records.refs(repo)) {
        if (!isCommit(revision)) found.set(revision, { commit, resolvedAt, from })
      }
      return found
    },
    recorded: (repo, commit) => shelf.recorded(repo, commit),
    async forget(repo) {
      const key = repoKey(repo)
      for (const map of [lastKnown, misses, fallbacks]) map.deleteWhere((one) => one.startsWith(`${key}@`))
      shelf.forget(repo)
      gate.forget(repo)
      await records.forget(repo)
    },
    async stop() {
      await Promise.all([questions.stop(), shelf.stop(), gate.stop()])
    },
  }
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
