// File contents of the local Hub as values that are read by range: from memory, from a file on disk, or made from a seed.
// A big content is never held in memory. Knows nothing of repos or HTTP.
import { createCipheriv, createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'

export interface Content {
  readonly sizeBytes: number
  /** The bytes from `start` up to, not including, `end`, in pieces of at most 256 KiB. */
  read(start: number, end: number): AsyncIterable<Uint8Array>
}

const PIECE_BYTES = 256 * 1024
const CIPHER_BLOCK_BYTES = 16
const ZEROS = new Uint8Array(PIECE_BYTES)

export function bytesContent(bytes: Uint8Array): Content {
  return {
    sizeBytes: bytes.byteLength,
    async *read(start, end) {
      for (let at = start; at < end; at += PIECE_BYTES)
        yield bytes.subarray(at, Math.min(end, at + PIECE_BYTES))
    },
  }
}

export function textContent(text: string): Content {
  return bytesContent(new TextEncoder().encode(text))
}

/** Bytes that look random and that any process makes again from the same seed; any range costs only its own length. */
export function seededContent(seed: string | number, sizeBytes: number): Content {
  const key = createHash('sha256').update(`shoal local hub ${seed}`).digest().subarray(0, 16)
  return {
    sizeBytes,
    async *read(start, end) {
      let at = start - (start % CIPHER_BLOCK_BYTES)
      const counter = Buffer.alloc(16)
      counter.writeBigUInt64BE(BigInt(at / CIPHER_BLOCK_BYTES), 8)
      const cipher = createCipheriv('aes-128-ctr', key, counter)
      while (at < end) {
        const piece = cipher.update(ZEROS.subarray(0, Math.min(PIECE_BYTES, end - at)))
        yield at < start ? piece.subarray(start - at) : piece
        at += piece.byteLength
      }
    },
  }
}

/** A file on disk; it must not change while the Hub serves it. */
export async function fileContent(path: string): Promise<Content> {
  const { size } = await stat(path)
  return {
    sizeBytes: size,
    async *read(start, end) {
      if (start >= end) return
      const stream = createReadStream(path, { start, end: end - 1, highWaterMark: PIECE_BYTES })
      for await (const piece of stream) yield piece as Buffer
    },
  }
}

/** One content after the other, for example a safetensors header and its tensors. */
export function joinedContent(parts: readonly Content[]): Content {
  return {
    sizeBytes: parts.reduce((sum, part) => sum + part.sizeBytes, 0),
    async *read(start, end) {
      let offset = 0
      for (const part of parts) {
        const from = Math.max(0, start - offset)
        const to = Math.min(part.sizeBytes, end - offset)
        if (from < to) yield* part.read(from, to)
        offset += part.sizeBytes
      }
    },
  }
}

/** Lower-case hex SHA-256 of all of it. */
export async function sha256Of(content: Content): Promise<string> {
  const hash = createHash('sha256')
  for await (const piece of content.read(0, content.sizeBytes)) hash.update(piece)
  return hash.digest('hex')
}

/** The id Git gives it as a blob: SHA-1 over `blob <length>`, NUL and the bytes. */
export async function gitBlobIdOf(content: Content): Promise<string> {
  const hash = createHash('sha1').update(`blob ${content.sizeBytes}\0`)
  for await (const piece of content.read(0, content.sizeBytes)) hash.update(piece)
  return hash.digest('hex')
}

export async function readAll(content: Content): Promise<Uint8Array> {
  const pieces: Uint8Array[] = []
  for await (const piece of content.read(0, content.sizeBytes)) pieces.push(piece)
  return Buffer.concat(pieces)
}
