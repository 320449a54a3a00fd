// Writes an answer to a socket: headers at once, then the bytes as the reader gives them and as fast as the client takes them.
// A client that takes nothing is cut; a reader that fails cuts the connection, never ends it cleanly.
import type { ServerResponse } from 'node:http'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { abortError, type Clock, throwIfAborted } from '@shoal/protocol/time.ts'
import { type Answer, type FileBody, isFileBody } from './answer.ts'

/** Handed to the socket at once, and what a client must take within the stall time: at 60 s about 4 KB/s. */
export const SLICE_BYTES = 256 * 1024

export interface SendOptions {
  readonly clock: Clock
  /** How long one slice may take to leave before the client is cut. */
  readonly stallTimeoutMs: number
  /** Aborted when the client goes away or the server stops. */
  readonly signal: AbortSignal
  readonly onFileBytes: (bytes: number) => void
}

/**
 * Resolves when everything has been handed over and the client took it.
 * @throws ShoalError `aborted` (client gone, or cut), or what the reader threw; the connection is then closed already
 */
export async function send(
  response: ServerResponse,
  method: string,
  answer: Answer,
  options: SendOptions,
): Promise<void> {
  const { body } = answer
  try {
    if (response.destroyed) throw new ShoalError('aborted', 'the client has gone')
    if (response.socket === null) await itsTurn(response, options.signal)
    response.writeHead(answer.status, headersOf(answer, method))
    if (body === undefined || method === 'HEAD') {
      response.end()
      return
    }
    response.flushHeaders()
    if (isFileBody(body)) await sendFile(response, body, options)
    else if (body instanceof Uint8Array) await sendBytes(response, body, options)
    else for await (const piece of body.pieces) await sendBytes(response, piece, options)
    response.end()
  } catch (error) {
    response.destroy()
    throw error
  } finally {
    if (isFileBody(body)) await body.reader.close()
  }
}

function headersOf({ status, headers, body }: Answer, method: string): Record<string, string> {
  const known = 'Content-Length' in headers || 'content-length' in headers
  if (isFileBody(body) && !known) throw new Error('a file body needs a Content-Length')
  if (known || status === 304) return { ...headers }
  if (body instanceof Uint8Array) return { ...headers, 'Content-Length': String(body.byteLength) }
  // Of a stream, and of a HEAD whose GET was not made, the length is not known.
  return body === undefined && method !== 'HEAD' ? { ...headers, 'Content-Length': '0' } : { ...headers }
}

async function sendFile(
  response: ServerResponse,
  { reader, range }: FileBody,
  options: SendOptions,
): Promise<void> {
  let left = range.end - range.start
  if (left === 0) return
  for await (const piece of reader.bytes(range, options.signal)) {
    if (piece.byteLength > left) throw new Error('a reader gave more bytes than its range has')
    left -= piece.byteLength
    await sendBytes(response, piece, options)
    options.onFileBytes(piece.byteLength)
  }
  if (left > 0) throw new Error(`a reader ended ${left} bytes early`)
}

async function sendBytes(response: ServerResponse, bytes: Uint8Array, options: SendOptions): Promise<void> {
  for (let start = 0; start < bytes.byteLength; start += SLICE_BYTES) {
    throwIfAborted(options.signal)
    const slice = bytes.subarray(start, start + SLICE_BYTES)
    const room = response.write(slice)
    if (!room) await drained(response, options)
  }
}

/** A pipelined request waits here for those before it, rather than filling memory. */
function itsTurn(response: ServerResponse, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onSocket = () => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    }
    const onAbort = () => {
      response.off('socket', onSocket)
      reject(abortError(signal))
    }
    response.once('socket', onSocket)
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
  })
}

/** Resolves when the socket has taken what it was given; rejects when the client is gone, or took nothing for too long. */
function drained(response: ServerResponse, { clock, stallTimeoutMs, signal }: SendOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (act: () => void) => {
      cancelTimer()
      response.off('drain', onDrain)
      signal.removeEventListener('abort', onAbort)
      act()
    }
    const onDrain = () => settle(resolve)
    const onAbort = () => settle(() => reject(abortError(signal)))
    const cancelTimer = clock.after(stallTimeoutMs, () =>
      settle(() => {
        // A reset frees the kernel's buffers too, which a client that never reads would hold for minutes.
        response.socket?.resetAndDestroy()
        reject(new ShoalError('aborted', 'the client takes nothing', { stalledMs: stallTimeoutMs }))
      }),
    )
    response.on('drain', onDrain)
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
  })
}
