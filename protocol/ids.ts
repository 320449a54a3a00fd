// Names that come from outside, as branded strings. Whatever passes these functions is safe to compare, log and use
// as a key; a name still never becomes a path on disk except through the Hub view's one checked function.
import { ShoalError } from './errors.ts'

declare const brand: unique symbol
type Branded<Name extends string> = string & { readonly [brand]: Name }

/** `org/name`, or `name` alone for a few old models. */
export type RepoId = Branded<'RepoId'>
/** What was asked for: branch, tag, commit, `refs/pr/N`, `refs/convert/X`, `HEAD`. */
export type Revision = Branded<'Revision'>
/** 40 lower-case hex digits: the immutable commit a revision resolved to. */
export type Commit = Branded<'Commit'>
/** A file's path in a repo: `/`-separated, relative, no `.` or `..` segment. */
export type FilePath = Branded<'FilePath'>
/** `sha256:<64 hex>` (LFS, Xet) or `git-sha1:<40 hex>` (small files). */
export type BlobId = Branded<'BlobId'>
/** A libp2p peer id in its text form. */
export type PeerId = Branded<'PeerId'>

export type RepoKind = 'model' | 'dataset' | 'space'
export const REPO_KINDS = ['model', 'dataset', 'space'] as const satisfies readonly RepoKind[]

/** A repository: its kind and id. */
export interface Repo {
  readonly kind: RepoKind
  readonly id: RepoId
}

export const MAX_REVISION_LENGTH = 255
export const MAX_PATH_LENGTH = 1024
const MAX_SEGMENT_BYTES = 255

// Rules of huggingface_hub `utils/_validators.py`, tightened where it is laxer than the file systems we write to.
const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}$/
const COMMIT = /^[0-9a-f]{40}$/
const BLOB = /^(?:sha256:[0-9a-f]{64}|git-sha1:[0-9a-f]{40})$/
const PEER = /^[1-9A-HJ-NP-Za-km-z]{32,128}$/
const REVISION = /^[A-Za-z0-9_.][A-Za-z0-9_./+@=~-]*$/

function isRepoName(name: string): boolean {
  return (
    NAME.test(name) &&
    !name.includes('--') &&
    !name.includes('..') &&
    !name.endsWith('.') &&
    !name.endsWith('-') &&
    !name.toLowerCase().endsWith('.git') &&
    !name.toLowerCase().endsWith('.ipynb')
  )
}

/** @throws ShoalError `bad-request` */
export function parseRepoId(text: string): RepoId {
  const parts = text.split('/')
  if (text.length > 193 || parts.length > 2 || !parts.every(isRepoName)) {
    throw new ShoalError('bad-request', `not a repository id: ${quote(text)} (expected "name" or "org/name")`)
  }
  return text as RepoId
}

/** @throws ShoalError `bad-request` */
export function parseRevision(text: string): Revision {
  const bad =
    text.length > MAX_REVISION_LENGTH ||
    !REVISION.test(text) ||
    text
      .split('/')
      .some(
        (part) =>
          part === '' || part === '.' || part === '..' || part.endsWith('.lock') || part.endsWith('.'),
      )
  if (bad || text.includes('..') || text.includes('~'))
    throw new ShoalError('bad-request', `not a revision: ${quote(text)}`)
  return text as Revision
}

export function isCommit(text: string): text is Commit {
  return COMMIT.test(text)
}

/** @throws ShoalError `bad-request` */
export function parseCommit(text: string): Commit {
  if (!isCommit(text))
    throw new ShoalError('bad-request', `not a commit: ${quote(text)} (expected 40 lower-case hex digits)`)
  return text
}

/**
 * A path inside a repo. Refuses what could leave a directory here or on another system: absolute and drive paths,
 * backslashes, names of only dots and blanks (`.`, `..`, `.. `, which some systems trim), control characters, names over 255
 * bytes, lone surrogates. Allows what is odd but harmless (`CON`, `a.`, `a `): git repositories hold such names, and one of
 * them must not make a repository unreadable.
 * @throws ShoalError `bad-request`
 */
export function parseFilePath(text: string): FilePath {
  if (!isFilePath(text)) throw new ShoalError('bad-request', `not a file path: ${quote(text)}`)
  return text
}

export function isFilePath(text: string): text is FilePath {
  if (text.length === 0 || text.length > MAX_PATH_LENGTH || !text.isWellFormed()) return false
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are exactly what is refused here
  if (/[\u0000-\u001f\u007f\\]/.test(text) || /^[A-Za-z]:/.test(text)) return false
  return text
    .split('/')
    .every((part) => !/^[. \u00a0]*$/.test(part) && Buffer.byteLength(part) <= MAX_SEGMENT_BYTES)
}

/** @throws ShoalError `bad-request` */
export function parseBlobId(text: string): BlobId {
  if (!BLOB.test(text)) throw new ShoalError('bad-request', `not a blob id: ${quote(text)}`)
  return text as BlobId
}

export type BlobAlgorithm = 'sha256' | 'git-sha1'

/** A blob id's parts: the digest's algorithm and its hex digits. */
export function blobParts(blob: BlobId): { readonly algorithm: BlobAlgorithm; readonly hex: string } {
  const colon = blob.indexOf(':')
  return { algorithm: blob.slice(0, colon) as BlobAlgorithm, hex: blob.slice(colon + 1) }
}

/** @throws ShoalError `bad-request` */
export function parsePeerId(text: string): PeerId {
  if (!PEER.test(text)) throw new ShoalError('bad-request', `not a peer id: ${quote(text)}`)
  return text as PeerId
}

/** `models`, `datasets`, `spaces`: how the Hub spells a kind in API paths and cache folders. */
export function kindPlural(kind: RepoKind): 'models' | 'datasets' | 'spaces' {
  return `${kind}s`
}

/** One string for a repo, usable as a map or index key: `models/org/name`. */
export function repoKey(repo: Repo): string {
  return `${kindPlural(repo.kind)}/${repo.id}`
}

/** Inverse of {@link repoKey}. @throws ShoalError `bad-request` */
export function parseRepoKey(key: string): Repo {
  const slash = key.indexOf('/')
  const kind = REPO_KINDS.find((candidate) => kindPlural(candidate) === key.slice(0, slash))
  if (kind === undefined) throw new ShoalError('bad-request', `not a repository key: ${quote(key)}`)
  return { kind, id: parseRepoId(key.slice(slash + 1)) }
}

/**
 * What a person types: `org/name`, `datasets/org/name`, `spaces/org/name`, each with an optional `@revision`.
 * @throws ShoalError `bad-request`
 */
export function parseRepoSpec(text: string): { readonly repo: Repo; readonly revision: Revision } {
  const at = text.indexOf('@')
  const name = at === -1 ? text : text.slice(0, at)
  const revision = parseRevision(at === -1 ? 'main' : text.slice(at + 1))
  const kind = REPO_KINDS.find((candidate) => name.startsWith(`${kindPlural(candidate)}/`))
  if (kind !== undefined && name.split('/').length === 3) return { repo: parseRepoKey(name), revision }
  return { repo: { kind: 'model', id: parseRepoId(name) }, revision }
}

/** A repo as a person would type it: no prefix for models. */
export function repoLabel(repo: Repo): string {
  return repo.kind === 'model' ? repo.id : repoKey(repo)
}

function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text)
}
