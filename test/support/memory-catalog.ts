// A Catalog whose Hub is a map in memory: repos with files, who may read them, and tokens. Refuses as the Hub does, with the
// Hub's statuses. Counts what it was asked.
import type { Caller, Catalog, Resolved } from '@shoal/agent/catalog-port.ts'
import { blobDigest } from '@shoal/agent/hashing.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
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
import { type Access, type FileEntry, fileAt, type Manifest } from '@shoal/protocol/manifest.ts'

export interface MemoryFile {
  readonly bytes: Uint8Array
  /** Stored by Git LFS: named by SHA-256, with a pointer in git. */
  readonly lfs?: boolean
}

export interface MemoryRepo {
  readonly spec: string
  readonly access?: Access
  readonly files: Readonly<Record<string, MemoryFile>>
  readonly revisions?: readonly string[]
  readonly info?: Readonly<Record<string, unknown>>
}

export const GOOD_TOKEN = 'hf_good'
export const BAD_TOKEN = 'hf_bad'
/** Valid, but not on any list. */
export const STRANGER_TOKEN = 'hf_stranger'

interface Entry {
  readonly manifest: Manifest
  readonly revisions: ReadonlySet<string>
  readonly contents: ReadonlyMap<string, Uint8Array>
}

export class MemoryCatalog implements Catalog {
  readonly #repos = new Map<string, Entry>()
  readonly asked = { manifests: 0, checks: 0 }
  /** Thrown by everything, as when the Hub cannot be asked and nothing is on record. */
  down: ShoalError | undefined

  add({ spec, access = 'public', files, revisions = ['main', 'HEAD'], info = {} }: MemoryRepo): Manifest {
    const { repo } = parseRepoSpec(spec)
    const contents = new Map<string, Uint8Array>()
    const entries = Object.entries(files).map(([path, file]): FileEntry => {
      const entry = toEntry(path, file)
      contents.set(entry.blob, file.bytes)
      return entry
    })
    const directories = new Set(
      entries.flatMap(({ path }) =>
        path
          .split('/')
          .slice(0, -1)
          .map((_, depth, parts) => parts.slice(0, depth + 1).join('/')),
      ),
    )
    const manifest: Manifest = {
      repo,
      commit: parseCommit(blobDigest('git-sha1', Buffer.from(spec))),
      access,
      files: entries,
      directories: [...directories].map((path) => ({ path: parseFilePath(path), oid: 'd'.repeat(40) })),
      info: { id: repo.id, lastModified: '2026-01-02T03:04:05.000Z', ...info },
      learnedAt: 1_700_000_000_000,
    }
    this.#repos.set(repoKey(repo), { manifest, revisions: new Set(revisions), contents })
    return manifest
  }

  bytesOf(entry: FileEntry): Uint8Array {
    for (const { contents } of this.#repos.values()) {
      const bytes = contents.get(entry.blob)
      if (bytes !== undefined) return bytes
    }
    throw new Error(`no bytes of ${entry.blob}`)
  }

  async resolve(repo: Repo, revision: Revision, caller: Caller): Promise<Resolved> {
    const { manifest } = this.#find(repo, revision, caller)
    return { commit: manifest.commit, from: 'origin', resolvedAt: manifest.learnedAt }
  }

  async manifest(repo: Repo, revision: Revision, caller: Caller): Promise<Manifest> {
    this.asked.manifests += 1
    return this.#find(repo, revision, caller).manifest
  }

  async file(repo: Repo, revision: Revision, path: FileEntry['path'], caller: Caller) {
    const { manifest } = this.#find(repo, revision, caller)
    const entry = fileAt(manifest, path)
    if (entry === undefined) throw new ShoalError('file-not-found', `no ${path}`, { commit: manifest.commit })
    return { manifest, entry }
  }

  async checkAccess(manifest: Manifest, caller: Caller): Promise<void> {
    this.asked.checks += 1
    if (manifest.access === 'public') return
    refuseUnlisted(manifest, caller)
  }

  async known(): Promise<readonly Manifest[]> {
    return [...this.#repos.values()].map(({ manifest }) => manifest)
  }

  async refs(repo: Repo): Promise<ReadonlyMap<Revision, Resolved>> {
    const entry = this.#repos.get(repoKey(repo))
    const resolved = (commit: Commit): Resolved => ({ commit, from: 'memory', resolvedAt: 0 })
    return new Map(
      [...(entry?.revisions ?? [])].map((name) => [
        parseRevision(name),
        resolved(entry?.manifest.commit as Commit),
      ]),
    )
  }

  async recorded(repo: Repo, commit: Commit): Promise<Manifest | undefined> {
    const manifest = this.#repos.get(repoKey(repo))?.manifest
    return manifest?.commit === commit ? manifest : undefined
  }

  async forget(repo: Repo): Promise<void> {
    this.#repos.delete(repoKey(repo))
  }

  #find(repo: Repo, revision: Revision, caller: Caller): Entry {
    if (this.down !== undefined) throw this.down
    const entry = this.#repos.get(repoKey(repo))
    const token = tokenOf(caller)
    if (entry === undefined)
      throw new ShoalError('repo-not-found', 'Repository not found', {
        httpStatus: token === undefined ? 401 : 404,
      })
    if (entry.manifest.access === 'private') refuseUnlisted(entry.manifest, caller)
    if (!entry.revisions.has(revision) && revision !== (entry.manifest.commit as string))
      throw new ShoalError('revision-not-found', `Invalid rev id: ${revision}`, { httpStatus: 404 })
    return entry
  }
}

function refuseUnlisted(manifest: Manifest, caller: Caller): void {
  const token = tokenOf(caller)
  if (token === GOOD_TOKEN) return
  if (token === BAD_TOKEN) throw new ShoalError('unauthorized', 'bad token', { httpStatus: 401 })
  if (manifest.access === 'private')
    throw new ShoalError('repo-not-found', 'Repository not found', {
      httpStatus: token === undefined ? 401 : 404,
    })
  throw new ShoalError('repo-gated', 'Access to this model is restricted.', {
    httpStatus: token === undefined ? 401 : 403,
  })
}

function tokenOf(caller: Caller): string | undefined {
  return caller.kind === 'operator' ? GOOD_TOKEN : caller.token
}

function toEntry(path: string, { bytes, lfs = false }: MemoryFile): FileEntry {
  const sizeBytes = bytes.byteLength
  if (!lfs) {
    const oid = blobDigest('git-sha1', bytes)
    return { path: parseFilePath(path), sizeBytes, blob: parseBlobId(`git-sha1:${oid}`), oid }
  }
  const sha256 = blobDigest('sha256', bytes)
  const pointer = Buffer.from(
    `version https://git-lfs.github.com/spec/v1\noid sha256:${sha256}\nsize ${sizeBytes}\n`,
  )
  return {
    path: parseFilePath(path),
    sizeBytes,
    blob: parseBlobId(`sha256:${sha256}`),
    oid: blobDigest('git-sha1', pointer),
    pointerBytes: pointer.byteLength,
  }
}
