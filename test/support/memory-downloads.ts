// Downloads that give bytes from memory, piece by piece, and can be told to stop, fail or suspect. Counts every reader, so
// that a test can see that each was closed and each abort arrived.
import type { ByteOrigin, Downloads, FileReader, WantedFile } from '@shoal/agent/downloads-port.ts'
import type { ByteRange } from '@shoal/protocol/chunks.ts'
import type { FileEntry } from '@shoal/protocol/manifest.ts'
import { abortError } from '@shoal/protocol/time.ts'

export interface MemoryDownloadsOptions {
  readonly pieceBytes?: number
  /** After so many bytes of a range nothing comes any more, until the reader's signal fires. */
  stallAfterBytes?: number | undefined
  /** After so many bytes the reader throws. */
  failAfterBytes?: number | undefined
  suspectPrefix?: boolean
  /** Readers can be read at any place, as those of complete files can. */
  onDisk?: boolean
  from?: ByteOrigin
}

export class MemoryDownloads implements Pick<Downloads, 'open' | 'active'> {
  readonly #bytesOf: (entry: FileEntry) => Uint8Array
  readonly #options: MemoryDownloadsOptions
  readonly counts = { opened: 0, closed: 0, aborted: 0, givenBytes: 0 }
  #waiting: (() => void)[] = []

  constructor(bytesOf: (entry: FileEntry) => Uint8Array, options: MemoryDownloadsOptions = {}) {
    this.#bytesOf = bytesOf
    this.#options = options
  }

  /** Resolves when so many readers have been closed. */
  async closed(readers: number): Promise<void> {
    while (this.counts.closed < readers) await new Promise<void>((resolve) => this.#waiting.push(resolve))
  }

  async open({ entry }: WantedFile): Promise<FileReader> {
    const { counts } = this
    counts.opened += 1
    let closed = false
    return {
      sizeBytes: entry.sizeBytes,
      suspectPrefix: this.#options.suspectPrefix ?? false,
      from: this.#options.from ?? 'disk',
      bytes: (range, signal) => this.#pieces(this.#bytesOf(entry), range, signal),
      ...(this.#options.onDisk === true
        ? { read: (target, position) => this.#read(this.#bytesOf(entry), target, position) }
        : {}),
      close: async () => {
        if (!closed) counts.closed += 1
        closed = true
        for (const wake of this.#waiting.splice(0)) wake()
      },
    }
  }

  active(): readonly [] {
    return []
  }

  async #read(bytes: Uint8Array, target: Uint8Array, position: number): Promise<void> {
    if (position + target.byteLength > (this.#options.failAfterBytes ?? bytes.byteLength))
      throw new Error('the blob is wrong')
    await new Promise((resolve) => setImmediate(resolve))
    target.set(bytes.subarray(position, position + target.byteLength))
    this.counts.givenBytes += target.byteLength
  }

  async *#pieces(bytes: Uint8Array, range: ByteRange, signal: AbortSignal) {
    const { pieceBytes = 64 * 1024, stallAfterBytes, failAfterBytes } = this.#options
    for (let start = range.start; start < range.end; start += pieceBytes) {
      const given = start - range.start
      if (failAfterBytes !== undefined && given >= failAfterBytes) throw new Error('the blob is wrong')
      if (stallAfterBytes !== undefined && given >= stallAfterBytes) await this.#untilAborted(signal)
      const piece = bytes.subarray(start, Math.min(start + pieceBytes, range.end))
      this.counts.givenBytes += piece.byteLength
      yield piece
    }
  }

  #untilAborted(signal: AbortSignal): Promise<never> {
    return new Promise((_, reject) => {
      const onAbort = () => {
        this.counts.aborted += 1
        reject(abortError(signal))
      }
      if (signal.aborted) onAbort()
      else signal.addEventListener('abort', onAbort, { once: true })
    })
  }
}
