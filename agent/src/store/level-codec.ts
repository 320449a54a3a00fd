// The byte formats that LevelDB's files are made of: numbers, checksums, snappy. Pure. What does not fit is damage, thrown as
// `store-corrupt`. Knows no file; table-check.ts and index-check.ts put these pieces together.
import { ShoalError } from '@shoal/protocol/errors.ts'

/** Bytes read in order. Its methods throw `store-corrupt` when the bytes end before. */
export interface ByteCursor {
  /** Bytes not read yet. */
  readonly left: number
  take(sizeBytes: number): Uint8Array
  /** Unsigned, 1 to 4 bytes. */
  littleEndian(sizeBytes: number): number
  /** Unsigned, seven bits a byte, the lowest first, in the shortest form: LevelDB writes no other. */
  varint(): number
  /** Bytes after a varint that counts them. */
  prefixed(): Uint8Array
}

/** The largest power of 128 whose multiples may still be exact. */
const MAX_VARINT_POWER = 128 ** 7

export function corrupt(message: string): ShoalError {
  return new ShoalError('store-corrupt', message)
}

export function cursorOver(bytes: Uint8Array): ByteCursor {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let at = 0

  function advance(sizeBytes: number): number {
    if (sizeBytes > buffer.byteLength - at) throw corrupt('bytes are missing')
    at += sizeBytes
    return at - sizeBytes
  }

  function varint(): number {
    let value = 0
    for (let power = 1; power <= MAX_VARINT_POWER; power *= 128) {
      const byte = buffer.readUInt8(advance(1))
      value += (byte & 0x7f) * power
      if (byte >= 0x80) continue
      if ((byte === 0 && power > 1) || !Number.isSafeInteger(value)) break
      return value
    }
    throw corrupt('a number is malformed')
  }

  return {
    get left() {
      return buffer.byteLength - at
    },
    take(sizeBytes) {
      const start = advance(sizeBytes)
      return buffer.subarray(start, start + sizeBytes)
    },
    littleEndian: (sizeBytes) => buffer.readUIntLE(advance(sizeBytes), sizeBytes),
    varint,
    prefixed() {
      const sizeBytes = varint()
      const start = advance(sizeBytes)
      return buffer.subarray(start, start + sizeBytes)
    },
  }
}

/** CRC-32C (Castagnoli, reflected; RFC 3720 B.4) by a table of one byte. Node has only the other CRC-32. */
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let remainder = byte
  for (let bit = 0; bit < 8; bit++) remainder = (remainder >>> 1) ^ (remainder & 1 ? 0x82f63b78 : 0)
  return remainder
})

/** Unsigned 32 bits. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff
  for (let at = 0; at < bytes.byteLength; at++)
    crc = (CRC_TABLE[(crc ^ (bytes[at] ?? 0)) & 0xff] ?? 0) ^ (crc >>> 8)
  return (crc ^ 0xffffffff) >>> 0
}

/** As LevelDB stores it (util/crc32c.h `Mask`), so that a checksum of bytes with checksums stays a good one. */
export function maskedCrc32c(bytes: Uint8Array): number {
  const crc = crc32c(bytes)
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0
}

/** One snappy element of 3 bytes gives at most 64, so no honest text grows more than this. */
const MAX_SNAPPY_GROWTH = 22

/** Decompresses one raw snappy block (google/snappy, format_description.txt). @throws ShoalError `store-corrupt` */
export function unsnappy(compressed: Uint8Array): Uint8Array {
  const source = cursorOver(compressed)
  const sizeBytes = source.varint()
  if (sizeBytes > compressed.byteLength * MAX_SNAPPY_GROWTH) throw corrupt('too much for snappy')
  const target = new Uint8Array(sizeBytes)
  let filled = 0
  while (source.left > 0) {
    const tag = source.littleEndian(1)
    const kind = tag & 3
    if (kind === 0) {
      const short = tag >> 2
      const length = 1 + (short < 60 ? short : source.littleEndian(short - 59))
      if (length > sizeBytes - filled) throw corrupt('snappy gives more than it said')
      target.set(source.take(length), filled)
      filled += length
      continue
    }
    const length = kind === 1 ? 4 + ((tag >> 2) & 7) : 1 + (tag >> 2)
    const distance =
      kind === 1 ? ((tag >> 5) << 8) | source.littleEndian(1) : source.littleEndian(kind === 2 ? 2 : 4)
    if (length > sizeBytes - filled || distance === 0 || distance > filled)
      throw corrupt('snappy copies from nowhere')
    // Byte by byte: a copy may overlap what it writes.
    for (const end = filled + length; filled < end; filled++) target[filled] = target[filled - distance] ?? 0
  }
  if (filled !== sizeBytes) throw corrupt('snappy gives less than it said')
  return target
}
