// Small files that only this host's user may read: keys and secrets. Owns how they are created and replaced
// (whole, synced, 0600) and what is refused on reading. Knows nothing of what is in them.
import { constants } from 'node:fs'
import { link, mkdir, open, rename, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { ShoalError } from '@shoal/protocol/errors.ts'

const MAX_PRIVATE_FILE_BYTES = 64 * 1024

/**
 * Reads a private file; undefined if there is none.
 * @throws ShoalError `bad-config` when it is not a regular file of ours or when others may read it
 */
export async function readPrivateFile(path: string): Promise<Buffer | undefined> {
  let file: Awaited<ReturnType<typeof open>>
  try {
    // Non-blocking: opening a pipe that somebody put there would otherwise wait for its writer.
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    if (hasErrnoCode(error, 'ENOENT')) return undefined
    throw new ShoalError('bad-config', `cannot open ${path}: is it a regular file of this user?`, {}, error)
  }
  try {
    const stat = await file.stat()
    if (!stat.isFile()) throw new ShoalError('bad-config', `${path} is not a regular file`)
    if ((stat.mode & 0o077) !== 0) {
      const mode = (stat.mode & 0o777).toString(8)
      throw new ShoalError(
        'bad-config',
        `${path} has mode ${mode}: others may read it. Run: chmod 600 ${path}. If others may have seen it, replace it.`,
      )
    }
    if (stat.size > MAX_PRIVATE_FILE_BYTES) throw new ShoalError('bad-config', `${path} is too long`)
    return await file.readFile()
  } finally {
    await file.close()
  }
}

/**
 * Reads a private file, or creates it with `content()` if there is none. It appears under its name only when whole and
 * synced, and an existing one is never replaced: of two that start at once, one creates and both read the same.
 * @throws ShoalError `bad-config` as {@link readPrivateFile}
 */
export async function readOrCreatePrivateFile(path: string, content: () => string): Promise<Buffer> {
  const found = await readPrivateFile(path)
  if (found !== undefined) return found
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  await createPrivateFile(path, content())
  const created = await readPrivateFile(path)
  if (created === undefined) throw new ShoalError('bad-config', `${path} vanished right after it was created`)
  return created
}

/**
 * Writes a private file, replacing one of that name in one step: whoever reads sees the old content or the new, whole and
 * synced. Makes the directory (mode 0700) if there is none.
 */
export async function writePrivateFile(path: string, content: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const draft = await writeDraft(path, content)
  try {
    await rename(draft, path)
  } catch (error) {
    await unlink(draft)
    throw error
  }
  await syncDirectory(dirname(path))
}

async function createPrivateFile(path: string, content: string): Promise<void> {
  const draft = await writeDraft(path, content)
  try {
    await link(draft, path)
    await unlink(draft)
  } catch (error) {
    // A link never replaces. Where the disk knows no hard links, a rename does nearly as well.
    if (hasErrnoCode(error, 'EEXIST')) await unlink(draft)
    else await rename(draft, path)
  }
  await syncDirectory(dirname(path))
}

async function writeDraft(path: string, content: string): Promise<string> {
  const draft = `${path}.${crypto.randomUUID()}`
  const file = await open(draft, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600)
  try {
    await file.writeFile(content)
    await file.sync()
  } finally {
    await file.close()
  }
  return draft
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY)
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

/** True when `error` is a system error with exactly this code. */
export function hasErrnoCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
