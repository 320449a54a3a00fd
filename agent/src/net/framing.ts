// How messages travel on a stream: four bytes of length, big-endian, then the message. Every length is checked against
// its limit before a byte of it is waited for. Owns also how stream errors become errors of the house.
import { asShoalError, messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import { abortError } from '@shoal/protocol/time.ts'
import { type Pace, UNLIMITED } from '../limits-port.ts'
import type { BytePipe } from './byte-pipe.ts'

export const LENGTH_BYTES = 4

/**
 * Reads one frame.
 * @param onProgress told whenever a part of it has come
 * @throws ShoalError `bad-message` for a length of 0 or over the limit; else what the stream throws
 */
export async function readFrame(
  bytes: BytePipe,
  limitBytes: number,
  signal: AbortSignal,
  onProgress: () => void = () => {},
): Promise<Uint8Array> {
  const prefix = await bytes.read(LENGTH_BYTES, signal)
  const length = new DataView(prefix.buffer, prefix.byteOffset, LENGTH_BYTES).getUint32(0)
  if (length === 0 || length > limitBytes)
    throw new ShoalError('bad-message', `a frame of ${length} bytes, where 1 to ${limitBytes} are allowed`)
  const frame = new Uint8Array(length)
  await readInto(bytes, frame, signal, onProgress)
  return frame
}

/**
 * Fills `target` exactly, from the front.
 * @param onProgress told after each part, however small: on a slow link that is what shows life
 * @param pace of what is read; what is not read yet holds the sender back
 * @throws what the stream throws; nothing is written to `target` after that
 */
export async function readInto(
  bytes: BytePipe,
  target: Uint8Array,
  signal: AbortSignal,
  onProgress: (filledBytes: number) => void,
  pace: Pace = UNLIMITED,
): Promise<void> {
  for (let filled = 0; filled < target.byteLength; ) {
    const end = Math.min(target.byteLength, filled + pace.pieceBytes)
    const some = await bytes.readInto(target.subarray(filled, end), signal)
    filled += some
    onProgress(filled)
    const wait = pace.pass(some, signal)
    if (wait !== undefined) await wait
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
 * What went wrong on a stream, in the codes of the house: the signal's own reason first, then our own finding (such as
 * `bad-message`), else the peer is gone (`peer-unreachable`).
 */
export function streamError(error: unknown, peer: string, signal: AbortSignal): ShoalError {
  if (signal.aborted) return abortError(signal)
  return (
    asShoalError(error) ??
    new ShoalError('peer-unreachable', `lost ${peer}: ${messageOf(error)}`, { peer }, error)
  )
}
