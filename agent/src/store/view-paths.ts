// The one place where names from outside become paths on disk: those of the Hub view, a valid HF_HUB_CACHE. Pure.
// Names were parsed before they came here; they are checked again, and so is where the path ends up.
import { join, relative, sep } from 'node:path'
import { type BlobId, blobParts, isFilePath, kindPlural, type Repo } from '@shoal/protocol/ids.ts'

/** Folder of a repo in a Hub cache: `models--org--name`. Two names never share one: no name contains `--`. */
export function repoFolder(repo: Repo): string {
  return `${kindPlural(repo.kind)}--${repo.id.replace('/', '--')}`
}

/**
 * `folder` joined with a name from outside that may have several segments.
 * @throws Error when the name is not a plain relative path or the result is not below `folder`
 */
export function pathBelow(folder: string, name: string): string {
  const path = join(folder, name)
  const back = relative(folder, path)
  const inside = back !== '' && back.split(sep)[0] !== '..' && join(folder, back) === path
  if (!isFilePath(name) || !inside) throw new Error(`not a path below ${folder}: ${JSON.stringify(name)}`)
  return path
}

export interface RepoPaths {
  readonly folder: string
  /** Content; named by the ETag, which is the blob's digest. */
  blob(blob: BlobId): string
  snapshot(commit: string): string
  snapshotFile(commit: string, path: string): string
  /** What the link at `snapshotFile` says: relative, one more `../` per subfolder. */
  linkText(path: string, blob: BlobId): string
  ref(revision: string): string
  missing(commit: string, path: string): string
}

/** @param root the directory of the view */
export function repoPaths(root: string, repo: Repo): RepoPaths {
  const name = repoFolder(repo)
  if (name.includes('/')) throw new Error(`not a repository: ${JSON.stringify(repo.id)}`)
  const folder = pathBelow(root, name)
  const snapshot = (commit: string) => pathBelow(join(folder, 'snapshots'), commit)
  return {
    folder,
    blob: (blob) => join(folder, 'blobs', blobParts(blob).hex),
    snapshot,
    snapshotFile: (commit, path) => pathBelow(snapshot(commit), path),
    linkText: (path, blob) => `${'../'.repeat(path.split('/').length + 1)}blobs/${blobParts(blob).hex}`,
    ref: (revision) => pathBelow(join(folder, 'refs'), revision),
    missing: (commit, path) => pathBelow(pathBelow(join(folder, '.no_exist'), commit), path),
  }
}
