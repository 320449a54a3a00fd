// The journal of one partial blob as an open file: appends in order, several waiting records in one write, sync points.
// Owns the descriptor. Does not know which chunks are right; a record is appended only after its bytes were written.
import type { FileHandle } from 'node:fs/promises'
import type { ChunkGeometry } from '@shoal/protocol/chunks.ts'
import type { BlobId } from '@shoal/protocol/ids.ts'
import type { ChunkVoucher } from '@shoal/protocol/messages.ts'
import {
  decodeJournal,
  decodeJournalMarks,
  encodeChunkSlot,
  encodeJournalHeader,
  encodeSyncSlot,
  type JournalContent,
  type JournalMarks,
  SLOT_BYTES,
} from './chunk-codec.ts'
import {
  openForReading,
  openForWriting,
  readFully,
  storeError,
  writeFully,
  writeWhole,
} from './store-files.ts'

/** Reads a partial blob's journal; undefined when there is none or it is not this blob's. @throws `store-corrupt` */
export async function readJournal(path: string, blob: BlobId): Promise<JournalContent | undefined> {
  const bytes = await readBytes(path)
  return bytes === undefined ? undefined : decodeJournal(bytes, blob)
}

/** Memory in which one journal after the other is read. */
export interface Scratch {
  bytes: Buffer
}

/** As {@link readJournal}, only which chunks it marks. */
export async function readJournalMarks(
  path: string,
  blob: BlobId,
  scratch: Scratch,
): Promise<JournalMarks | undefined> {
  const bytes = await readBytes(path, scratch)
  return bytes === undefined ? undefined : decodeJournalMarks(bytes, blob)
}

async function readBytes(path: string, scratch?: Scratch): Promise<Buffer | undefined> {
  const handle = await openForReading(path)
  if (handle === undefined) return undefined
  try {
    const { size } = await handle.stat()
    if (scratch !== undefined && scratch.bytes.byteLength < size) scratch.bytes = Buffer.allocUnsafeSlow(size)
    const bytes = scratch?.bytes.subarray(0, size) ?? Buffer.allocUnsafeSlow(size)
    await readFully(handle, bytes, 0, path)
    return bytes
  } finally {
    await handle.close()
  }
}

/** Writes a journal anew, whole: for a new partial blob, and to forget chunks. `synced`: their bytes are on disk. */
export async function writeJournal(
  path: string,
  blob: BlobId,
  geometry: ChunkGeometry,
  chunks: Iterable<readonly [index: number, voucher: ChunkVoucher]>,
  temp: string,
): Promise<void> {
  const header = encodeJournalHeader(blob, geometry)
  const slots = [...chunks].map(([index, voucher]) => encodeChunkSlot(header.seed, index, voucher))
  const synced = slots.length === 0 ? [] : [encodeSyncSlot(header.seed, slots.length)]
  await writeWhole(path, Buffer.concat([header.bytes, ...slots, ...synced]), temp)
}

/** Says in a journal that nobody has open that all its chunks are synced, which they must be. */
export async function markSynced(path: string, { headerBytes, slots, seed }: JournalMarks): Promise<void> {
  const handle = await openForWriting(path)
  try {
    // Over the torn end of the last write, if any, which is shorter.
    await writeFully(handle, encodeSyncSlot(seed, slots), headerBytes + slots * SLOT_BYTES)
    await handle.datasync()
  } finally {
    await handle.close()
  }
}

export interface JournalFile {
  /** Resolves when the record is in the file. @throws the system's error; then the chunk does not count */
  append(index: number, voucher: ChunkVoucher): Promise<void>
  /** Runs `syncData`, then records that everything appended before it is safe from power loss. */
  sync(syncData: () => Promise<void>): Promise<void>
  /** Waits for its writes, then closes. */
  close(): Promise<void>
}

/** Opens an existing journal for appending after its last whole record. */
export async function openJournal(path: string, content: JournalContent): Promise<JournalFile> {
  const handle = await openForWriting(path)
  const slots = content.slots
  try {
    // The torn end of the last write, if any, would misplace everything after it.
    await handle.truncate(content.headerBytes + slots * SLOT_BYTES)
  } catch (error) {
    await handle.close().catch(() => {})
    throw storeError(`open ${path}`, error)
  }
  return journalOn(handle, content, slots)
}

function journalOn(handle: FileHandle, content: JournalContent, firstSlot: number): JournalFile {
  const { headerBytes, seed } = content
  let slots = firstSlot
  let waiting: { readonly slot: Buffer; readonly settle: (error?: unknown) => void }[] = []
  let writing: Promise<void> | undefined

  async function drain(): Promise<void> {
    while (waiting.length > 0) {
      const batch = waiting
      waiting = []
      const position = headerBytes + slots * SLOT_BYTES
      try {
        const bytes = batch.map((entry) => entry.slot)
        await writeFully(handle, bytes.length === 1 && bytes[0] ? bytes[0] : Buffer.concat(bytes), position)
        slots += batch.length
        for (const entry of batch) entry.settle()
      } catch (error) {
        // The next batch is written over what this one left.
        for (const entry of batch) entry.settle(error)
      }
    }
    writing = undefined
  }

  function push(slot: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      waiting.push({ slot, settle: (error) => (error === undefined ? resolve() : reject(error)) })
      writing ??= drain()
    })
  }

  return {
    append: (index, voucher) => push(encodeChunkSlot(seed, index, voucher)),
    async sync(syncData) {
      const before = slots
      await syncData()
      if (before === 0) return
      await push(encodeSyncSlot(seed, before))
      await handle.datasync()
    },
    async close() {
      await writing
      await handle.close()
    },
  }
}
