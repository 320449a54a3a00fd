// How bytes become a complete blob: synced data, then the synced sidecar, then the rename that is the commit point, then the
// synced directory. Nothing is under a blob's name before that, and nothing half is left after a failure.
import { rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { ChunkGeometry } from '@shoal/protocol/chunks.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
import type { BlobId } from '@shoal/protocol/ids.ts'
import type { ChunkVoucher } from '@shoal/protocol/messages.ts'
import { encodeSidecar } from './chunk-codec.ts'
import type { StoreLayout } from './layout.ts'
import {
  BLOB_MODE,
  ensureDirectory,
  openForReading,
  storeError,
  syncDirectory,
  writeWhole,
} from './store-files.ts'

/** What a blob's sidecar is made of. */
export interface BlobFacts {
  readonly blob: BlobId
  readonly sizeBytes: number
  readonly geometry: ChunkGeometry | undefined
  voucher(index: number): ChunkVoucher | undefined
}

export async function writeSidecar(layout: StoreLayout, facts: BlobFacts): Promise<void> {
  const path = layout.sidecar(facts.blob)
  await ensureDirectory(dirname(path))
  const bytes = encodeSidecar(facts.blob, facts.sizeBytes, facts.geometry, (index) => facts.voucher(index))
  await writeWhole(path, bytes, layout.temp)
}

/**
 * Makes the file `data`, whose content is synced, the blob's.
 * @throws ShoalError `store-full` | `store-failed` | `store-corrupt`; then there is no such blob. If it was the last sync that
 * failed, `data` is gone too.
 */
export async function publishFile(layout: StoreLayout, data: string, facts: BlobFacts): Promise<void> {
  const target = layout.blob(facts.blob)
  let renamed = false
  try {
    await sealData(data, facts.sizeBytes)
    await writeSidecar(layout, facts)
    await ensureDirectory(dirname(target))
    await rename(data, target)
    renamed = true
    await syncDirectory(dirname(target))
  } catch (error) {
    if (renamed) await rm(target, { force: true })
    await rm(layout.sidecar(facts.blob), { force: true })
    throw storeError(`publish ${facts.blob}`, error)
  }
}

/** Last look at the file: right length, read-only from now on, and that too on disk. */
async function sealData(data: string, sizeBytes: number): Promise<void> {
  const handle = await openForReading(data)
  if (handle === undefined) throw new ShoalError('store-corrupt', `${data} is gone`)
  try {
    const { size } = await handle.stat()
    if (size !== sizeBytes)
      throw new ShoalError('store-corrupt', `${data} has ${size} bytes instead of ${sizeBytes}`)
    await handle.chmod(BLOB_MODE)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Removes a complete blob's files. Readers that have it open, and links in the Hub view, keep the bytes. */
export async function removeFiles(layout: StoreLayout, blob: BlobId): Promise<void> {
  const path = layout.blob(blob)
  try {
    await rm(path, { recursive: true, force: true })
    await rm(layout.sidecar(blob), { recursive: true, force: true })
    await ensureDirectory(dirname(path))
    await syncDirectory(dirname(path))
  } catch (error) {
    throw storeError(`remove ${blob}`, error)
  }
}
