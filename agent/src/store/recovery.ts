// What a start finds on disk: complete blobs, partial ones with the chunks that may count, things half done. The directories
// are the truth; nothing complete is hashed again. Only runs under the lock of the storage path.
import { lstatSync } from 'node:fs'
import { lstat, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type ChunkGeometry, type ChunkMap, chunkLength } from '@shoal/protocol/chunks.ts'
import { messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import type { BlobId } from '@shoal/protocol/ids.ts'
import type { ChunkVoucher } from '@shoal/protocol/messages.ts'
import type { Hashing } from '../hashing.ts'
import type { JournalContent, JournalMarks } from './chunk-codec.ts'
import { markSynced, readJournal, readJournalMarks, type Scratch, writeJournal } from './journal-file.ts'
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

/** Bytes of unsynced chunks that a start after a power loss reads before it goes on: about 0.3 s. Three downloads leave less. */
const CHECKED_AT_START_BYTES = 256 * 1024 * 1024
/** A session file that is longer says nothing: then every partial blob is checked. */
const MAX_SESSION_BYTES = 8 * 1024 * 1024

export interface FoundOnDisk {
  /** Blob to size in bytes. */
  readonly complete: Map<BlobId, number>
  readonly partials: Map<BlobId, StoredPartial>
  readonly quarantined: Map<BlobId, number>
  readonly unchecked: UncheckedPartials
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
  const last = await lastSession(layout)
  // After a power loss what was written and not synced may be anything. Without boot ids every start may follow one.
  const trusted = bootId !== undefined && last?.bootId === bootId
  const unchecked = new UncheckedPartials(layout, hashing, bootId)
  const needsCheck = (blob: BlobId) => !trusted || last.unchecked.has(blob)
  const partials = await scanPartials(layout, complete, { hashing, needsCheck, unchecked, log })
  // Written last: a start that dies before this checks again.
  await unchecked.write()
  return { complete, partials, quarantined: await scanQuarantine(layout), unchecked }
}

/**
 * Partial blobs whose unsynced chunks nobody has looked at since a power loss: they count for nothing until a writer comes, and it is
 * looked at then. Remembered on disk, with the boot of the machine, until it is done.
 */
export class UncheckedPartials {
  readonly #layout: StoreLayout
  readonly #hashing: Hashing
  readonly #bootId: string | undefined
  readonly #blobs = new Set<BlobId>()

  constructor(layout: StoreLayout, hashing: Hashing, bootId: string | undefined) {
    this.#layout = layout
    this.#hashing = hashing
    this.#bootId = bootId
  }

  add(blob: BlobId): void {
    this.#blobs.add(blob)
  }

  /** Before a blob gets a writer. @throws ShoalError `store-corrupt` | `store-failed` when what lies there cannot be used */
  async settle(blob: BlobId): Promise<void> {
    if (!this.#blobs.has(blob)) return
    const marks = await loadMarks(this.#layout, blob, { bytes: Buffer.alloc(0) })
    if (marks !== undefined) await recheckUnsynced(this.#layout, blob, this.#hashing, marks)
    this.#blobs.delete(blob)
    await this.write()
  }

  async write(): Promise<void> {
    const session = { bootId: this.#bootId ?? null, unchecked: [...this.#blobs] }
    await writeWhole(this.#layout.session, `${JSON.stringify(session)}\n`, this.#layout.temp)
  }
}

async function scanBlobs(layout: StoreLayout, log: StoreLog): Promise<Map<BlobId, number>> {
  const complete = new Map<BlobId, number>()
  for await (const { blob, path } of shardedFiles(layout.blobs)) {
    // Not awaited one by one: that takes ten times as long, and nobody is being served yet.
    const stat = lstatSync(path)
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

interface PartialScan {
  readonly hashing: Hashing
  /** What no sync covers may be anything. */
  readonly needsCheck: (blob: BlobId) => boolean
  readonly unchecked: UncheckedPartials
  readonly log: StoreLog
}

async function scanPartials(
  layout: StoreLayout,
  complete: ReadonlyMap<BlobId, number>,
  { hashing, needsCheck, unchecked, log }: PartialScan,
): Promise<Map<BlobId, StoredPartial>> {
  const partials = new Map<BlobId, StoredPartial>()
  const scratch = { bytes: Buffer.alloc(0) }
  let leftBytes = CHECKED_AT_START_BYTES
  for (const name of await namesIn(layout.partials)) {
    const blob = blobOfFlatName(name)
    if (blob === undefined) continue
    let found: FoundMarks | undefined
    try {
      found = complete.has(blob) ? undefined : await loadMarks(layout, blob, scratch)
      if (found !== undefined && found.unsynced.size > 0 && needsCheck(blob)) {
        leftBytes -= sumOf(found.geometry, found.unsynced.keys())
        if (leftBytes >= 0) await recheckUnsynced(layout, blob, hashing, found)
        else {
          unchecked.add(blob)
          for (const index of found.unsynced.keys()) found.held.delete(index)
        }
      }
    } catch (error) {
      log('warn', 'partial blob not usable', { blob, error: messageOf(error) })
      found = undefined
    }
    if (found === undefined) await rm(join(layout.partials, name), { recursive: true, force: true })
    else partials.set(blob, { geometry: found.geometry, held: found.held })
  }
  return partials
}

interface FoundMarks extends JournalMarks {
  /** The journal marks chunks that do not lie within the data file. */
  readonly isCut: boolean
}

/** As {@link loadPartial}, only which chunks count. */
async function loadMarks(
  layout: StoreLayout,
  blob: BlobId,
  scratch: Scratch,
): Promise<FoundMarks | undefined> {
  const { data, journal } = layout.partial(blob)
  const marks = await readJournalMarks(journal, blob, scratch)
  const size = marks === undefined ? undefined : await sizeOf(data)
  if (marks === undefined || size === undefined) return undefined
  const { geometry, held, unsynced } = marks
  if (size >= geometry.sizeBytes) return { ...marks, isCut: false }
  const before = held.held
  for (const index of [...held.indices()]) if (geometry.range(index).end > size) held.delete(index)
  const left = new Map([...unsynced].filter(([index]) => held.has(index)))
  return { ...marks, unsynced: left, isCut: held.held < before }
}

export interface LoadedPartial {
  readonly content: JournalContent
  /** Chunks whose bytes lie within the data file. */
  readonly vouchers: ReadonlyMap<number, ChunkVoucher>
}

/** A partial blob as its files say it; undefined when they are none. @throws `store-corrupt` | `store-failed` */
export async function loadPartial(layout: StoreLayout, blob: BlobId): Promise<LoadedPartial | undefined> {
  const { data, journal } = layout.partial(blob)
  const content = await readJournal(journal, blob)
  if (content === undefined) return undefined
  const size = await sizeOf(data)
  if (size === undefined) return undefined
  const vouchers = new Map<number, ChunkVoucher>()
  for (const [index, { voucher }] of content.chunks) {
    if (content.geometry.range(index).end <= size) vouchers.set(index, voucher)
  }
  return { content, vouchers }
}

/** undefined when there is no such file. @throws ShoalError `store-corrupt` when it is no regular one */
async function sizeOf(path: string): Promise<number | undefined> {
  const handle = await openForReading(path)
  if (handle === undefined) return undefined
  const { size } = await handle.stat()
  await handle.close()
  return size
}

/** Reads the chunks that no sync covers and keeps those that are what their digest says, in `held` too; then they count as synced. */
async function recheckUnsynced(
  layout: StoreLayout,
  blob: BlobId,
  hashing: Hashing,
  marks: FoundMarks,
): Promise<void> {
  const { geometry, held, unsynced } = marks
  const { data, journal } = layout.partial(blob)
  const handle = await openForReading(data)
  if (handle === undefined) throw new ShoalError('store-corrupt', `${data} is gone`)
  let areGood = true
  try {
    for (const [index, digest] of unsynced) {
      const { start, end } = geometry.range(index)
      const bytes = Buffer.allocUnsafe(end - start)
      await readFully(handle, bytes, start, data)
      if (Buffer.compare(hashing.blake3(bytes), digest) === 0) continue
      held.delete(index)
      areGood = false
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
  if (areGood && !marks.isCut) return markSynced(journal, marks)
  // Records of what is wrong, or not in the file any more, must not come true later.
  const loaded = await loadPartial(layout, blob)
  const good = [...(loaded?.vouchers ?? [])].filter(([index]) => held.has(index))
  await writeJournal(journal, blob, geometry, good, layout.temp)
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

async function lastSession(
  layout: StoreLayout,
): Promise<{ readonly bootId: unknown; readonly unchecked: ReadonlySet<unknown> } | undefined> {
  try {
    const text = await readSmallFile(layout.session, MAX_SESSION_BYTES)
    const session: unknown = text === undefined ? undefined : JSON.parse(text.toString())
    if (typeof session !== 'object' || session === null || !('bootId' in session)) return undefined
    // A version that checked everything at its start wrote no list.
    const unchecked = 'unchecked' in session ? session.unchecked : []
    return Array.isArray(unchecked) ? { bootId: session.bootId, unchecked: new Set(unchecked) } : undefined
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
  if (geometry.chunkCount === 0) return 0
  // All chunks but the last have one length.
  const last = geometry.chunkCount - 1
  const full = chunkLength(geometry, 0)
  return held.held * full - (held.has(last) ? full - chunkLength(geometry, last) : 0)
}
