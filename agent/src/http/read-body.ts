// Reads the body of a request into memory, up to the one bound all bodies have.
import type { IncomingMessage, ServerResponse } from 'node:http'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { MAX_BODY_BYTES } from './guards.ts'

/** @throws ShoalError `too-large`, `bad-request` when the body is encoded or ends early */
export async function readBody(request: IncomingMessage, response: ServerResponse): Promise<Uint8Array> {
  const encoding = request.headers['content-encoding']
  if (encoding !== undefined && encoding !== 'identity')
    throw new ShoalError('bad-request', 'a compressed body is not read here')
  if (request.headers.expect !== undefined) response.writeContinue()
  const pieces: Buffer[] = []
  let length = 0
  try {
    // Leaving early must not destroy the socket: the refusal still has to go out on it.
    for await (const piece of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      length += piece.byteLength
      if (length > MAX_BODY_BYTES) break
      pieces.push(piece)
    }
  } catch (cause) {
    throw new ShoalError('bad-request', 'the body ended early', {}, cause)
  }
  if (length > MAX_BODY_BYTES) throw new ShoalError('too-large', `a body may have ${MAX_BODY_BYTES} bytes`)
  return Buffer.concat(pieces)
}
