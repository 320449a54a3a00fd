// A blob's cuts and which of its chunks are held. Geometry is a value: nothing else in the house computes offsets.
import { ShoalError } from './errors.ts'

const MIB = 1024 * 1024

/** Size of a chunk of a large blob: 4 MiB. */
export const DEFAULT_CHUNK_BYTES = 4 * MIB
/** Blobs up to the first size are cut into chunks of the second: with few chunks hosts would wait for whole ones, not share. */
const SMALLER_CUTS = [
  [256 * MIB, MIB],
  [1024 * MIB, 2 * MIB],
] as const
/** No chunk is ever larger: what one request may ask a peer to send. */
export const MAX_CHUNK_BYTES = 8 * 1024 * 1024
/** Most chunks a blob may have: 5 TiB at 4 MiB. Bounds every map that a stranger may send. */
export const MAX_CHUNKS = 1_310_720

/** Half-open range of bytes. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

/**
 * Where a blob is cut. Today fixed slices (`chunkBytes` each, the last one shorter); cuts at Xet chunk edges are a
 * second implementation of the same interface.
 */
export interface ChunkGeometry {
  readonly sizeBytes: number
  readonly chunkCount: number
  /** Names the geometry in messages and records: two hosts with the same text cut the same way. */
  readonly text: string
  /** Bytes of chunk `index`. @throws RangeError */
  range(index: number): ByteRange
  /** The chunk that holds byte `offset`. @throws RangeError */
  indexAt(offset: number): number
}

/** How a blob of this size is cut: the same on every host, or they would have nothing for each other. */
export function chunkBytesFor(sizeBytes: number): number {
  return SMALLER_CUTS.find(([most]) => sizeBytes <= most)?.[1] ?? DEFAULT_CHUNK_BYTES
}

/** An empty blob has no chunks. @throws ShoalError `too-large` | `bad-request` */
export function fixedSlices(sizeBytes: number, chunkBytes = chunkBytesFor(sizeBytes)): ChunkGeometry {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0)
    throw new ShoalError('bad-request', `not a size: ${sizeBytes}`)
  if (!Number.isSafeInteger(chunkBytes) || chunkBytes < 1024 || chunkBytes > MAX_CHUNK_BYTES) {
    throw new ShoalError('bad-request', `not a chunk size: ${chunkBytes}`)
  }
  const chunkCount = Math.ceil(sizeBytes / chunkBytes)
  if (chunkCount > MAX_CHUNKS)
    throw new ShoalError('too-large', `${sizeBytes} bytes are more than ${MAX_CHUNKS} chunks`)
  return {
    sizeBytes,
    chunkCount,
    text: `slices:${chunkBytes}:${sizeBytes}`,
    range(index) {
      if (!Number.isInteger(index) || index < 0 || index >= chunkCount)
        throw new RangeError(`no chunk ${index} of ${chunkCount}`)
      const start = index * chunkBytes
      return { start, end: Math.min(start + chunkBytes, sizeBytes) }
    },
    indexAt(offset) {
      if (!Number.isInteger(offset) || offset < 0 || offset >= sizeBytes)
        throw new RangeError(`no byte ${offset} of ${sizeBytes}`)
      return Math.floor(offset / chunkBytes)
    },
  }
}

/** Inverse of `geometry.text`. @throws ShoalError `bad-request` */
export function parseGeometry(text: string): ChunkGeometry {
  const match = /^slices:(\d{1,16}):(\d{1,16})$/.exec(text)
  if (match === null)
    throw new ShoalError('bad-request', `unknown chunk geometry: ${JSON.stringify(text.slice(0, 60))}`)
  return fixedSlices(Number(match[2]), Number(match[1]))
}

/** Length of chunk `index` in bytes. */
export function chunkLength(geometry: ChunkGeometry, index: number): number {
  const { start, end } = geometry.range(index)
  return end - start
}

/** Indices of the chunks that cover a half-open byte range: `[first, afterLast)`. Empty for an empty range. */
export function chunksOf(
  geometry: ChunkGeometry,
  bytes: ByteRange,
): { readonly first: number; readonly afterLast: number } {
  if (bytes.end <= bytes.start) return { first: 0, afterLast: 0 }
  return { first: geometry.indexAt(bytes.start), afterLast: geometry.indexAt(bytes.end - 1) + 1 }
}

/** A set of chunk indices of one blob, as a bitmap. */
export class ChunkMap {
  readonly chunkCount: number
  readonly #bits: Uint8Array
  #held = 0

  constructor(chunkCount: number) {
    if (!Number.isInteger(chunkCount) || chunkCount < 0 || chunkCount > MAX_CHUNKS) {
      throw new ShoalError('bad-message', `not a chunk count: ${chunkCount}`)
    }
    this.chunkCount = chunkCount
    this.#bits = new Uint8Array(Math.ceil(chunkCount / 8))
  }

  static full(chunkCount: number): ChunkMap {
    const map = new ChunkMap(chunkCount)
    for (let index = 0; index < chunkCount; index++) map.add(index)
    return map
  }

  /**
   * Reads {@link encode}'s form. The length must fit the count exactly and spare bits must be zero.
   * @throws ShoalError `bad-message`
   */
  static decode(bytes: Uint8Array, chunkCount: number): ChunkMap {
    const map = new ChunkMap(chunkCount)
    if (bytes.byteLength !== map.#bits.byteLength) {
      throw new ShoalError(
        'bad-message',
        `a map of ${chunkCount} chunks has ${map.#bits.byteLength} bytes, not ${bytes.byteLength}`,
      )
    }
    map.#bits.set(bytes)
    const spare = map.#bits.byteLength * 8 - chunkCount
    const last = map.#bits.at(-1)
    if (last !== undefined && spare > 0 && last >>> (8 - spare) !== 0)
      throw new ShoalError('bad-message', 'a chunk map has bits beyond its end')
    for (const byte of map.#bits) map.#held += popCount(byte)
    return map
  }

  /** One bit a chunk, lowest bit first. */
  encode(): Uint8Array {
    return this.#bits.slice()
  }

  get held(): number {
    return this.#held
  }

  get complete(): boolean {
    return this.#held === this.chunkCount
  }

  has(index: number): boolean {
    return ((this.#bits[index >>> 3] ?? 0) & (1 << (index & 7))) !== 0
  }

  /** True if it was not there before. @throws RangeError */
  add(index: number): boolean {
    this.#check(index)
    if (this.has(index)) return false
    this.#bits[index >>> 3] = (this.#bits[index >>> 3] ?? 0) | (1 << (index & 7))
    this.#held++
    return true
  }

  /** True if it was there. @throws RangeError */
  delete(index: number): boolean {
    this.#check(index)
    if (!this.has(index)) return false
    this.#bits[index >>> 3] = (this.#bits[index >>> 3] ?? 0) & ~(1 << (index & 7))
    this.#held--
    return true
  }

  /** First index >= `from` that is not held; `chunkCount` if none. */
  firstMissing(from = 0): number {
    for (let index = from; index < this.chunkCount; index++) {
      if ((index & 7) === 0 && this.#bits[index >>> 3] === 0xff) {
        index += 7
        continue
      }
      if (!this.has(index)) return index
    }
    return this.chunkCount
  }

  /** First index >= `from` that both maps hold; `chunkCount` if none. Both must be maps of the same blob. */
  firstCommon(other: ChunkMap, from = 0): number {
    let at = from >>> 3
    let common = (this.#bits[at] ?? 0) & (other.#bits[at] ?? 0) & (0xff << (from & 7))
    while (common === 0) {
      at++
      if (at >= this.#bits.length) return this.chunkCount
      common = (this.#bits[at] ?? 0) & (other.#bits[at] ?? 0)
    }
    return at * 8 + (31 - Math.clz32(common & -common))
  }

  *indices(): Generator<number> {
    for (let index = 0; index < this.chunkCount; index++) if (this.has(index)) yield index
  }

  clone(): ChunkMap {
    return ChunkMap.decode(this.#bits, this.chunkCount)
  }

  #check(index: number): void {
    if (!Number.isInteger(index) || index < 0 || index >= this.chunkCount)
      throw new RangeError(`no chunk ${index} of ${this.chunkCount}`)
  }
}

function popCount(byte: number): number {
  let count = 0
  for (let rest = byte; rest !== 0; rest &= rest - 1) count++
  return count
}

/** Sorted indices as runs `[first, length]`: how announcements carry them. */
export function toRuns(indices: Iterable<number>): [number, number][] {
  const runs: [number, number][] = []
  for (const index of indices) {
    const last = runs.at(-1)
    if (last !== undefined && last[0] + last[1] === index) last[1]++
    else runs.push([index, 1])
  }
  return runs
}
