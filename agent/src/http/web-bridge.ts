// Between a request of node:http and an app that takes a Request and gives a Response: bodies are read whole first (they are
// bounded), answers become values that send.ts writes, so that every byte of the agent leaves through one place.
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Answer } from './answer.ts'
import type { Admitted } from './guards.ts'
import { readBody } from './read-body.ts'

export interface WebApp {
  fetch(request: Request): Response | Promise<Response>
}

/** Answers that go out as they are made. All others are short, and get a Content-Length. */
const STREAMED = /^(?:application\/x-ndjson|text\/event-stream)/

/** @throws ShoalError as readBody; what the app throws */
export async function askApp(
  app: WebApp,
  request: IncomingMessage,
  response: ServerResponse,
  admitted: Admitted,
  signal: AbortSignal,
): Promise<Answer> {
  const { method = 'GET' } = request
  const body = method === 'GET' || method === 'HEAD' ? undefined : await readBody(request, response)
  const headers = new Headers()
  for (const [name, value] of Object.entries(request.headers)) {
    if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(', ') : value)
  }
  const query = admitted.rawQuery === '' ? '' : `?${admitted.rawQuery}`
  const answered = await app.fetch(
    new Request(`http://${admitted.host}${admitted.rawPath}${query}`, {
      method,
      headers,
      signal,
      ...(body === undefined || body.byteLength === 0 ? {} : { body: Buffer.from(body) }),
    }),
  )
  return toAnswer(answered)
}

async function toAnswer(answered: Response): Promise<Answer> {
  const headers = Object.fromEntries(answered.headers)
  const { status, body } = answered
  if (body === null) return { status, headers }
  if (STREAMED.test(headers['content-type'] ?? '')) return { status, headers, body: { pieces: body } }
  return { status, headers, body: new Uint8Array(await answered.arrayBuffer()) }
}
