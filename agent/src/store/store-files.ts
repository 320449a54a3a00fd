// The few file operations everything in the store is made of: open without following or hanging, read and write exactly,
// replace a file whole and durably. Also turns system errors into the store's own codes. Knows no layout.
import { constants } from 'node:fs'
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { ShoalError } from '@shoal/protocol/errors.ts'

/** The little the store asks of a logger. Messages are constant text; what varies goes into fields. */
export type StoreLog = (
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  fields: Readonly<Record<string, string | number | boolean>>,
) => void

export const DIRECTORY_MODE = 0o700
export const FILE_MODE = 0o600
/** A complete blob: nobody writes it again. */
export const BLOB_MODE = 0o444

// O_NONBLOCK: opening a FIFO that someone planted must not wait for its other end.
const SAFE = constants.O_NOFOLLOW | constants.O_NONBLOCK

/** The system's code of an error (`ENOENT`), if it has one. */
export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}

/** What a failed file operation means for us. `action` completes "cannot …". */
export function storeError(action: string, error: unknown): ShoalError {
  if (error instanceof ShoalError) return error
  const errno = errnoOf(error) ?? 'unknown'
  const details = { errno }
  if (errno === 'ENOSPC' || errno === 'EDQUOT')
    return new ShoalError('store-full', `cannot ${action}: the disk is full`, details, error)
  if (['ELOOP', 'EISDIR', 'ENOTDIR', 'ENXIO', 'EEXIST', 'ENOTEMPTY'].includes(errno))
    return new ShoalError('store-corrupt', `cannot ${action}: not the file it should be`, details, error)
  return new ShoalError('store-failed', `cannot ${action}: ${errno}`, details, error)
}

/**
 * Opens a regular file for reading, never through a symlink and never waiting. undefined when there is none.
 * @throws ShoalError `store-corrupt` when something else lies there
 */
export async function openForReading(path: string): Promise<FileHandle | undefined> {
  return openRegular(path, constants.O_RDONLY)
}

/** As {@link openForReading}, for reading and writing; creates it (0600) if absent. */
export async function openForWriting(path: string): Promise<FileHandle> {
  const handle = await openRegular(path, constants.O_RDWR | constants.O_CREAT)
  if (handle === undefined) throw new ShoalError('store-failed', `${path} has no directory`)
  return handle
}

async function openRegular(path: string, flags: number): Promise<FileHandle | undefined> {
  let handle: FileHandle
  try {
    handle = await open(path, flags | SAFE, FILE_MODE)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw storeError(`open ${path}`, error)
  }
  try {
    const stat = await handle.stat()
    if (!stat.isFile()) throw new ShoalError('store-corrupt', `${path} is not a regular file`)
    return handle
  } catch (error) {
    await handle.close().catch(() => {})
    throw storeError(`open ${path}`, error)
  }
}

/** Writes all of `bytes` at `position`: one call may write less. @throws the system's error */
export async function writeFully(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done, position + done)
    done += bytesWritten
  }
}

/**
 * Fills all of `target` from `position`.
 * @throws ShoalError `store-corrupt` when the file ends before or cannot be read
 */
export async function readFully(
  handle: FileHandle,
  target: Uint8Array,
  position: number,
  path: string,
): Promise<void> {
  for (let done = 0; done < target.byteLength; ) {
    let bytesRead: number
    try {
      const result = await handle.read(target, done, target.byteLength - done, position + done)
      bytesRead = result.bytesRead
    } catch (error) {
      if (errnoOf(error) !== 'EIO') throw storeError(`read ${path}`, error)
      throw new ShoalError(
        'store-corrupt',
        `the disk cannot read ${path} at byte ${position + done}`,
        {},
        error,
      )
    }
    if (bytesRead === 0)
      throw new ShoalError('store-corrupt', `${path} ends at byte ${position + done}, before its record says`)
    done += bytesRead
  }
}

/** A small file whole; undefined when absent. @throws ShoalError `store-corrupt` (also when over `limitBytes`) */
export async function readSmallFile(path: string, limitBytes: number): Promise<Buffer | undefined> {
  const handle = await openForReading(path)
  if (handle === undefined) return undefined
  try {
    const { size } = await handle.stat()
    if (size > limitBytes) throw new ShoalError('store-corrupt', `${path} is longer than it may be`)
    const bytes = Buffer.alloc(size)
    await readFully(handle, bytes, 0, path)
    return bytes
  } finally {
    await handle.close()
  }
}

/**
 * Puts a file in place whole or not at all: temporary file, fsync, rename, fsync of the directory. Replaces what is there.
 * @param temp directory for the temporary file, on the same file system
 * @throws ShoalError `store-full` | `store-failed`; then the old content is still there
 */
export async function writeWhole(
  path: string,
  bytes: Uint8Array | string,
  temp: string,
  mode: number = FILE_MODE,
): Promise<void> {
  const draft = join(temp, crypto.randomUUID())
  try {
    const handle = await open(draft, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | SAFE, mode)
    try {
      await handle.writeFile(bytes)
      if (mode !== FILE_MODE) await handle.chmod(mode)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(draft, path)
    await syncDirectory(dirname(path))
  } catch (error) {
    await rm(draft, { force: true }).catch(() => {})
    throw storeError(`write ${path}`, error)
  }
}

/** Makes renames and new names in a directory survive a power loss. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY)
  try {
    await handle.sync()
  } catch (error) {
    // Some file systems cannot sync a directory; there the rename itself is all one can get.
    if (!['EINVAL', 'ENOTSUP', 'EPERM'].includes(errnoOf(error) ?? '')) throw error
  } finally {
    await handle.close()
  }
}

/** Creates a directory (0700) and its parents up to an existing one; syncs where a name was added. */
export async function ensureDirectory(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true, mode: DIRECTORY_MODE })
  if (first !== undefined) await syncDirectory(dirname(first))
}
