// Reading a blob while it arrives: bytes in order, each as soon as it may be released. A stored chunk is proven; a chunk that is
// arriving from the origin is released as it comes (nothing could prove it sooner); the last chunk of a whole file waits for
// the digest of the whole: on a slow line only its last bytes do, or clients would give up. Asks the transfer for what comes next; fetches nothing itself.
import { type ByteRange, chunksOf } from '@shoal/protocol/chunks.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { abortError, type Clock } from '@shoal/protocol/time.ts'
import type { BlobReader, BlobStore } from '../store/blob-store.ts'
import type { Transfer } from './transfer.ts'

/** Given to a consumer at once: large enough for few system calls, small enough for many slow readers. */
export const PIECE_BYTES = 1024 * 1024

/** A reader that waited so long for the last chunk is given it up to its last bytes: clients give up after 10 s of silence. */
export const TAIL_PATIENCE_MS = 3_000
/** What no reader is given before the digest of the whole has passed. */
export const TAIL_BYTES = 64 * 1024

let nextReader = 1

/** An id under which to want chunks: never used twice. */
export function newReaderId(): number {
  return nextReader++
}

/**
 * Bytes of `range`; throws when the download fails or when what was given turns out wrong.
 * @param wrongsBefore `transfer.wrong.times` when the reader was opened: what went wrong before is not its business
 */
export async function* readTransfer(
  transfer: Transfer,
  store: Pick<BlobStore, 'open'>,
  range: ByteRange,
  signal: AbortSignal,
  wrongsBefore: number,
  clock: Clock,
): AsyncGenerator<Uint8Array> {
  const id = newReaderId()
  const tail = new Tail(clock, transfer)
  const bell = new Bell(transfer, signal, wrongsBefore)
  const { afterLast } = chunksOf(transfer.geometry, range)
  let position = range.start
  let complete: BlobReader | undefined
  try {
    while (position < range.end) {
      bell.throwIfOver()
      if (transfer.state === 'complete') {
        complete ??= await openComplete(transfer, store)
        const piece = Buffer.allocUnsafe(Math.min(PIECE_BYTES, range.end - position))
        await complete.read(piece, position)
        position += piece.byteLength
        yield piece
        continue
      }
      const index = transfer.geometry.indexAt(position)
      transfer.feed.want(id, index, afterLast)
      bell.reset()
      const piece = await pieceAt(transfer, index, position, Math.min(range.end, tail.releasedBefore(index)))
      if (piece === undefined) {
        const cancel = tail.whenPatienceEnds(() => bell.ring())
        await bell.wait().finally(cancel)
        continue
      }
      bell.throwIfOver()
      position += piece.byteLength
      yield piece
    }
    bell.throwIfOver()
  } finally {
    bell.close()
    transfer.feed.unwant(id)
    await complete?.close()
  }
}

/** undefined when nothing more may be released just now. */
async function pieceAt(
  transfer: Transfer,
  index: number,
  position: number,
  end: number,
): Promise<Uint8Array | undefined> {
  const { partial, geometry } = transfer
  if (partial === undefined) return undefined
  const chunk = geometry.range(index)
  if (position >= end) return undefined
  if (partial.held.has(index)) {
    if (!transfer.mayGive(index)) return undefined
    const piece = Buffer.allocUnsafe(Math.min(PIECE_BYTES, chunk.end - position, end - position))
    try {
      await partial.read(piece, position)
    } catch (error) {
      // The blob became complete, or the chunk was discarded, between the look and the read.
      if (transfer.partial !== partial || !partial.held.has(index)) return undefined
      throw error
    }
    return piece
  }
  const flight = transfer.arriving(index)
  const from = position - chunk.start
  if (flight === undefined || flight.filledBytes <= from) return undefined
  const until = Math.min(flight.filledBytes, end - chunk.start, from + PIECE_BYTES)
  // Said before anything else can happen: a flight that ends now must know what was given of it.
  transfer.releasedEarly(flight, until)
  // A copy: the buffer is used again as soon as the chunk is stored.
  return Buffer.from(flight.buffer.subarray(from, until))
}

async function openComplete(transfer: Transfer, store: Pick<BlobStore, 'open'>): Promise<BlobReader> {
  const reader = await store.open(transfer.blob)
  if (reader === undefined)
    throw new ShoalError('store-failed', `${transfer.blob} was removed while it was being read`)
  return reader
}

/** How much of the last chunk of a whole file may be released before the digest of the whole has passed. */
class Tail {
  readonly #clock: Clock
  readonly #transfer: Transfer
  /** When the reader first came to the last chunk. */
  #since: number | undefined

  constructor(clock: Clock, transfer: Transfer) {
    this.#clock = clock
    this.#transfer = transfer
  }

  /** The byte of the file before which a reader that stands in chunk `index` may be given what is there. */
  releasedBefore(index: number): number {
    const { geometry, whole, proven } = this.#transfer
    if (!whole || proven || index < geometry.chunkCount - 1) return geometry.sizeBytes
    this.#since ??= this.#clock.now()
    const patient = this.#clock.now() < this.#since + TAIL_PATIENCE_MS
    return patient ? geometry.range(index).start : geometry.sizeBytes - TAIL_BYTES
  }

  /** Calls `wake` when more of it may be released. @returns takes that back */
  whenPatienceEnds(wake: () => void): () => void {
    const leftMs = (this.#since ?? Number.NEGATIVE_INFINITY) + TAIL_PATIENCE_MS - this.#clock.now()
    return leftMs > 0 ? this.#clock.after(leftMs, wake) : () => {}
  }
}

/** Waits for changes of a transfer, without missing one that comes between looking and waiting. */
class Bell {
  readonly #transfer: Transfer
  readonly #signal: AbortSignal
  readonly #wrongsBefore: number
  readonly #stopWatching: () => void
  readonly #onAbort = () => this.ring()
  #rung = false
  #wake: (() => void) | undefined

  constructor(transfer: Transfer, signal: AbortSignal, wrongsBefore: number) {
    this.#transfer = transfer
    this.#signal = signal
    this.#wrongsBefore = wrongsBefore
    this.#stopWatching = transfer.watch(() => this.ring())
    signal.addEventListener('abort', this.#onAbort, { once: true })
  }

  reset(): void {
    this.#rung = false
  }

  async wait(): Promise<void> {
    if (!this.#rung && !this.#signal.aborted) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      this.#wake = undefined
    }
    this.throwIfOver()
  }

  throwIfOver(): void {
    if (this.#signal.aborted) throw abortError(this.#signal)
    this.#transfer.wrong.throwIfSince(this.#wrongsBefore)
    const { state, error } = this.#transfer
    if (state === 'failed' || state === 'cancelled')
      throw error ?? new ShoalError('no-source', 'the download ended without the file')
  }

  close(): void {
    this.#stopWatching()
    this.#signal.removeEventListener('abort', this.#onAbort)
    this.ring()
  }

  /** Something changed. */
  ring(): void {
    this.#rung = true
    this.#wake?.()
  }
}
