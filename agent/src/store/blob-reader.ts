// A complete blob, open for reading, and the record beside it. Checks that the file is still the file it should be; whether
// its bytes are right only their digests can tell, and that is for whoever serves them.
import { type FileHandle, lstat } from 'node:fs/promises'
import { ShoalError } from '@shoal/protocol/errors.ts'
import type { BlobId } from '@shoal/protocol/ids.ts'
import type { ChunkVoucher } from '@shoal/protocol/messages.ts'
import type { BlobReader } from './blob-store.ts'
import {
  decodeSidecarHeader,
  decodeSidecarRecord,
  SIDECAR_PREFIX_BYTES,
  type SidecarHeader,
  sidecarHeaderBytes,
  sidecarRecordRange,
} from './chunk-codec.ts'
import type { StoreLayout } from './layout.ts'
import { openForReading, readFully } from './store-files.ts'

/** A sidecar's header; undefined when there is none or it is damaged. */
export async function readSidecarHeader(path: string, blob: BlobId): Promise<SidecarHeader | undefined> {
  return onSidecar(path, async (handle) => {
    const prefix = Buffer.alloc(SIDECAR_PREFIX_BYTES)
    await readFully(handle, prefix, 0, path)
    const length = sidecarHeaderBytes(prefix)
    if (length === undefined) return undefined
    const whole = Buffer.alloc(length)
    await readFully(handle, whole, 0, path)
    return decodeSidecarHeader(whole, blob)
  })
}

/** All vouchers of a sidecar; damaged ones are left out. */
export async function readVouchers(path: string, header: SidecarHeader): Promise<Map<number, ChunkVoucher>> {
  const vouchers = new Map<number, ChunkVoucher>()
  await onSidecar(path, async (handle) => {
    const { size } = await handle.stat()
    const bytes = Buffer.alloc(size)
    await readFully(handle, bytes, 0, path)
    const count = header.geometry?.chunkCount ?? 0
    for (let index = 0; index < count; index++) {
      const { start, length } = sidecarRecordRange(header, index)
      const voucher = decodeSidecarRecord(header, index, bytes.subarray(start, start + length))
      if (voucher !== undefined) vouchers.set(index, voucher)
    }
    return undefined
  })
  return vouchers
}

/** Runs `use` on an open sidecar; damage of any kind is the same as none being there. */
async function onSidecar<T>(
  path: string,
  use: (handle: FileHandle) => Promise<T | undefined>,
): Promise<T | undefined> {
  let handle: FileHandle | undefined
  try {
    handle = await openForReading(path)
    return handle === undefined ? undefined : await use(handle)
  } catch (error) {
    if (error instanceof ShoalError && error.code === 'store-corrupt') return undefined
    throw error
  } finally {
    await handle?.close()
  }
}

/**
 * Opens a complete blob's file and compares its length with the record.
 * @throws ShoalError `store-corrupt` when it is gone, not a regular file, or of another length
 */
export async function openBlobFile(path: string, sizeBytes: number): Promise<FileHandle> {
  const handle = await openForReading(path)
  if (handle === undefined) throw new ShoalError('store-corrupt', `${path} is gone`)
  const { size } = await handle.stat()
  if (size === sizeBytes) return handle
  await handle.close()
  throw new ShoalError('store-corrupt', `${path} has ${size} bytes, its record says ${sizeBytes}`)
}

/** A reader that can be kept and used again. */
export interface StoredReader extends BlobReader {
  /** The open file is still what lies under its name, with its length. */
  isIntact(): Promise<boolean>
}

export async function openBlobReader(
  layout: StoreLayout,
  blob: BlobId,
  header: SidecarHeader,
): Promise<StoredReader> {
  const path = layout.blob(blob)
  const data = await openBlobFile(path, header.sizeBytes)
  let sidecar: Promise<FileHandle | undefined> | undefined
  let closed: Promise<void> | undefined
  return {
    sizeBytes: header.sizeBytes,
    geometry: header.geometry,
    read: (target, position) => readFully(data, target, position, path),
    async isIntact() {
      const [held, named] = await Promise.all([data.stat(), lstat(path)])
      return held.ino === named.ino && held.dev === named.dev && named.size === header.sizeBytes
    },
    async voucher(index) {
      if (header.geometry === undefined || index >= header.geometry.chunkCount) return undefined
      sidecar ??= openForReading(layout.sidecar(blob)).catch(() => undefined)
      const handle = await sidecar
      if (handle === undefined) return undefined
      const { start, length } = sidecarRecordRange(header, index)
      const record = Buffer.alloc(length)
      const { bytesRead } = await handle.read(record, 0, length, start)
      return decodeSidecarRecord(header, index, record.subarray(0, bytesRead))
    },
    close() {
      closed ??= (async () => {
        await data.close()
        await (await sidecar)?.close()
      })()
      return closed
    },
  }
}
