// What the local Hub holds: repos, commits, files, users. State and the rules to change it; no HTTP.
import { createHash } from 'node:crypto'
import { bytesContent, type Content, gitBlobIdOf, sha256Of, textContent } from './content.ts'

export type RepoKind = 'model' | 'dataset' | 'space'

/** Text and bytes are kept in Git; a {@link Content} is kept as LFS. `{ git }` and `{ lfs }` say otherwise. */
export type FileSource =
  | string
  | Uint8Array
  | Content
  | { readonly git: string | Uint8Array | Content }
  | {
      readonly lfs: string | Uint8Array | Content
      /** Spares hashing a big content whose digest is known. */
      readonly sha256?: string
      /** 64 hex digits. Without it one is made up, for it is only ever passed on; null: a file without Xet. */
      readonly xetHash?: string | null
    }

export interface HubFile {
  readonly sizeBytes: number
  readonly content: Content
  /** The Git blob id; for an LFS file that of its pointer. */
  readonly gitOid: string
  readonly lfs: LfsFacts | undefined
}

export interface LfsFacts {
  readonly sha256: string
  readonly pointer: string
  readonly xetHash: string | undefined
}

/** What identifies a file's content: its SHA-256 when in LFS, else its Git blob id. */
export function oidOf(file: HubFile): string {
  return file.lfs?.sha256 ?? file.gitOid
}

export interface Commit {
  readonly sha: string
  readonly title: string
  readonly author: string
  readonly date: string
  readonly parent: Commit | undefined
  readonly files: ReadonlyMap<string, HubFile>
  /** By path: the commit that last changed it. */
  readonly lastChange: ReadonlyMap<string, Commit | undefined>
}

export interface RepoSpec {
  readonly kind?: RepoKind
  /** `org/name`, or `name` alone. */
  readonly id: string
  /** Files of the first commit on `main`. */
  readonly files: Readonly<Record<string, FileSource>>
  readonly gated?: 'auto' | 'manual' | false
  readonly private?: boolean
  readonly disabled?: boolean
  /** The real Hub shows names and sizes of gated files to everybody; true hides them too. */
  readonly gatesMetadata?: boolean
  /** More names for the first commit: branches, tags, numbers of pull requests. */
  readonly branches?: readonly string[]
  readonly tags?: readonly string[]
  readonly pulls?: readonly number[]
  /** More fields of the repo info, such as `pipeline_tag`. */
  readonly info?: Readonly<Record<string, unknown>>
}

export interface HubRepo {
  readonly kind: RepoKind
  id: string
  gated: 'auto' | 'manual' | false
  private: boolean
  disabled: boolean
  gatesMetadata: boolean
  /** By full name: `refs/heads/main`, `refs/tags/v1`, `refs/pr/1`, `refs/convert/parquet`. */
  readonly refs: Map<string, Commit>
  readonly commits: Map<string, Commit>
  readonly info: Readonly<Record<string, unknown>>
}

export interface User {
  readonly name: string
  /** Starts with `hf_`. */
  readonly token: string
  /** Repos (as {@link fullName} gives them) whose private or gated files this user may read. */
  readonly access: readonly string[]
}

export interface CommitSpec {
  /** Changed files by path; null removes one. */
  readonly files: Readonly<Record<string, FileSource | null>>
  /** A branch, or a full ref such as `refs/pr/2`. It is made from `main` when new. */
  readonly branch?: string
  readonly title?: string
}

/** `org/name`, `datasets/org/name`, `spaces/org/name`: how a repo is named outside the API. */
export function fullName(kind: RepoKind, id: string): string {
  return kind === 'model' ? id : `${kind}s/${id}`
}

export function refName(name: string): string {
  return name.startsWith('refs/') ? name : `refs/heads/${name}`
}

const FIRST_COMMIT_AT = Date.UTC(2025, 0, 1)
const MINUTE_MS = 60_000

export interface StoredContent {
  readonly file: HubFile
  readonly repos: readonly string[]
  readonly paths: readonly string[]
}

/** All repos, renames and users of one Hub. */
export class Repos {
  readonly #repos = new Map<string, HubRepo>()
  readonly #renamed = new Map<string, string>()
  readonly #users = new Map<string, User>()
  readonly #contents = new Map<string, StoredContent>()
  #commits = 0

  async add(spec: RepoSpec): Promise<HubRepo> {
    const kind = spec.kind ?? 'model'
    const repo: HubRepo = {
      kind,
      id: spec.id,
      gated: spec.gated ?? false,
      private: spec.private ?? false,
      disabled: spec.disabled ?? false,
      gatesMetadata: spec.gatesMetadata ?? false,
      refs: new Map(),
      commits: new Map(),
      info: spec.info ?? {},
    }
    const first = await this.#commit(repo, undefined, { files: spec.files, title: 'initial commit' })
    const names = [
      'refs/heads/main',
      ...(spec.branches ?? []).map(refName),
      ...(spec.tags ?? []).map((tag) => `refs/tags/${tag}`),
      ...(spec.pulls ?? []).map((pull) => `refs/pr/${pull}`),
    ]
    for (const name of names) repo.refs.set(name, first)
    this.#repos.set(fullName(kind, spec.id), repo)
    return repo
  }

  /** Adds a commit and moves the branch to it. */
  async commit(name: string, spec: CommitSpec): Promise<Commit> {
    const repo = this.get(name)
    const ref = refName(spec.branch ?? 'main')
    const parent = repo.refs.get(ref) ?? repo.refs.get('refs/heads/main')
    const commit = await this.#commit(repo, parent, spec)
    repo.refs.set(ref, commit)
    return commit
  }

  /** Points a branch, tag or full ref at a commit that the repo has. */
  moveRef(name: string, ref: string, sha: string): void {
    const repo = this.get(name)
    const commit = repo.commits.get(sha)
    if (commit === undefined) throw new Error(`${name} has no commit ${sha}`)
    repo.refs.set(refName(ref), commit)
  }

  rename(name: string, newId: string): void {
    const repo = this.get(name)
    this.#repos.delete(name)
    repo.id = newId
    const renamed = fullName(repo.kind, newId)
    this.#repos.set(renamed, repo)
    this.#renamed.set(name, newId)
  }

  remove(name: string): void {
    this.#repos.delete(name)
  }

  find(name: string): HubRepo | undefined {
    return this.#repos.get(name)
  }

  /** The new id of a renamed repo. */
  renamed(name: string): string | undefined {
    return this.#renamed.get(name)
  }

  get(name: string): HubRepo {
    const repo = this.#repos.get(name)
    if (repo === undefined) throw new Error(`the local Hub has no repo ${name}`)
    return repo
  }

  list(kind: RepoKind): readonly HubRepo[] {
    return [...this.#repos.values()].filter((repo) => repo.kind === kind)
  }

  /** The file whose content has this id, and where it is or was in any commit. */
  byOid(oid: string): StoredContent | undefined {
    return this.#contents.get(oid)
  }

  addUser(user: User): void {
    if (!user.token.startsWith('hf_')) throw new Error('a token of the Hub starts with hf_')
    this.#users.set(user.token, user)
  }

  user(token: string): User | undefined {
    return this.#users.get(token)
  }

  removeUser(token: string): void {
    this.#users.delete(token)
  }

  async #commit(repo: HubRepo, parent: Commit | undefined, spec: CommitSpec): Promise<Commit> {
    const files = new Map(parent?.files ?? [])
    const changed: string[] = []
    for (const [path, source] of Object.entries(spec.files)) {
      changed.push(path)
      if (source === null) files.delete(path)
      else {
        const file = await toHubFile(source)
        files.set(path, file)
        this.#remember(file, fullName(repo.kind, repo.id), path)
      }
    }
    this.#commits += 1
    const hash = createHash('sha1').update(`${repo.kind} ${repo.id} ${this.#commits} ${parent?.sha}`)
    for (const [path, file] of files) hash.update(`${path}\0${oidOf(file)}\0`)
    const sha = hash.digest('hex')
    const lastChange = new Map(parent?.lastChange ?? [])
    const commit: Commit = {
      sha,
      title: spec.title ?? `commit ${this.#commits}`,
      author: 'local-hub',
      date: new Date(FIRST_COMMIT_AT + this.#commits * MINUTE_MS).toISOString(),
      parent,
      files,
      lastChange,
    }
    for (const path of changed) lastChange.set(path, commit)
    repo.commits.set(sha, commit)
    return commit
  }

  #remember(file: HubFile, repo: string, path: string): void {
    const known = this.#contents.get(oidOf(file))
    this.#contents.set(oidOf(file), {
      file,
      repos: [...new Set([...(known?.repos ?? []), repo])],
      paths: [...new Set([...(known?.paths ?? []), path])],
    })
  }
}

/** The commit a revision names: branch, tag, 40 hex digits, full ref, `HEAD`. */
export function resolveRevision(repo: HubRepo, revision: string): Commit | undefined {
  if (revision === 'HEAD') return repo.refs.get('refs/heads/main')
  return (
    repo.refs.get(`refs/heads/${revision}`) ??
    repo.refs.get(`refs/tags/${revision}`) ??
    repo.refs.get(revision) ??
    repo.commits.get(revision)
  )
}

/** Newest first. */
export function history(commit: Commit): readonly Commit[] {
  const all: Commit[] = []
  for (let at: Commit | undefined = commit; at !== undefined; at = at.parent) all.push(at)
  return all
}

async function toHubFile(source: FileSource): Promise<HubFile> {
  if (typeof source === 'string' || source instanceof Uint8Array) return gitFile(toContent(source))
  if ('git' in source) return gitFile(toContent(source.git))
  if (!('lfs' in source)) return lfsFile(source, undefined, undefined)
  return lfsFile(toContent(source.lfs), source.sha256, source.xetHash)
}

async function gitFile(content: Content): Promise<HubFile> {
  return { sizeBytes: content.sizeBytes, content, gitOid: await gitBlobIdOf(content), lfs: undefined }
}

async function lfsFile(
  content: Content,
  known: string | undefined,
  xet: string | null | undefined,
): Promise<HubFile> {
  const sha256 = known ?? (await sha256Of(content))
  const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${sha256}\nsize ${content.sizeBytes}\n`
  const xetHash =
    xet === null ? undefined : (xet ?? createHash('sha256').update(`xet ${sha256}`).digest('hex'))
  return {
    sizeBytes: content.sizeBytes,
    content,
    gitOid: await gitBlobIdOf(textContent(pointer)),
    lfs: { sha256, pointer, xetHash },
  }
}

function toContent(source: string | Uint8Array | Content): Content {
  if (typeof source === 'string') return textContent(source)
  return source instanceof Uint8Array ? bytesContent(source) : source
}
