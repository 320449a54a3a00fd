// Port: the Hub (or a mirror) as the catalog and the downloader need it. Every call names on whose token it is made; a token
// goes to the Hub's own hosts only. Answers are checked values: what the Hub sent that makes no sense is `origin-bad-answer`.
import type { Commit, FilePath, Repo, Revision } from '@shoal/protocol/ids.ts'
import type { Access, FileEntry, Manifest } from '@shoal/protocol/manifest.ts'
import type { ChunkSource } from './source.ts'

export interface HubRevision {
  readonly commit: Commit
  readonly access: Access
  /** The Hub's repo info, less `siblings` and everything that advertises Xet. A JSON object. */
  readonly info: Readonly<Record<string, unknown>>
}

export interface HubTree {
  readonly files: readonly FileEntry[]
  readonly directories: Manifest['directories']
}

/** An answer passed on as it is. `body` is bounded; `link` is the Hub's Link header, still naming the Hub. */
export interface HubAnswer {
  readonly status: number
  readonly contentType: string | undefined
  readonly errorCode: string | undefined
  readonly errorMessage: string | undefined
  readonly link: string | undefined
  readonly body: Uint8Array
}

export interface HubRequest {
  readonly token: string | undefined
  readonly signal: AbortSignal
}

export interface HubFile {
  readonly repo: Repo
  readonly commit: Commit
  readonly entry: FileEntry
}

export interface Hub {
  /**
   * What a revision points at now. Follows a renamed repo.
   * @throws ShoalError `repo-not-found` | `repo-gated` | `repo-disabled` | `revision-not-found` | `unauthorized` |
   *   `origin-unreachable` | `origin-rate-limited` | `origin-bad-answer`. `details.httpStatus` is the Hub's status where it answered.
   */
  revision(repo: Repo, revision: Revision, request: HubRequest): Promise<HubRevision>
  /** All files of a commit, all pages. Never a part of them. @throws as `revision`, and `too-large` */
  tree(repo: Repo, commit: Commit, request: HubRequest): Promise<HubTree>
  /** Resolves if the token may read files of the repo. @throws as `revision` */
  authCheck(repo: Repo, request: HubRequest): Promise<void>
  /** GET of a path under `/api/` that we do not answer ourselves (`whoami-v2`, `refs`, `commits`). @throws `origin-*` only */
  pass(pathAndQuery: string, request: HubRequest): Promise<HubAnswer>
  /**
   * The origin as a source of one file's chunks: `id` and `kind` are `origin`. Resolves the signed URL once and again when it expires,
   * resumes by Range with an identity check, tries mirrors in order.
   * @param token read anew for every request: readers with different tokens share one download
   */
  source(file: HubFile, token: () => string | undefined): ChunkSource
  /** The file as text of the `raw` route (an LFS file gives its pointer), at most `limitBytes`. @throws as `revision` */
  raw(
    file: { repo: Repo; commit: Commit; path: FilePath },
    limitBytes: number,
    request: HubRequest,
  ): Promise<Uint8Array>
}
