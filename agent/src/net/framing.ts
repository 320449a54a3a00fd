// How messages travel on a stream: four bytes of length, big-endian, then the message. Every length is checked against
// its limit before a byte of it is waited for. Owns also how stream errors become errors of the house.
import type { MessageStream } from '@libp2p/interface'
import { byteStream } from '@libp2p/utils'
import { asShoalError, messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import { abortError } from '@shoal/protocol/time.ts'

export const LENGTH_BYTES = 4
/** One read of bulk data: small enough to report progress often, large enough not to cost. */
export const PIECE_BYTES = 256 * 1024

/** A stream read by exact lengths. `for await` is never used on one: it queues without limit. */
export interface ExactStream {
  /** Exactly `lengthBytes`, in the pieces they came in. @throws what the stream throws, the signal's reason */
  read(lengthBytes: number, signal: AbortSignal): Promise<Pieces>
  /** Resolves when the stream can take more. @throws what the stream throws, the signal's reason */
  write(bytes: Uint8Array, signal: AbortSignal): Promise<void>
  /** Bytes that have come and that nobody has read. */
  readonly unreadBytes: number
}

interface Pieces extends Iterable<Uint8Array> {
  /** All as one. */
  subarray(): Uint8Array
}

/** @param maxBufferedBytes more than this unread resets the stream; must cover what we ourselves asked for */
export function exactStream(stream: MessageStream, maxBufferedBytes: number): ExactStream {
  const bytes = byteStream(stream, { maxBufferSize: maxBufferedBytes })
  let unreadBytes = 0
  stream.addEventListener('message', ({ data }) => {
    unreadBytes += data.byteLength
  })
  return {
    async read(lengthBytes, signal) {
      const pieces = await bytes.read({ bytes: lengthBytes, signal })
      unreadBytes -= lengthBytes
      return pieces
    },
    write: (data, signal) => bytes.write(data, { signal }),
    get unreadBytes() {
      return unreadBytes
    },
  }
}

/**
 * Reads one frame.
 * @param onProgress told after each piece of a long frame
 * @throws ShoalError `bad-message` for a length of 0 or over the limit; else what the stream throws
 */
export async function readFrame(
  bytes: ExactStream,
  limitBytes: number,
  signal: AbortSignal,
  onProgress: () => void = () => {},
): Promise<Uint8Array> {
  const prefix = (await bytes.read(LENGTH_BYTES, signal)).subarray()
  const length = new DataView(prefix.buffer, prefix.byteOffset, LENGTH_BYTES).getUint32(0)
  if (length === 0 || length > limitBytes)
    throw new ShoalError('bad-message', `a frame of ${length} bytes, where 1 to ${limitBytes} are allowed`)
  if (length <= PIECE_BYTES) return (await bytes.read(length, signal)).subarray()
  const frame = new Uint8Array(length)
  await readInto(bytes, frame, signal, onProgress)
  return frame
}

/** Fills `target` exactly, piece by piece. @throws what the stream throws; the rest of `target` is then untouched */
export async function readInto(
  bytes: ExactStream,
  target: Uint8Array,
  signal: AbortSignal,
  onProgress: (filledBytes: number) => void,
): Promise<void> {
  for (let filled = 0; filled < target.byteLength; ) {
    const piece = await bytes.read(Math.min(PIECE_BYTES, target.byteLength - filled), signal)
    for (const part of piece) {
      target.set(part, filled)
      filled += part.byteLength
    }
    onProgress(filled)
  }
}

/** A message with its length before it, ready to be written. */
export function frameOf(message: Uint8Array): Uint8Array {
  const frame = Buffer.allocUnsafe(LENGTH_BYTES + message.byteLength)
  frame.writeUInt32BE(message.byteLength, 0)
  frame.set(message, LENGTH_BYTES)
  return frame
}

/**
 * What went wrong on a stream, in the codes of the house: the signal's own reason first, then a broken rule of the wire
 * (`bad-message`), else the peer is gone (`peer-unreachable`).
 */
export function streamError(thrown: unknown, peer: string, signal: AbortSignal): ShoalError {
  if (signal.aborted) return abortError(signal)
  const error = closeReason(thrown)
  const ours = asShoalError(error)
  if (ours !== undefined) return ours
  if (error instanceof Error && error.name === 'StreamBufferError')
    return new ShoalError('bad-message', `${peer} sent more than was asked for`, { peer }, error)
  return new ShoalError('peer-unreachable', `lost ${peer}: ${messageOf(error)}`, { peer }, error)
}

/** A write that waits while the stream closes throws libp2p's event itself, with the reason inside if there is one. */
function closeReason(thrown: unknown): unknown {
  if (!(thrown instanceof Event)) return thrown
  const reason: unknown = Reflect.get(thrown, 'error')
  return reason ?? new Error('the stream was closed')
}
