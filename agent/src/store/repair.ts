// Moves a blob out of service and, for a repair, back to being partial with the chunks that are still right. Nothing is
// copied: the file moves, and links to it in the Hub view are healed with it. Only called under the blob's own queue.
import { lstat, rename, rm } from 'node:fs/promises'
import type { ChunkGeometry } from '@shoal/protocol/chunks.ts'
import type { BlobId } from '@shoal/protocol/ids.ts'
import type { ChunkVoucher } from '@shoal/protocol/messages.ts'
import { z } from 'zod'
import { readSidecarHeader, readVouchers } from './blob-reader.ts'
import { writeJournal } from './journal-file.ts'
import type { StoreLayout } from './layout.ts'
import {
  ensureDirectory,
  errnoOf,
  openForReading,
  readSmallFile,
  storeError,
  syncDirectory,
  writeWhole,
} from './store-files.ts'

const MAX_REPORT_BYTES = 32 * 1024 * 1024
const reportSchema = z.strictObject({ badChunks: z.array(z.int().min(0)) })

/** Sets a complete blob aside with what is wrong with it. From the rename on it is not served, whatever happens next. */
export async function setAside(
  layout: StoreLayout,
  blob: BlobId,
  badChunks: readonly number[],
): Promise<void> {
  const aside = layout.quarantined(blob)
  try {
    await dropQuarantined(layout, blob)
    await writeWhole(aside.report, JSON.stringify({ badChunks }), layout.temp)
    await rename(layout.blob(blob), aside.data)
    await renameIfThere(layout.sidecar(blob), aside.sidecar)
    await syncDirectory(layout.quarantine)
  } catch (error) {
    throw storeError(`set ${blob} aside`, error)
  }
}

export async function dropQuarantined(layout: StoreLayout, blob: BlobId): Promise<void> {
  const aside = layout.quarantined(blob)
  for (const path of [aside.data, aside.sidecar, aside.report])
    await rm(path, { recursive: true, force: true })
}

/**
 * Turns the complete or quarantined file of `blob` into a partial one on disk that holds the chunks with a digest on record,
 * less the bad ones. What cannot be used is removed; then there is no partial one.
 */
export async function moveToPartial(
  layout: StoreLayout,
  blob: BlobId,
  from: 'blobs' | 'quarantine',
  geometry: ChunkGeometry,
  badChunks: readonly number[],
): Promise<void> {
  const aside = layout.quarantined(blob)
  const data = from === 'blobs' ? layout.blob(blob) : aside.data
  const sidecar = from === 'blobs' ? layout.sidecar(blob) : aside.sidecar
  const bad = new Set([...badChunks, ...(await reportedChunks(aside.report))])
  const { directory, data: target, journal } = layout.partial(blob)
  try {
    await rm(directory, { recursive: true, force: true })
    const size = await makeWritable(data)
    if (size === undefined) return await rm(data, { recursive: true, force: true })
    const good = await goodChunks(sidecar, blob, geometry, bad, size)
    await ensureDirectory(directory)
    await writeJournal(journal, blob, geometry, good, layout.temp)
    await rename(data, target)
    await syncDirectory(directory)
    await rm(sidecar, { force: true })
    await dropQuarantined(layout, blob)
  } catch (error) {
    throw storeError(`reopen ${blob}`, error)
  }
}

async function goodChunks(
  sidecar: string,
  blob: BlobId,
  geometry: ChunkGeometry,
  bad: ReadonlySet<number>,
  fileBytes: number,
): Promise<Map<number, ChunkVoucher>> {
  const header = await readSidecarHeader(sidecar, blob)
  if (header?.geometry?.text !== geometry.text) return new Map()
  const vouchers = await readVouchers(sidecar, header)
  for (const index of vouchers.keys()) {
    if (bad.has(index) || geometry.range(index).end > fileBytes) vouchers.delete(index)
  }
  return vouchers
}

/** The file's length; undefined when it is no regular file. */
async function makeWritable(path: string): Promise<number | undefined> {
  const stat = await lstat(path).catch(() => undefined)
  if (stat === undefined || !stat.isFile()) return undefined
  const handle = await openForReading(path)
  if (handle === undefined) return undefined
  try {
    await handle.chmod(0o600)
    return stat.size
  } finally {
    await handle.close()
  }
}

async function reportedChunks(path: string): Promise<readonly number[]> {
  try {
    const text = await readSmallFile(path, MAX_REPORT_BYTES)
    return text === undefined ? [] : reportSchema.parse(JSON.parse(text.toString())).badChunks
  } catch {
    return []
  }
}

async function renameIfThere(from: string, to: string): Promise<void> {
  try {
    await rename(from, to)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
  }
}
