// One HTTP request to the agent, by node:http: no hidden time limits on long answers, no redirects followed, no proxies.
// Knows no route and no shape.
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { ShoalError } from '@shoal/protocol/errors.ts'

/** Larger answers are not of an agent. */
const MAX_JSON_BYTES = 64 * 1024 * 1024

export interface Call {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  readonly url: URL
  /** Sent as JSON. */
  readonly body?: unknown
  readonly signal: AbortSignal
}

/** Resolves with the head of the answer; its body is still to be read. Rejects with a system error or the signal's reason. */
export function call({ method, url, body, signal }: Call): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
    const send = url.protocol === 'https:' ? httpsRequest : httpRequest
    const request = send(url, {
      method,
      agent: false,
      signal,
      headers: {
        accept: 'application/json',
        // On every write, with a body or without: it tells a program from a page of a browser.
        ...(method === 'GET'
          ? {}
          : { 'content-type': 'application/json', 'content-length': payload?.byteLength ?? 0 }),
      },
    })
    request.on('error', (error) => reject(signal.aborted ? signal.reason : error))
    request.on('response', resolve)
    request.end(payload)
  })
}

/** The whole body as text. @throws ShoalError `too-large` */
export async function readText(answer: IncomingMessage): Promise<string> {
  const parts: Buffer[] = []
  let sizeBytes = 0
  for await (const part of answer as AsyncIterable<Buffer>) {
    sizeBytes += part.byteLength
    if (sizeBytes > MAX_JSON_BYTES)
      throw new ShoalError('too-large', 'the answer is larger than an agent would send')
    parts.push(part)
  }
  return Buffer.concat(parts).toString('utf8')
}
