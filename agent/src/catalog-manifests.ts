// Manifests by commit: memory, records, the Hub, else a peer. What the Hub said is kept for ever; what a peer said is marked
// as such and compared with the Hub: as soon as it can be asked, or a while after another host of the site asked for all of them.
import { isAbort, messageOf } from '@shoal/protocol/errors.ts'
import {
  type Commit,
  type PeerId,
  parseRevision,
  type Repo,
  type Revision,
  repoKey,
} from '@shoal/protocol/ids.ts'
import type { Manifest } from '@shoal/protocol/manifest.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import { BoundedMap } from './bounded-map.ts'
import { type AccessGate, isDefinite, tokenKey } from './catalog-access.ts'
import type { AskPeers, SiteMetadata } from './catalog-peers.ts'
import { createSingleFlight, outcomeWithin } from './single-flight.ts'
import type { Hub, HubRevision } from './sources/hub.ts'
import type { Records } from './store/records.ts'
import { WeightedCache } from './store/weighted-cache.ts'

/** Files of all manifests kept in memory, some 300 bytes each: more than any one has. Records hold the rest. */
const MAX_FILES_IN_MEMORY = 150_000
/** What a manifest without files counts for. */
const LEAST_WEIGHT = 32
const MAX_INFOS = 256
const MAX_MARKS = 10_000
const MAX_UNCONFIRMED = 256
const CONFIRM_AGAIN_MS = 5 * 60_000

export interface ManifestShelfDeps {
  readonly hub: Pick<Hub, 'revision' | 'tree'>
  readonly records: Pick<Records, 'manifest' | 'putManifest' | 'refs' | 'putRef'>
  readonly clock: Clock
  readonly log: (
    level: 'info' | 'error',
    message: string,
    fields: Readonly<Record<string, string | number | boolean>>,
  ) => void
  readonly gate: Pick<AccessGate, 'learn' | 'learnFromPeer' | 'hear' | 'isHearsay'>
  readonly askPeers: AskPeers
  readonly site: SiteMetadata | undefined
  readonly operatorToken: () => string | undefined
  readonly patienceMs: number
}

export interface ManifestShelf {
  /** From memory or records; asks nobody. */
  recorded(repo: Repo, commit: Commit): Promise<Manifest | undefined>
  /** @throws ShoalError as the Hub's `tree`, when neither records nor peers have it */
  get(repo: Repo, commit: Commit, token: string | undefined, signal: AbortSignal): Promise<Manifest>
  /** The info that came with a resolution: saves asking for it again. */
  noteInfo(repo: Repo, found: HubRevision): void
  takeFromPeer(manifest: Manifest): Promise<void>
  forget(repo: Repo): void
  stop(): Promise<void>
}

export function createManifestShelf(deps: ManifestShelfDeps): ManifestShelf {
  const { hub, records, clock } = deps
  const memory = new WeightedCache<Manifest>(MAX_FILES_IN_MEMORY)
  const remember = (key: string, manifest: Manifest) =>
    memory.set(key, manifest, LEAST_WEIGHT + manifest.files.length)
  const infos = new BoundedMap<string, HubRevision>(MAX_INFOS)
  const peerMarks = new BoundedMap<string, boolean>(MAX_MARKS)
  /** Lists that another host got from the Hub just now, until they have been compared with it. */
  const unconfirmed = new BoundedMap<string, { readonly from: PeerId; readonly cancel: () => void }>(
    MAX_UNCONFIRMED,
  )
  const questions = createSingleFlight<Manifest>()
  const keyOf = (repo: Repo, commit: Commit) => `${repoKey(repo)}@${commit}`

  async function recorded(repo: Repo, commit: Commit): Promise<Manifest | undefined> {
    const key = keyOf(repo, commit)
    const cached = memory.get(key)
    if (cached !== undefined) return cached
    const found = await records.manifest(repo, commit)
    if (found !== undefined) remember(key, found)
    return found
  }

  /** A ref named like the commit itself says where its manifest came from, when that was not the Hub. */
  async function isFromPeer(repo: Repo, commit: Commit): Promise<boolean> {
    const key = keyOf(repo, commit)
    const cached = peerMarks.get(key)
    if (cached !== undefined) return cached
    const marked = (await records.refs(repo)).get(asRevision(commit))?.from === 'peer'
    peerMarks.set(key, marked)
    return marked
  }

  async function mark(repo: Repo, commit: Commit, from: 'origin' | 'peer'): Promise<void> {
    await records.putRef(repo, asRevision(commit), { commit, resolvedAt: clock.wallTime(), from })
    peerMarks.set(keyOf(repo, commit), from === 'peer')
  }

  async function askHub(repo: Repo, commit: Commit, token: string | undefined, signal: AbortSignal) {
    const key = keyOf(repo, commit)
    let facts = infos.get(key)
    if (facts === undefined) {
      facts = await hub.revision(repo, asRevision(commit), { token, signal })
      await deps.gate.learn(repo, facts.access)
    }
    const tree = await hub.tree(repo, commit, { token, signal })
    const manifest: Manifest = {
      repo,
      commit,
      access: facts.access,
      files: tree.files,
      directories: tree.directories,
      info: facts.info,
      learnedAt: clock.wallTime(),
    }
    await records.putManifest(manifest)
    remember(key, manifest)
    if (await isFromPeer(repo, commit)) await mark(repo, commit, 'origin')
    return manifest
  }

  /** From another host of the site that got it just now, else from the Hub. */
  async function ask(repo: Repo, commit: Commit, token: string | undefined, signal: AbortSignal) {
    const turn = await deps.site?.manifest(repo, commit, signal)
    if (turn?.state === 'told' && (await deps.gate.hear(repo)) === 'public') {
      if (deps.gate.isHearsay(repo)) deps.site?.hearsay(repo)
      confirmLater(repo, commit, turn.from, deps.site?.confirmAfterMs() ?? 0)
      await takeFromPeer(turn.manifest, 'public')
      return turn.manifest
    }
    try {
      const manifest = await askHub(repo, commit, token, signal)
      if (turn?.state === 'yours') {
        if (manifest.access === 'public') turn.told()
        else turn.failed()
      }
      return manifest
    } catch (error) {
      if (turn?.state === 'yours') turn.failed()
      throw error
    }
  }

  function confirmLater(repo: Repo, commit: Commit, from: PeerId, afterMs: number): void {
    const key = keyOf(repo, commit)
    const cancel = clock.after(afterMs, () => {
      questions
        .run(`${key} confirm`, (ending) => confirm(repo, commit, from, ending), new AbortController().signal)
        .catch((error: unknown) => {
          if (!isAbort(error) && !isDefinite(error)) confirmLater(repo, commit, from, CONFIRM_AGAIN_MS)
        })
    })
    unconfirmed.get(key)?.cancel()
    unconfirmed.set(key, { from, cancel })
  }

  /** Without a token, as what is public needs none; with the host's own where the origin wants one for everything. */
  async function confirm(repo: Repo, commit: Commit, from: PeerId, signal: AbortSignal): Promise<Manifest> {
    const key = keyOf(repo, commit)
    const told = await recorded(repo, commit)
    const withToken = async (token: string | undefined) => {
      const facts = await hub.revision(repo, asRevision(commit), { token, signal })
      await deps.gate.learn(repo, facts.access)
      noteInfo(repo, facts)
      return askHub(repo, commit, token, signal)
    }
    try {
      const manifest = await withToken(undefined).catch((error: unknown) => {
        if (deps.operatorToken() === undefined || !isDefinite(error)) throw error
        return withToken(deps.operatorToken())
      })
      unconfirmed.delete(key)
      if (told !== undefined && !sameFiles(told, manifest)) blame(repo, commit, from)
      return manifest
    } catch (error) {
      if (isAbort(error) || !isDefinite(error)) throw error
      unconfirmed.delete(key)
      await deps.gate.learn(repo, 'private')
      throw error
    }
  }

  function blame(repo: Repo, commit: Commit, from: PeerId): void {
    deps.log('error', 'a peer gave a list of files that is not the Hub’s', {
      repo: repoKey(repo),
      commit,
      peer: from,
    })
    deps.site?.lied(from, 'its list of files is not the Hub’s')
  }

  function noteInfo(repo: Repo, found: HubRevision): void {
    infos.set(keyOf(repo, found.commit), found)
  }

  async function takeFromPeer(manifest: Manifest, believed?: 'public'): Promise<void> {
    const { repo, commit } = manifest
    if ((await recorded(repo, commit)) !== undefined) return
    const access = believed ?? (await deps.gate.learnFromPeer(repo, manifest.access))
    const taken = { ...manifest, access }
    await mark(repo, commit, 'peer')
    await records.putManifest(taken)
    remember(keyOf(repo, commit), taken)
  }

  return {
    recorded,
    async get(repo, commit, token, signal) {
      const found = await recorded(repo, commit)
      if (found !== undefined && (unconfirmed.get(keyOf(repo, commit)) ?? !(await isFromPeer(repo, commit))))
        return found
      const key = `${keyOf(repo, commit)} ${tokenKey(token)}`
      const asked = found === undefined ? ask : askHub
      const question = questions.run(key, (ending) => asked(repo, commit, token, ending), signal)
      if (found !== undefined) {
        const outcome = await outcomeWithin(question, deps.patienceMs, clock)
        if (outcome.state === 'done') return outcome.value
        if (outcome.state === 'failed' && (isAbort(outcome.error) || isDefinite(outcome.error)))
          throw outcome.error
        return found
      }
      try {
        return await question
      } catch (error) {
        if (isAbort(error) || isDefinite(error)) throw error
        const told = await deps.askPeers(repo, commit, signal)
        if (told === undefined) throw error
        deps.log('info', 'the Hub cannot be asked; a peer gave the list of files', {
          repo: repoKey(repo),
          commit,
          error: messageOf(error),
        })
        await takeFromPeer(told.manifest)
        return (await recorded(repo, commit)) ?? told.manifest
      }
    },
    noteInfo,
    takeFromPeer: (manifest) => takeFromPeer(manifest),
    forget(repo) {
      const prefix = `${repoKey(repo)}@`
      memory.deleteWhere((key) => key.startsWith(prefix))
      infos.deleteWhere((key) => key.startsWith(prefix))
      peerMarks.deleteWhere((key) => key.startsWith(prefix))
      for (const [key, { cancel }] of unconfirmed.entries()) if (key.startsWith(prefix)) cancel()
      unconfirmed.deleteWhere((key) => key.startsWith(prefix))
    },
    stop: () => {
      for (const { cancel } of unconfirmed.values()) cancel()
      return questions.stop()
    },
  }
}

function asRevision(commit: Commit): Revision {
  return parseRevision(commit)
}

function sameFiles(a: Manifest, b: Manifest): boolean {
  const textOf = ({ files, directories }: Manifest) =>
    JSON.stringify([
      files.map(({ path, sizeBytes, blob, oid }) => [path, sizeBytes, blob, oid]).toSorted(byText),
      directories.map(({ path, oid }) => [path, oid]).toSorted(byText),
    ])
  return textOf(a) === textOf(b)
}

function byText(a: readonly (string | number)[], b: readonly (string | number)[]): number {
  return String(a[0]) < String(b[0]) ? -1 : 1
}
