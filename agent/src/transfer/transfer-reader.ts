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

/** Less than this of a chunk that is still arriving is not worth waking a client for, unless it has waited so long. */
const EARLY_BYTES = 256 * 1024
const EARLY_MS = 10

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
  const early = new EarlyPieces(clock)
  const bell = new Bell(transfer, signal, wrongsBefore)
  const { afterLast } = chunksOf(transfer.geometry, range)
  let position = range.start
  let complete: BlobReader | undefined
  let wanted = -1
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
      if (index !== wanted) transfer.feed.want(id, index, afterLast)
      wanted = index
      bell.reset(index)
      const end = Math.min(range.end, tail.releasedBefore(index))
      const piece = await pieceAt(transfer, index, position, end, early)
      if (piece === undefined) {
        const cancelTail = tail.whenPatienceEnds(() => bell.ring())
        const cancelEarly = early.whenDue(() => bell.ring())
        try {
          await bell.wait()
        } finally {
          cancelTail()
          cancelEarly()
        }
        continue
      }
      early.gave()
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
  early: EarlyPieces,
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
  if (!early.isWorth(until - from, until === end - chunk.start || until === flight.buffer.byteLength))
    return undefined
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

/**
 * When what has come of a chunk is handed on: each 64 KiB of a fast origin on its own would cost more than copying it. A slow one's
 * is kept back for a moment only.
 */
class EarlyPieces {
  readonly #clock: Clock
  #gaveAt = Number.NEGATIVE_INFINITY
  #isWaiting = false

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** @param isLast no more will come of it */
  isWorth(bytes: number, isLast: boolean): boolean {
    this.#isWaiting = !isLast && bytes < EARLY_BYTES && this.#clock.now() < this.#gaveAt + EARLY_MS
    return !this.#isWaiting
  }

  gave(): void {
    this.#gaveAt = this.#clock.now()
  }

  /** Calls `wake` when what was not worth it will be. @returns takes that back */
  whenDue(wake: () => void): () => void {
    if (!this.#isWaiting) return () => {}
    this.#isWaiting = false
    return this.#clock.after(Math.max(1, this.#gaveAt + EARLY_MS - this.#clock.now()), wake)
  }
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
  /** The chunk that is waited for. */
  #index = -1
  #rung = false
  #wake: (() => void) | undefined

  constructor(transfer: Transfer, signal: AbortSignal, wrongsBefore: number) {
    this.#transfer = transfer
    this.#signal = signal
    this.#wrongsBefore = wrongsBefore
    this.#stopWatching = transfer.watch((arriving) => {
      if (arriving === undefined || arriving === this.#index) this.ring()
    })
    signal.addEventListener('abort', this.#onAbort, { once: true })
  }

  /** From now on it rings for what concerns this chunk. */
  reset(index: number): void {
    this.#index = index
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
