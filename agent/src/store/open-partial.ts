// Opens the files of a partial blob for writing: makes them when there are none, goes on with what counts when there are.
// Does not know who may write; the store asks for it once a writer's place and space are given.
import type { FileHandle } from 'node:fs/promises'
import { rm } from 'node:fs/promises'
import type { ChunkGeometry } from '@shoal/protocol/chunks.ts'
import { hasCode, messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import type { BlobId } from '@shoal/protocol/ids.ts'
import { type JournalFile, openJournal, readJournal, writeJournal } from './journal-file.ts'
import type { StoreLayout } from './layout.ts'
import { type LoadedPartial, loadPartial, type UncheckedPartials } from './recovery.ts'
import { ensureDirectory, openForWriting, type StoreLog, storeError } from './store-files.ts'

export interface OpenFiles {
  readonly data: FileHandle
  readonly journal: JournalFile
}

/** What is on disk of a blob cut by `geometry`; anything else there is removed. */
export async function findPartial(
  layout: StoreLayout,
  blob: BlobId,
  geometry: ChunkGeometry,
  log: StoreLog,
  unchecked?: UncheckedPartials,
): Promise<LoadedPartial | undefined> {
  try {
    await unchecked?.settle(blob)
  } catch (error) {
    // A full disk or too many open files say nothing about what lies there.
    if (!hasCode(error, 'store-corrupt')) throw error
    log('warn', 'partial blob dropped: cannot be checked', { blob, reason: error.message })
    await dropPartial(layout, blob)
    return undefined
  }
  try {
    const loaded = await loadPartial(layout, blob)
    if (loaded?.content.geometry.text === geometry.text) return loaded
    if (loaded !== undefined) log('info', 'partial blob dropped: cut differently', { blob })
  } catch (error) {
    log('warn', 'partial blob dropped: not usable', { blob, reason: messageOf(error) })
  }
  await dropPartial(layout, blob)
  return undefined
}

export async function dropPartial(layout: StoreLayout, blob: BlobId): Promise<void> {
  await rm(layout.partial(blob).directory, { recursive: true, force: true })
}

/** @throws ShoalError `store-full` | `store-failed` | `store-corrupt` */
export async function openPartialFiles(
  layout: StoreLayout,
  blob: BlobId,
  geometry: ChunkGeometry,
  loaded: LoadedPartial | undefined,
): Promise<OpenFiles> {
  const paths = layout.partial(blob)
  let data: FileHandle | undefined
  try {
    await ensureDirectory(paths.directory)
    data = await openForWriting(paths.data)
    const { size } = await data.stat()
    if (size > geometry.sizeBytes) await data.truncate(geometry.sizeBytes)
    // Records of bytes that are not in the file any more must not come true when the file grows over their place.
    if (loaded === undefined || loaded.vouchers.size !== loaded.content.chunks.size) {
      await data.datasync()
      await writeJournal(paths.journal, blob, geometry, loaded?.vouchers ?? [], layout.temp)
    }
    const content = await readJournal(paths.journal, blob)
    if (content === undefined) throw new ShoalError('store-corrupt', `${paths.journal} cannot be read`)
    return { data, journal: await openJournal(paths.journal, content) }
  } catch (error) {
    await data?.close().catch(() => {})
    throw storeError(`open the partial blob ${blob}`, error)
  }
}
