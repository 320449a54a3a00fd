// Writes an answer to a socket: headers at once, then the bytes as the reader gives them and as fast as the client takes them.
// A client that takes nothing is cut; a reader that fails cuts the connection, never ends it cleanly.
import type { ServerResponse } from 'node:http'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { abortError } from '@shoal/protocol/time.ts'
import { type Answer, type FileBody, isFileBody } from './answer.ts'
import { type SendFileOptions, sendFromDisk, written } from './send-file.ts'

/**
 * Resolves when everything has been handed over and the client took it.
 * @throws ShoalError `aborted` (client gone, or cut), or what the reader threw; the connection is then closed already
 */
export async function send(
  response: ServerResponse,
  method: string,
  answer: Answer,
  options: SendFileOptions,
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
    if (body instanceof Uint8Array) {
      if (body.byteLength > 0) await written(response, body, options)
    } else if (isFileBody(body)) await sendFile(response, body, options)
    else {
      response.flushHeaders()
      for await (const piece of body.pieces) await written(response, piece, options)
    }
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
  options: SendFileOptions,
): Promise<void> {
  let left = range.end - range.start
  if (left === 0) return
  if (reader.read !== undefined) return sendFromDisk(response, reader.read, range, options)
  // What arrives may take a while: the headers do not wait for it.
  response.flushHeaders()
  for await (const piece of reader.bytes(range, options.signal)) {
    if (piece.byteLength > left) throw new Error('a reader gave more bytes than its range has')
    left -= piece.byteLength
    await written(response, piece, options)
    options.onFileBytes(piece.byteLength)
  }
  if (left > 0) throw new Error(`a reader ended ${left} bytes early`)
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
