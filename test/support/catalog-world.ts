// A catalog with virtual time, a Hub and peers that answer as a test tells them, and records in memory.
import assert from 'node:assert/strict'
import { createCatalog } from '@shoal/agent/catalog.ts'
import type { PeerAnswer, SiteMetadata } from '@shoal/agent/catalog-peers.ts'
import type { Caller } from '@shoal/agent/catalog-port.ts'
import type { Hub, HubRevision } from '@shoal/agent/sources/hub.ts'
import type { Records, RefRecord } from '@shoal/agent/store/records.ts'
import { type ErrorCode, ShoalError } from '@shoal/protocol/errors.ts'
import {
  type Commit,
  parseBlobId,
  parseCommit,
  parseFilePath,
  parseRepoSpec,
  parseRevision,
  type Repo,
  type Revision,
  repoKey,
} from '@shoal/protocol/ids.ts'
import type { Access, Manifest } from '@shoal/protocol/manifest.ts'
import { virtualClock } from './virtual-clock.ts'

export const REPO = parseRepoSpec('org/model').repo
export const MAIN = parseRevision('main')
export const C1 = parseCommit('1'.repeat(40))
export const C2 = parseCommit('2'.repeat(40))
export const ANON: Caller = { kind: 'client', token: undefined }
export const ALICE: Caller = { kind: 'client', token: 'hf_alice' }
export const BOB: Caller = { kind: 'client', token: 'hf_bob' }
export const OPERATOR: Caller = { kind: 'operator' }
export const TTL = 60_000
export const signal = new AbortController().signal
export const path = parseFilePath('a.txt')
export const FILES = [
  { path, sizeBytes: 5, blob: parseBlobId(`git-sha1:${'a'.repeat(40)}`), oid: 'a'.repeat(40) },
]

export function memoryRecords() {
  const manifests = new Map<string, Manifest>()
  const refs = new Map<string, Map<Revision, RefRecord>>()
  const access = new Map<string, Access>()
  const records: Records = {
    name: 'records',
    start: async () => {},
    stop: async () => {},
    putManifest: async (one) => void manifests.set(`${repoKey(one.repo)}@${one.commit}`, one),
    manifest: async (repo, commit) => manifests.get(`${repoKey(repo)}@${commit}`),
    async *manifests() {
      yield* manifests.values()
    },
    async putRef(repo, revision, record) {
      const known = refs.get(repoKey(repo)) ?? new Map<Revision, RefRecord>()
      refs.set(repoKey(repo), known.set(revision, record))
    },
    refs: async (repo) => refs.get(repoKey(repo)) ?? new Map(),
    putAccess: async (repo, one) => void access.set(repoKey(repo), one),
    access: async (repo) => access.get(repoKey(repo)),
    async forget(repo) {
      refs.delete(repoKey(repo))
      access.delete(repoKey(repo))
      for (const key of manifests.keys()) if (key.startsWith(`${repoKey(repo)}@`)) manifests.delete(key)
    },
  }
  return { records, manifests, refs, access }
}

type HubState = 'up' | 'down' | 'silent'

export function setUp(
  options: { records?: ReturnType<typeof memoryRecords>; ttl?: number; site?: SiteMetadata } = {},
) {
  const clock = virtualClock()
  const store = options.records ?? memoryRecords()
  const asked: string[] = []
  const world = {
    state: 'up' as HubState,
    commit: C1 as Commit,
    access: 'public' as Access,
    /** Tokens that may see a private repo or read a gated one. */
    readers: new Set<string | undefined>(['hf_alice', 'hf_operator']),
    missing: false,
    peer: undefined as PeerAnswer | undefined,
    peerHangs: false,
    files: FILES,
  }
  const answer = async <T>(
    what: string,
    token: string | undefined,
    ending: AbortSignal,
    value: () => T,
  ): Promise<T> => {
    asked.push(`${what} ${token ?? '-'}`)
    if (world.state === 'down') throw new ShoalError('origin-unreachable', 'down')
    if (world.state === 'silent')
      await new Promise((_, reject) => ending.addEventListener('abort', () => reject(ending.reason)))
    return value()
  }
  const refuse = (code: ErrorCode, httpStatus: number, hubCode: string) => {
    throw new ShoalError(code, code, { httpStatus, hubCode })
  }
  const see = (token: string | undefined) => {
    if (world.missing || (world.access === 'private' && !world.readers.has(token)))
      refuse('repo-not-found', token === undefined ? 401 : 404, 'RepoNotFound')
  }
  const hub: Pick<Hub, 'revision' | 'tree' | 'authCheck'> = {
    revision: (_repo, revision, request) =>
      answer(`revision ${revision.slice(0, 6)}`, request.token, request.signal, (): HubRevision => {
        see(request.token)
        if (revision === 'none') refuse('revision-not-found', 404, 'RevisionNotFound')
        const commit = /^[0-9a-f]{40}$/.test(revision) ? parseCommit(revision) : world.commit
        return { commit, access: world.access, info: { id: 'org/model', sha: commit } }
      }),
    tree: (_repo, commit, request) =>
      answer(`tree ${commit.slice(0, 3)}`, request.token, request.signal, () => {
        see(request.token)
        return { files: world.files, directories: [] }
      }),
    authCheck: (_repo, request) =>
      answer('auth', request.token, request.signal, () => {
        see(request.token)
        if (world.access === 'gated' && !world.readers.has(request.token))
          refuse('repo-gated', request.token === undefined ? 401 : 403, 'GatedRepo')
      }),
  }
  const peersAsked: string[] = []
  const catalog = createCatalog(
    { revisionTtlMs: options.ttl ?? TTL },
    {
      hub,
      records: store.records,
      peers: async (_repo, revision, ending) => {
        peersAsked.push(revision)
        if (world.peerHangs)
          await new Promise((_, reject) => ending.addEventListener('abort', () => reject(ending.reason)))
        return world.peer
      },
      ...(options.site === undefined ? {} : { site: options.site }),
      operatorToken: () => 'hf_operator',
      clock,
      log: () => {},
    },
  )
  /** Runs time on until the promise settles. */
  async function wait<T>(promise: Promise<T>, stepMs = 100, maxMs = 30_000): Promise<T> {
    let open = true
    const end = promise.then(
      () => (open = false),
      () => (open = false),
    )
    for (let passed = 0; open && passed < maxMs; passed += stepMs) await clock.advance(stepMs)
    assert.ok(!open, 'it never settles')
    await end
    return promise
  }
  const peerAnswer = (commit: Commit, resolvedAt: number, access: Access = 'public'): PeerAnswer => ({
    commit,
    resolvedAt,
    manifest: manifestOf(commit, access),
  })
  return { clock, catalog, asked, world, store, peersAsked, wait, peerAnswer }
}

export function manifestOf(commit: Commit, access: Access = 'public', repo: Repo = REPO): Manifest {
  return { repo, commit, access, files: FILES, directories: [], info: {}, learnedAt: 5 }
}

export const code = (wanted: ErrorCode, httpStatus?: number) => (error: unknown) => {
  assert.ok(error instanceof ShoalError, String(error))
  assert.equal(error.code, wanted, error.message)
  if (httpStatus !== undefined) assert.equal(error.details.httpStatus, httpStatus)
  return true
}
