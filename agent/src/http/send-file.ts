// Hands a file on disk to a client: read into one buffer while the other is being written, as large as the client is fast. Decides
// nothing about sizes (plan/read-pace.ts) nor about memory (read-buffers.ts); what a client may be given was decided before.
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { ByteRange } from '@shoal/protocol/chunks.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { abortError, type Clock, throwIfAborted } from '@shoal/protocol/time.ts'
import { LARGE_PIECE_BYTES, MIDDLE_PIECE_BYTES, ReadPace } from '../plan/read-pace.ts'
import type { ReadBuffers } from './read-buffers.ts'

export interface WriteOptions {
  readonly clock: Clock
  /** How long a client may need for 256 KiB before it is cut: at 60 s about 4 KB/s. Who takes nothing is cut by the server's own timer. */
  readonly stallTimeoutMs: number
  /** Aborted when the client goes away or the server stops. */
  readonly signal: AbortSignal
}

export interface SendFileOptions extends WriteOptions {
  readonly buffers: ReadBuffers
  readonly onFileBytes: (bytes: number) => void
}

/** Fills all of `target` from `position` of the file. */
export type ReadAt = (target: Uint8Array, position: number) => Promise<void>

/** What one answer showed of a client's speed holds for the next one on the same connection: a thousand ranges are one client. */
const paces = new WeakMap<Socket, ReadPace>()

function paceOf(socket: Socket | null): ReadPace {
  const known = socket === null ? undefined : paces.get(socket)
  if (known !== undefined) return known
  const pace = new ReadPace()
  if (socket !== null) paces.set(socket, pace)
  return pace
}

interface Piece {
  readonly buffer: Buffer
  readonly bytes: Buffer
}

/**
 * Hands over the bytes of `range`; the headers leave with the first of them.
 * @throws ShoalError `aborted`, or what `read` throws
 */
export async function sendFromDisk(
  response: ServerResponse,
  read: ReadAt,
  range: ByteRange,
  options: SendFileOptions,
): Promise<void> {
  const { buffers, clock } = options
  const pace = paceOf(response.socket)
  let position = range.start
  const next = (buffer: Buffer): Promise<Piece> => {
    const bytes = buffer.subarray(0, Math.min(buffer.byteLength, range.end - position))
    const at = position
    position += bytes.byteLength
    return read(bytes, at).then(
      () => ({ buffer, bytes }),
      (error: unknown) => {
        buffers.give(buffer)
        throw error
      },
    )
  }
  const first = () => next(buffers.take(Math.min(pace.pieceBytes, range.end - position)))
  let ahead: Promise<Piece> | undefined
  try {
    while (ahead !== undefined || position < range.end) {
      const { buffer, bytes } = await (ahead ?? first())
      ahead = undefined
      const isFast = pace.pieceBytes === LARGE_PIECE_BYTES && buffer.byteLength === LARGE_PIECE_BYTES
      const second = isFast && position < range.end ? buffers.takeSecond() : undefined
      if (second !== undefined) {
        ahead = next(second)
        // Awaited below, whatever becomes of the write.
        ahead.catch(() => {})
      }
      const startedAt = clock.now()
      try {
        await written(response, bytes, options)
      } catch (error) {
        buffers.drop(buffer)
        throw error
      }
      buffers.give(buffer)
      pace.took(bytes.byteLength, clock.now() - startedAt)
      options.onFileBytes(bytes.byteLength)
    }
  } finally {
    const left = await ahead?.catch(() => undefined)
    if (left !== undefined) buffers.give(left.buffer)
  }
}

/** Resolves when the kernel has all of `bytes`; rejects when the client is gone, or is too slow. */
export function written(
  response: ServerResponse,
  bytes: Uint8Array,
  { clock, stallTimeoutMs, signal }: WriteOptions,
): Promise<void> {
  return new Promise((resolve, reject) => {
    throwIfAborted(signal)
    const settle = (act: () => void) => {
      cancelTimer()
      signal.removeEventListener('abort', onAbort)
      act()
    }
    const onAbort = () => settle(() => reject(abortError(signal)))
    const patienceMs = stallTimeoutMs * Math.max(1, bytes.byteLength / MIDDLE_PIECE_BYTES)
    const cancelTimer = clock.after(patienceMs, () =>
      settle(() => {
        // A reset frees the kernel's buffers too, which a client that never reads would hold for minutes.
        response.socket?.resetAndDestroy()
        reject(new ShoalError('aborted', 'the client takes nothing', { stalledMs: patienceMs }))
      }),
    )
    signal.addEventListener('abort', onAbort, { once: true })
    response.write(bytes, (error) =>
      settle(() => {
        if (error === undefined || error === null) resolve()
        else reject(new ShoalError('aborted', 'the client has gone', {}, error))
      }),
    )
  })
}
