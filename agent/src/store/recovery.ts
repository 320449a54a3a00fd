// What a start finds on disk: complete blobs, partial ones with the chunks that may count, things half done. The directories
// are the truth; nothing complete is hashed again. Only runs under the lock of the storage path.
import { lstat, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type ChunkGeometry, ChunkMap, chunkLength } from '@shoal/protocol/chunks.ts'
import { messageOf } from '@shoal/protocol/errors.ts'
import type { BlobId } from '@shoal/protocol/ids.ts'
import type { ChunkVoucher } from '@shoal/protocol/messages.ts'
import type { Hashing } from '../hashing.ts'
import type { JournalContent } from './chunk-codec.ts'
import { readJournal, writeJournal } from './journal-file.ts'
import { BLOB_ALGORITHMS, blobOf, blobOfFlatName, type StoreLayout } from './layout.ts'
import {
  ensureDirectory,
  errnoOf,
  openForReading,
  readFully,
  readSmallFile,
  type StoreLog,
  storeError,
  writeWhole,
} from './store-files.ts'

export interface StoredPartial {
  readonly geometry: ChunkGeometry
  readonly held: ChunkMap
}

export interface FoundOnDisk {
  /** Blob to size in bytes. */
  readonly complete: Map<BlobId, number>
  readonly partials: Map<BlobId, StoredPartial>
  readonly quarantined: Map<BlobId, number>
}

/** Brings the directories in order and tells what is there. */
export async function recover(layout: StoreLayout, hashing: Hashing, log: StoreLog): Promise<FoundOnDisk> {
  for (const path of [layout.blobs, layout.chunks, layout.partials, layout.quarantine])
    await ensureDirectory(path)
  await rm(layout.temp, { recursive: true, force: true })
  await ensureDirectory(layout.temp)
  const complete = await scanBlobs(layout, log)
  await sweepSidecars(layout, complete)
  const bootId = await readBootId()
  // After a power loss what was written and not synced may be anything. Without boot ids every start may follow one.
  const trusted = bootId !== undefined && (await lastBootId(layout)) === bootId
  const partials = await scanPartials(layout, complete, hashing, trusted, log)
  // Written last: a start that dies before this checks again.
  await writeWhole(layout.session, `${JSON.stringify({ bootId: bootId ?? null })}\n`, layout.temp)
  return { complete, partials, quarantined: await scanQuarantine(layout) }
}

async function scanBlobs(layout: StoreLayout, log: StoreLog): Promise<Map<BlobId, number>> {
  const complete = new Map<BlobId, number>()
  for await (const { blob, path } of shardedFiles(layout.blobs)) {
    const stat = await lstat(path)
    if (stat.isFile()) {
      complete.set(blob, stat.size)
      continue
    }
    // A link, pipe or directory in a blob's place is nothing of ours. Set aside, as it may be somebody's.
    log('warn', 'not a regular file in the place of a blob', { blob })
    const target = layout.quarantined(blob).data
    await rm(target, { recursive: true, force: true })
    await rename(path, target)
  }
  return complete
}

/** Sidecars are written before their blob gets its name; those without one are left over. */
async function sweepSidecars(layout: StoreLayout, complete: ReadonlyMap<BlobId, number>): Promise<void> {
  for await (const { blob, path } of shardedFiles(layout.chunks)) {
    if (!complete.has(blob)) await rm(path, { recursive: true, force: true })
  }
}

async function* shardedFiles(root: string): AsyncGenerator<{ readonly blob: BlobId; readonly path: string }> {
  for (const algorithm of BLOB_ALGORITHMS) {
    for (const shard of await namesIn(join(root, algorithm))) {
      for (const name of await namesIn(join(root, algorithm, shard))) {
        const blob = blobOf(algorithm, name)
        if (blob !== undefined && name.startsWith(shard))
          yield { blob, path: join(root, algorithm, shard, name) }
      }
    }
  }
}

async function namesIn(path: string): Promise<string[]> {
  try {
    return await readdir(path)
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '')) return []
    throw storeError(`read ${path}`, error)
  }
}

async function scanPartials(
  layout: StoreLayout,
  complete: ReadonlyMap<BlobId, number>,
  hashing: Hashing,
  trusted: boolean,
  log: StoreLog,
): Promise<Map<BlobId, StoredPartial>> {
  const partials = new Map<BlobId, StoredPartial>()
  for (const name of await namesIn(layout.partials)) {
    const blob = blobOfFlatName(name)
    if (blob === undefined) continue
    let found: LoadedPartial | undefined
    try {
      found = complete.has(blob) ? undefined : await loadPartial(layout, blob)
      if (found !== undefined && !trusted) found = await recheckUnsynced(layout, blob, hashing, found)
    } catch (error) {
      log('warn', 'partial blob not usable', { blob, error: messageOf(error) })
      found = undefined
    }
    if (found === undefined) await rm(join(layout.partials, name), { recursive: true, force: true })
    else partials.set(blob, storedPartial(found))
  }
  return partials
}

export interface LoadedPartial {
  readonly content: JournalContent
  /** Chunks whose bytes lie within the data file. */
  readonly vouchers: ReadonlyMap<number, ChunkVoucher>
}

export function storedPartial(loaded: LoadedPartial): StoredPartial {
  const { geometry } = loaded.content
  const held = new ChunkMap(geometry.chunkCount)
  for (const index of loaded.vouchers.keys()) held.add(index)
  return { geometry, held }
}

/** A partial blob as its files say it; undefined when they are none. @throws `store-corrupt` | `store-failed` */
export async function loadPartial(layout: StoreLayout, blob: BlobId): Promise<LoadedPartial | undefined> {
  const { data, journal } = layout.partial(blob)
  const content = await readJournal(journal, blob)
  if (content === undefined) return undefined
  const handle = await openForReading(data)
  if (handle === undefined) return undefined
  const { size } = await handle.stat()
  await handle.close()
  const vouchers = new Map<number, ChunkVoucher>()
  for (const [index, { voucher }] of content.chunks) {
    if (content.geometry.range(index).end <= size) vouchers.set(index, voucher)
  }
  return { content, vouchers }
}

/** Reads the chunks that no sync covers and keeps those that are what their digest says; then they count as synced. */
async function recheckUnsynced(
  layout: StoreLayout,
  blob: BlobId,
  hashing: Hashing,
  loaded: LoadedPartial,
): Promise<LoadedPartial | undefined> {
  const { content } = loaded
  const isSynced = (slot: number) => slot < content.syncedSlots
  if ([...content.chunks.values()].every(({ slot }) => isSynced(slot))) return loaded
  const { data, journal } = layout.partial(blob)
  const handle = await openForReading(data)
  if (handle === undefined) return undefined
  const good = new Map(loaded.vouchers)
  try {
    for (const [index, { slot }] of content.chunks) {
      const voucher = good.get(index)
      if (voucher === undefined || isSynced(slot)) continue
      const { start, end } = content.geometry.range(index)
      const bytes = Buffer.allocUnsafe(end - start)
      await readFully(handle, bytes, start, data)
      if (Buffer.compare(hashing.blake3(bytes), voucher.digest) !== 0) good.delete(index)
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
  await writeJournal(journal, blob, content.geometry, good, layout.temp)
  return loadPartial(layout, blob)
}

async function scanQuarantine(layout: StoreLayout): Promise<Map<BlobId, number>> {
  const quarantined = new Map<BlobId, number>()
  for (const name of await namesIn(layout.quarantine)) {
    const blob = blobOfFlatName(name)
    if (blob === undefined) continue
    const stat = await lstat(join(layout.quarantine, name))
    if (stat.isFile()) quarantined.set(blob, stat.size)
  }
  return quarantined
}

async function readBootId(): Promise<string | undefined> {
  try {
    return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()
  } catch {
    return undefined
  }
}

async function lastBootId(layout: StoreLayout): Promise<unknown> {
  try {
    const text = await readSmallFile(layout.session, 4096)
    const session: unknown = text === undefined ? undefined : JSON.parse(text.toString())
    return typeof session === 'object' && session !== null && 'bootId' in session ? session.bootId : undefined
  } catch {
    return undefined
  }
}

/** Bytes of some chunks. */
export function sumOf(geometry: ChunkGeometry, indices: Iterable<number>): number {
  let bytes = 0
  for (const index of indices) bytes += chunkLength(geometry, index)
  return bytes
}

export function heldBytes({ geometry, held }: StoredPartial): number {
  return held.complete ? geometry.sizeBytes : sumOf(geometry, held.indices())
}
