// What a user of the mesh does: reads every file of a repo with @huggingface/hub, unmodified, through one host's endpoint, and
// compares the hashes with those the Hub itself tells.
import { createHash, type Hash } from 'node:crypto'
import { downloadFile, listFiles } from '@huggingface/hub'
import { abortError } from '@shoal/protocol/time.ts'

export interface HubFileFacts {
  readonly repo: string
  readonly path: string
  readonly sizeBytes: number
  /** SHA-256 of an LFS file's content; a plain file has its Git blob id. */
  readonly sha256: string | undefined
  readonly gitOid: string
}

export interface Origin {
  readonly url: string
  readonly token: string | undefined
}

/** The files of a repo and their hashes, from the Hub itself. */
export async function filesOf(origin: Origin, repo: string): Promise<readonly HubFileFacts[]> {
  const files: HubFileFacts[] = []
  for await (const entry of listFiles({
    repo,
    hubUrl: origin.url,
    recursive: true,
    ...credentials(origin),
  })) {
    if (entry.type !== 'file') continue
    const { path, oid: gitOid, lfs } = entry
    if (gitOid === undefined) throw new Error(`the Hub told no hash of ${path}`)
    files.push({ repo, path, gitOid, sizeBytes: lfs?.size ?? entry.size, sha256: lfs?.oid })
  }
  if (files.length === 0) throw new Error(`${repo} has no files on ${origin.url}`)
  return files
}

export interface FileCheck {
  readonly file: HubFileFacts
  readonly right: boolean
  /** What was got instead of the right hash. */
  readonly found: string
}

/** Reads a file through `endpoint` and hashes what arrives. */
export async function checkFile(
  endpoint: string,
  origin: Origin,
  file: HubFileFacts,
  signal: AbortSignal,
): Promise<FileCheck> {
  const blob = await downloadFile({
    repo: file.repo,
    path: file.path,
    hubUrl: endpoint,
    ...credentials(origin),
  })
  if (blob === null) return { file, right: false, found: 'no such file' }
  const hash: Hash =
    file.sha256 === undefined ? createHash('sha1').update(`blob ${file.sizeBytes}\0`) : createHash('sha256')
  for await (const piece of blob.stream()) {
    if (signal.aborted) throw abortError(signal)
    hash.update(piece)
  }
  const found = hash.digest('hex')
  return { file, right: found === (file.sha256 ?? file.gitOid), found }
}

function credentials({ token }: Origin): { readonly accessToken?: string } {
  return token === undefined ? {} : { accessToken: token }
}
