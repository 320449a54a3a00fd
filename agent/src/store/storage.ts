// The storage path itself: is it ours, is it the store it was, is its format one we know? The first part to start: everything
// else assumes what this has checked. Touches nothing that it refuses.
import { lstat, mkdtemp, readdir, realpath, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import type { Service } from '@shoal/protocol/service.ts'
import { z } from 'zod'
import { BLOB_ALGORITHMS, STORE_FORMAT, type StoreLayout } from './layout.ts'
import { ensureDirectory, errnoOf, readSmallFile, storeError, writeWhole } from './store-files.ts'

const MAX_MARKER_BYTES = 64 * 1024
// Later formats may add fields; the number alone decides.
const markerSchema = z.looseObject({ format: z.int().min(1) })

/** @throws from `start`: ShoalError `store-version` | `store-corrupt` | `bad-config` | `store-failed` */
export function createStorage(layout: StoreLayout): Service {
  return {
    name: 'storage',
    async start() {
      await createRoot(layout.root)
      await checkOwner(layout.root)
      await checkMarker(layout)
    },
    async stop() {},
  }
}

async function createRoot(root: string): Promise<void> {
  try {
    await ensureDirectory(root)
  } catch (error) {
    throw storeError(`create the storage path ${root}`, error)
  }
}

/** A directory that others may change is no place for files we later trust. */
async function checkOwner(root: string): Promise<void> {
  const stat = await lstat(await realpath(root))
  if (!stat.isDirectory()) throw new ShoalError('bad-config', `the storage path ${root} is not a directory`)
  if ((stat.mode & 0o022) !== 0) {
    const mode = (stat.mode & 0o777).toString(8)
    throw new ShoalError(
      'bad-config',
      `the storage path ${root} has mode ${mode}: others may change what is in it. Run: chmod go-w ${root}`,
    )
  }
  const own = await ownUserId(root)
  if (stat.uid !== own) {
    throw new ShoalError(
      'bad-config',
      `the storage path ${root} belongs to user ${stat.uid}, this agent runs as user ${own}: who owns a directory may replace what is in it`,
    )
  }
}

/** Whose files are ours: asked of the file system, which also knows users that no password file lists. */
async function ownUserId(root: string): Promise<number> {
  try {
    const probe = await mkdtemp(join(root, '.probe-'))
    const { uid } = await lstat(probe)
    await rmdir(probe)
    return uid
  } catch (error) {
    throw storeError(`write in the storage path ${root}`, error)
  }
}

async function checkMarker(layout: StoreLayout): Promise<void> {
  const text = await readSmallFile(layout.marker, MAX_MARKER_BYTES)
  if (text === undefined) return createStore(layout)
  const format = readFormat(layout, text)
  if (format > STORE_FORMAT) {
    throw new ShoalError(
      'store-version',
      `the store in ${layout.root} has format ${format}, this version of Shoal knows up to ${STORE_FORMAT}. Nothing was changed; run the version that wrote it, or a newer one.`,
      { found: format, known: STORE_FORMAT },
    )
  }
  for (const algorithm of BLOB_ALGORITHMS) {
    if (!(await exists(join(layout.blobs, algorithm)))) {
      throw new ShoalError(
        'store-corrupt',
        `${layout.blobs} is not what it was: ${algorithm} is missing. Is its disk mounted? If the blobs are gone for good, remove ${layout.marker} and ${layout.index} to start an empty store.`,
      )
    }
  }
}

function readFormat(layout: StoreLayout, text: Buffer): number {
  try {
    return markerSchema.parse(JSON.parse(text.toString())).format
  } catch (error) {
    throw new ShoalError(
      'store-corrupt',
      `${layout.marker} is damaged (${messageOf(error)}). Nothing was changed; it should read {"format":${STORE_FORMAT}}.`,
      {},
      error,
    )
  }
}

/** Only where there was no store: an index or blobs without a marker mean that a disk is missing or was exchanged. */
async function createStore(layout: StoreLayout): Promise<void> {
  for (const path of [join(layout.index, 'CURRENT'), layout.records, layout.partials, layout.blobs]) {
    if (!(await hasContent(path))) continue
    throw new ShoalError(
      'store-corrupt',
      `${layout.root} holds ${path} and no ${layout.marker}: is the right disk mounted there? Nothing was changed. If this is the store, write {"format":${STORE_FORMAT}} into the marker file; else move the rest away.`,
    )
  }
  for (const algorithm of BLOB_ALGORITHMS) await ensureDirectory(join(layout.blobs, algorithm))
  await ensureDirectory(layout.temp)
  await writeWhole(layout.marker, `${JSON.stringify({ format: STORE_FORMAT })}\n`, layout.temp)
}

/** A file, or a directory with something other than empty directories of ours in it. */
async function hasContent(path: string): Promise<boolean> {
  try {
    const entries = await readdir(path, { withFileTypes: true })
    // A start that was killed before it wrote the marker left these.
    const ours: readonly string[] = BLOB_ALGORITHMS
    for (const entry of entries) {
      if (!ours.includes(entry.name) || (await hasContent(join(path, entry.name)))) return true
    }
    return false
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    if (errnoOf(error) === 'ENOTDIR') return true
    throw storeError(`read ${path}`, error)
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw storeError(`read ${path}`, error)
  }
}
