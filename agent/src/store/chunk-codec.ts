// How chunk vouchers lie on disk: the journal beside a partial blob and the sidecar of a complete one. Pure encoding and
// decoding. Every record carries its own checksum; a damaged one is a chunk less, never a chunk that was not written.
import { crc32 } from 'node:zlib'
import { type ChunkGeometry, ChunkMap, parseGeometry } from '@shoal/protocol/chunks.ts'
import type { BlobId } from '@shoal/protocol/ids.ts'
import type { ChunkVoucher } from '@shoal/protocol/messages.ts'
import { z } from 'zod'
import { crc32Of } from './crc32.ts'

const JOURNAL_MAGIC = 'SHOALJ01'
const SIDECAR_MAGIC = 'SHOALC01'
/** Magic (8), length of the JSON header (4), its CRC-32 (4). Numbers are little-endian. */
const PREFIX_BYTES = 16
const MAX_HEADER_BYTES = 8 * 1024 * 1024

/** Type (1), zeros (3), number (4), digest (32), author (32), signature (64), CRC-32 (4). */
export const SLOT_BYTES = 140
const CHUNK_SLOT = 0x43
const SYNC_SLOT = 0x53

/** Author's place in the header (2), zeros (2), digest (32), signature (64), CRC-32 (4). */
const SIDECAR_RECORD_BYTES = 104
const NO_AUTHOR = 0xffff

interface Header<T> {
  readonly content: T
  /** Where the records begin. */
  readonly end: number
  /** Binds each record to its own file: the start value of the records' checksums. */
  readonly seed: number
}

function encodeHeader(magic: string, content: object): { readonly bytes: Buffer; readonly seed: number } {
  const text = Buffer.from(JSON.stringify(content))
  const prefix = Buffer.alloc(PREFIX_BYTES)
  prefix.write(magic, 'latin1')
  prefix.writeUInt32LE(text.byteLength, 8)
  const seed = crc32(text)
  prefix.writeUInt32LE(seed, 12)
  return { bytes: Buffer.concat([prefix, text]), seed }
}

/** Length of the whole header, from a file's first 16 bytes; undefined when they are not ours. */
function headerEnd(prefix: Buffer, magic: string): number | undefined {
  if (prefix.byteLength < PREFIX_BYTES || prefix.toString('latin1', 0, 8) !== magic) return undefined
  const length = prefix.readUInt32LE(8)
  return length > MAX_HEADER_BYTES ? undefined : PREFIX_BYTES + length
}

function decodeHeader<T>(bytes: Buffer, magic: string, schema: z.ZodType<T>): Header<T> | undefined {
  const end = headerEnd(bytes, magic)
  if (end === undefined || bytes.byteLength < end) return undefined
  const text = bytes.subarray(PREFIX_BYTES, end)
  const seed = bytes.readUInt32LE(12)
  if (crc32(text) !== seed) return undefined
  try {
    const parsed = schema.safeParse(JSON.parse(text.toString()))
    return parsed.success ? { content: parsed.data, end, seed } : undefined
  } catch {
    return undefined
  }
}

const geometrySchema = z.string().transform((text, context): ChunkGeometry => {
  try {
    return parseGeometry(text)
  } catch {
    context.addIssue({ code: 'custom', message: 'not a geometry' })
    return z.NEVER
  }
})

const journalHeaderSchema = z.strictObject({ blob: z.string(), geometry: geometrySchema })

/** What a journal says. */
export interface JournalContent {
  readonly geometry: ChunkGeometry
  /** Chunks written, in no order. `slot` tells which came first; below `syncedSlots` they are safe from power loss. */
  readonly chunks: ReadonlyMap<number, { readonly voucher: ChunkVoucher; readonly slot: number }>
  readonly syncedSlots: number
  /** Whole slots in the file; what follows is the torn end of a write. */
  readonly slots: number
  readonly headerBytes: number
  readonly seed: number
}

export function encodeJournalHeader(
  blob: BlobId,
  geometry: ChunkGeometry,
): { readonly bytes: Buffer; readonly seed: number } {
  return encodeHeader(JOURNAL_MAGIC, { blob, geometry: geometry.text })
}

export function encodeChunkSlot(seed: number, index: number, voucher: ChunkVoucher): Buffer {
  const slot = Buffer.alloc(SLOT_BYTES)
  slot[0] = CHUNK_SLOT
  slot.writeUInt32LE(index, 4)
  slot.set(voucher.digest, 8)
  slot.set(voucher.author, 40)
  slot.set(voucher.signature, 72)
  return sealSlot(slot, seed)
}

/** Says: the bytes of all chunks in slots before number `slots` have been synced. */
export function encodeSyncSlot(seed: number, slots: number): Buffer {
  const slot = Buffer.alloc(SLOT_BYTES)
  slot[0] = SYNC_SLOT
  slot.writeUInt32LE(slots, 4)
  return sealSlot(slot, seed)
}

function sealSlot(slot: Buffer, seed: number): Buffer {
  slot.writeUInt32LE(crc32(slot.subarray(0, SLOT_BYTES - 4), seed), SLOT_BYTES - 4)
  return slot
}

/**
 * Reads a journal. Damaged slots are passed over: the journal only ever adds chunks (forgetting some rewrites it), so a lost
 * slot can only lose its own chunk. undefined when the header is not that of this blob.
 */
export function decodeJournal(bytes: Buffer, blob: BlobId): JournalContent | undefined {
  const header = decodeHeader(bytes, JOURNAL_MAGIC, journalHeaderSchema)
  if (header === undefined || header.content.blob !== blob) return undefined
  const { geometry } = header.content
  const chunks = new Map<number, { voucher: ChunkVoucher; slot: number }>()
  const { slots, syncedSlots } = readSlots(bytes, header, geometry.chunkCount, (index, slot, start) => {
    const voucher = {
      digest: bytes.subarray(start + 8, start + 40),
      author: bytes.subarray(start + 40, start + 72),
      signature: bytes.subarray(start + 72, start + 136),
    }
    chunks.set(index, { voucher, slot })
  })
  return { geometry, chunks, syncedSlots, slots, headerBytes: header.end, seed: header.seed }
}

/** Which chunks a journal marks: what a start needs to know of each of perhaps a million. */
export interface JournalMarks {
  readonly geometry: ChunkGeometry
  readonly held: ChunkMap
  /** Digests of those that no sync covers. */
  readonly unsynced: ReadonlyMap<number, Uint8Array>
  readonly slots: number
  readonly headerBytes: number
  readonly seed: number
}

/** As {@link decodeJournal}, without the vouchers: an object a chunk would cost more than all the rest of a start. */
export function decodeJournalMarks(bytes: Buffer, blob: BlobId): JournalMarks | undefined {
  const header = decodeHeader(bytes, JOURNAL_MAGIC, journalHeaderSchema)
  if (header === undefined || header.content.blob !== blob) return undefined
  const { geometry } = header.content
  const held = new ChunkMap(geometry.chunkCount)
  const slotOf = new Uint32Array(geometry.chunkCount)
  const { slots, syncedSlots } = readSlots(bytes, header, geometry.chunkCount, (index, slot) => {
    held.add(index)
    slotOf[index] = slot
  })
  const unsynced = new Map<number, Uint8Array>()
  for (let index = 0; index < geometry.chunkCount; index++) {
    const slot = slotOf[index] ?? 0
    if (slot < syncedSlots || !held.has(index)) continue
    const start = header.end + slot * SLOT_BYTES
    unsynced.set(index, new Uint8Array(bytes.subarray(start + 8, start + 40)))
  }
  return { geometry, held, unsynced, slots, headerBytes: header.end, seed: header.seed }
}

/** Goes over the sound slots of a journal in order. @param start of a slot: its first byte in the file */
function readSlots(
  bytes: Buffer,
  { end, seed }: Pick<Header<unknown>, 'end' | 'seed'>,
  chunkCount: number,
  onChunk: (index: number, slot: number, start: number) => void,
): { readonly slots: number; readonly syncedSlots: number } {
  let syncedSlots = 0
  const slots = Math.floor((bytes.byteLength - end) / SLOT_BYTES)
  for (let slot = 0; slot < slots; slot++) {
    const start = end + slot * SLOT_BYTES
    const last = start + SLOT_BYTES - 4
    if (crc32Of(bytes, start, last, seed) !== bytes.readUInt32LE(last)) continue
    const number = bytes.readUInt32LE(start + 4)
    if (bytes[start] === SYNC_SLOT && number <= slot) syncedSlots = Math.max(syncedSlots, number)
    if (bytes[start] === CHUNK_SLOT && number < chunkCount) onChunk(number, slot, start)
  }
  return { slots, syncedSlots }
}

const sidecarHeaderSchema = z.strictObject({
  blob: z.string(),
  sizeBytes: z.int().min(0),
  geometry: geometrySchema.optional(),
  authors: z.array(z.string().transform((text) => Buffer.from(text, 'base64'))).max(NO_AUTHOR),
})

/** What a sidecar says of its blob; vouchers are read one by one at {@link sidecarRecordRange}. */
export interface SidecarHeader {
  readonly sizeBytes: number
  /** undefined: no vouchers on record. */
  readonly geometry: ChunkGeometry | undefined
  readonly authors: readonly Uint8Array[]
  readonly headerBytes: number
  readonly seed: number
}

export const SIDECAR_PREFIX_BYTES = PREFIX_BYTES

/** Length of the header whose first {@link SIDECAR_PREFIX_BYTES} bytes these are; undefined when they are not ours. */
export function sidecarHeaderBytes(prefix: Buffer): number | undefined {
  return headerEnd(prefix, SIDECAR_MAGIC)
}

/** Encodes a sidecar. Authors are written once each. */
export function encodeSidecar(
  blob: BlobId,
  sizeBytes: number,
  geometry: ChunkGeometry | undefined,
  voucherOf: (index: number) => ChunkVoucher | undefined,
): Buffer {
  const count = geometry?.chunkCount ?? 0
  const authors = new Map<string, number>()
  for (let index = 0; index < count; index++) {
    const voucher = voucherOf(index)
    if (voucher === undefined || authors.size >= NO_AUTHOR) continue
    const key = Buffer.from(voucher.author).toString('base64')
    if (!authors.has(key)) authors.set(key, authors.size)
  }
  const header = encodeHeader(SIDECAR_MAGIC, {
    blob,
    sizeBytes,
    ...(geometry === undefined ? {} : { geometry: geometry.text }),
    authors: [...authors.keys()],
  })
  const records = Buffer.alloc(count * SIDECAR_RECORD_BYTES)
  for (let index = 0; index < count; index++) {
    const record = records.subarray(index * SIDECAR_RECORD_BYTES, (index + 1) * SIDECAR_RECORD_BYTES)
    const voucher = voucherOf(index)
    const author =
      voucher === undefined ? undefined : authors.get(Buffer.from(voucher.author).toString('base64'))
    record.writeUInt16LE(author ?? NO_AUTHOR, 0)
    if (voucher !== undefined && author !== undefined) {
      record.set(voucher.digest, 4)
      record.set(voucher.signature, 36)
    }
    record.writeUInt32LE(recordChecksum(record, header.seed, index), SIDECAR_RECORD_BYTES - 4)
  }
  return Buffer.concat([header.bytes, records])
}

/** undefined when damaged or of another blob. */
export function decodeSidecarHeader(bytes: Buffer, blob: BlobId): SidecarHeader | undefined {
  const header = decodeHeader(bytes, SIDECAR_MAGIC, sidecarHeaderSchema)
  if (header === undefined || header.content.blob !== blob) return undefined
  const { sizeBytes, geometry, authors } = header.content
  if (geometry !== undefined && geometry.sizeBytes !== sizeBytes) return undefined
  return { sizeBytes, geometry, authors, headerBytes: header.end, seed: header.seed }
}

/** Where the record of chunk `index` lies in the file. */
export function sidecarRecordRange(
  header: SidecarHeader,
  index: number,
): { readonly start: number; readonly length: number } {
  return { start: header.headerBytes + index * SIDECAR_RECORD_BYTES, length: SIDECAR_RECORD_BYTES }
}

/** The voucher in a record; undefined when it holds none or is damaged. */
export function decodeSidecarRecord(
  header: SidecarHeader,
  index: number,
  record: Buffer,
): ChunkVoucher | undefined {
  if (record.byteLength !== SIDECAR_RECORD_BYTES) return undefined
  if (recordChecksum(record, header.seed, index) !== record.readUInt32LE(SIDECAR_RECORD_BYTES - 4))
    return undefined
  const author = header.authors[record.readUInt16LE(0)]
  if (author === undefined) return undefined
  return { digest: record.subarray(4, 36), author, signature: record.subarray(36, 100) }
}

function recordChecksum(record: Buffer, seed: number, index: number): number {
  const place = Buffer.alloc(4)
  place.writeUInt32LE(index)
  return crc32(record.subarray(0, SIDECAR_RECORD_BYTES - 4), crc32(place, seed))
}
