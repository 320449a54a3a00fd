// The Hub view: a directory that Hub clients take for their own cache. Its blobs are hard links to the store's, so that a
// client deleting them never deletes ours; everything else is small and can be made anew. Shows complete files only.
import { constants, type Stats } from 'node:fs'
import { copyFile, link, lstat, mkdir, readlink, realpath, rename, rm, stat, symlink } from 'node:fs/promises'
import { dirname, join, sep } from 'node:path'
import { messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import type { BlobId, Commit, FilePath, Repo, Revision } from '@shoal/protocol/ids.ts'
import type { FileEntry, Manifest } from '@shoal/protocol/manifest.ts'
import { BLOB_MODE, DIRECTORY_MODE, errnoOf, type StoreLog, storeError, writeWhole } from './store-files.ts'
import type { HubView } from './view.ts'
import { type RepoPaths, repoPaths } from './view-paths.ts'

/** https://bford.info/cachedir/: backup programs leave the directory out. The text is what huggingface_hub writes. */
const CACHE_TAG = `Signature: 8a477f597d28d172789f06886806bc55
# This file is a cache directory tag created by huggingface_hub.
# For information about cache directory tags, see:
#	https://bford.info/cachedir/
`
/** A file system that cannot give one file two names says one of these. */
const NO_LINKS = ['EXDEV', 'EPERM', 'EMLINK', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS']

export interface HubViewOptions {
  readonly path: string
  /** Directory for files being written: on the same file system, outside the view. The store creates and empties it. */
  readonly temp: string
  /** Where the store has a complete blob. */
  readonly blobFile: (blob: BlobId) => string
  readonly log?: StoreLog
}

export function createHubView({ path: root, temp, blobFile, log = () => {} }: HubViewOptions): HubView {
  /** Learned from the first file that is to be shown. */
  let canLink: boolean | undefined

  async function prepareFolder(path: string): Promise<void> {
    await mkdir(path, { recursive: true, mode: DIRECTORY_MODE })
    // A symlink in the place of a directory would lead the write out of the view.
    if (!(await realpath(path)).startsWith(`${await realpath(root)}${sep}`))
      throw new ShoalError('store-corrupt', `${path} leads out of the Hub view`)
  }

  /** Makes something in the temporary directory, then gives it its name in one step. */
  async function place(path: string, make: (draft: string) => Promise<void>): Promise<void> {
    await prepareFolder(dirname(path))
    const draft = join(temp, crypto.randomUUID())
    try {
      await make(draft)
      await rename(draft, path)
    } finally {
      // Renaming over another name of the same file does nothing and leaves the draft.
      await rm(draft, { recursive: true, force: true })
    }
  }

  /** Gives the store's file a second name, or copies it where that cannot be. */
  async function linkOrCopy(source: string, draft: string): Promise<void> {
    if (canLink !== false) {
      try {
        await link(source, draft)
        canLink = true
        return
      } catch (error) {
        const errno = errnoOf(error) ?? ''
        if (!NO_LINKS.includes(errno)) throw error
        if (errno !== 'EMLINK') canLink = false
        log('warn', 'no hard link possible: the Hub view holds a copy', { errno })
      }
    }
    await copyFile(source, draft, constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL)
  }

  async function linksWork(source: string): Promise<boolean> {
    if (canLink !== undefined) return canLink
    const draft = join(temp, crypto.randomUUID())
    try {
      await link(source, draft)
      canLink = true
    } catch (error) {
      canLink = !NO_LINKS.includes(errnoOf(error) ?? '')
    } finally {
      await rm(draft, { force: true })
    }
    return canLink
  }

  async function showBlob(paths: RepoPaths, blob: BlobId): Promise<void> {
    const source = blobFile(blob)
    const target = paths.blob(blob)
    const [ours, shown] = await Promise.all([lstat(source), lstatIfThere(target)])
    if (!ours.isFile()) throw new ShoalError('store-corrupt', `${source} is not a regular file`)
    if (shown !== undefined && isSameFile(ours, shown)) return
    if (shown !== undefined && isCopy(ours, shown) && !(await linksWork(source))) return
    if (shown?.isDirectory()) await rm(target, { recursive: true, force: true })
    await place(target, (draft) => linkOrCopy(source, draft))
  }

  async function showLink(paths: RepoPaths, commit: Commit, entry: FileEntry): Promise<void> {
    const path = paths.snapshotFile(commit, entry.path)
    const text = paths.linkText(entry.path, entry.blob)
    if ((await linkTextIfThere(path)) === text) return
    await place(path, (draft) => symlink(text, draft))
  }

  async function attempt(action: string, work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      throw storeError(action, error)
    }
  }

  async function showFile(repo: Repo, commit: Commit, entry: FileEntry): Promise<void> {
    const paths = repoPaths(root, repo)
    await showBlob(paths, entry.blob)
    await showLink(paths, commit, entry)
  }

  return {
    name: 'hub view',
    path: root,
    async start() {
      await attempt('create the Hub view', async () => {
        await mkdir(root, { recursive: true, mode: DIRECTORY_MODE })
        const tag = join(root, 'CACHEDIR.TAG')
        if ((await lstatIfThere(tag)) === undefined) await writeWhole(tag, CACHE_TAG, temp)
      })
    },
    async stop() {},
    link: (repo, commit, entry) =>
      attempt('show a file in the Hub view', () => showFile(repo, commit, entry)),
    async unlink(repo, commit, entry) {
      const paths = repoPaths(root, repo)
      await attempt('take a file out of the Hub view', async () => {
        await rm(paths.snapshotFile(commit, entry.path), { force: true })
        await rm(paths.blob(entry.blob), { force: true })
      })
    },
    async setRef(repo: Repo, revision: Revision, commit: Commit) {
      // A commit is its own name; clients write no ref for one.
      if ((revision as string) === commit) return
      const paths = repoPaths(root, repo)
      const path = paths.ref(revision)
      await attempt('write a ref of the Hub view', async () => {
        await prepareFolder(paths.snapshot(commit))
        await prepareFolder(dirname(path))
        await writeWhole(path, commit, temp)
      })
    },
    async setMissing(repo: Repo, commit: Commit, file: FilePath) {
      const paths = repoPaths(root, repo)
      const path = paths.missing(commit, file)
      await attempt('write to the Hub view', async () => {
        if ((await lstatIfThere(paths.snapshot(commit))) === undefined) return
        await prepareFolder(dirname(path))
        await writeWhole(path, '', temp)
      })
    },
    async remove(repo) {
      const { folder } = repoPaths(root, repo)
      const away = join(temp, crypto.randomUUID())
      await attempt('remove from the Hub view', async () => {
        // Gone in one step for whoever scans the view meanwhile.
        if ((await lstatIfThere(folder)) === undefined) return
        await rename(folder, away)
        await rm(away, { recursive: true, force: true })
      })
    },
    async restore(manifest: Manifest, isComplete: (entry: FileEntry) => boolean) {
      const { repo, commit } = manifest
      const paths = repoPaths(root, repo)
      for (const entry of manifest.files) {
        try {
          if (isComplete(entry)) await showFile(repo, commit, entry)
          else await removeDangling(paths.snapshotFile(commit, entry.path))
        } catch (error) {
          // One file that cannot be shown is no reason to leave out the others.
          log('warn', 'a file is not in the Hub view', { blob: entry.blob, reason: messageOf(error) })
        }
      }
    },
  }
}

function isSameFile(ours: Stats, shown: Stats): boolean {
  return shown.isFile() && ours.ino === shown.ino && ours.dev === shown.dev
}

function isCopy(ours: Stats, shown: Stats): boolean {
  return shown.isFile() && ours.size === shown.size && (shown.mode & 0o777) === BLOB_MODE
}

async function removeDangling(path: string): Promise<void> {
  if ((await linkTextIfThere(path)) === undefined) return
  try {
    await stat(path)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') await rm(path, { force: true })
  }
}

async function lstatIfThere(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
}

/** What a symlink says; undefined when there is none. */
async function linkTextIfThere(path: string): Promise<string | undefined> {
  try {
    return await readlink(path)
  } catch (error) {
    if (['ENOENT', 'EINVAL', 'ENOTDIR'].includes(errnoOf(error) ?? '')) return undefined
    throw error
  }
}
