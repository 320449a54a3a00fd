// PURE. CRC-32 (the one of zlib) over a part of a buffer, eight bytes a step. zlib's own needs a view object for each part, which for the
// million short records of a start costs more than the sum itself.

/** Table k holds the CRC of each byte followed by k zero bytes. */
const tables: readonly Uint32Array[] = makeTables()

function makeTables(): readonly Uint32Array[] {
  const first = Uint32Array.from({ length: 256 }, (_, byte) => {
    let crc = byte
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? 0xedb88320 ^ (crc >>> 1) : crc >>> 1
    return crc
  })
  const all = [first]
  for (let zeros = 1; zeros < 8; zeros++)
    all.push(all[zeros - 1]?.map((crc) => (crc >>> 8) ^ (first[crc & 0xff] ?? 0)) ?? first)
  return all
}

const [t0, t1, t2, t3, t4, t5, t6, t7] = tables as readonly [
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
]

/** @param start first byte @param end after the last @param seed CRC of what comes before, or any start value */
export function crc32Of(bytes: Uint8Array, start: number, end: number, seed = 0): number {
  let crc = ~seed
  let at = start
  const byte = (offset: number) => bytes[at + offset] ?? 0
  for (; at + 8 <= end; at += 8) {
    crc ^= byte(0) | (byte(1) << 8) | (byte(2) << 16) | (byte(3) << 24)
    crc =
      (t7[crc & 0xff] ?? 0) ^
      (t6[(crc >>> 8) & 0xff] ?? 0) ^
      (t5[(crc >>> 16) & 0xff] ?? 0) ^
      (t4[crc >>> 24] ?? 0) ^
      (t3[byte(4)] ?? 0) ^
      (t2[byte(5)] ?? 0) ^
      (t1[byte(6)] ?? 0) ^
      (t0[byte(7)] ?? 0)
  }
  for (; at < end; at++) crc = (t0[(crc ^ byte(0)) & 0xff] ?? 0) ^ (crc >>> 8)
  return ~crc >>> 0
}
