// The answer of a verify run: one line of JSON a file as each is done, then a last one that says how it ended.
import type { OpenAPIHono } from '@hono/zod-openapi'
import { isAbort, messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import type { Repo } from '@shoal/protocol/ids.ts'
import type { Models } from '../models-port.ts'
import { toVerifyLine } from './node-json.ts'
import { notKept, parseRepo } from './node-names.ts'
import { errorBody, type VerifyDoneShape, verifyLineShape, verifyRequestShape } from './node-shapes.ts'

/** POST /api/v1/verify. */
export function mountVerify(app: OpenAPIHono, models: Models): void {
  app.openAPIRegistry.registerPath({
    method: 'post',
    path: '/api/v1/verify',
    summary: 'Hashes what is kept, from disk: one line of JSON a file, the last one with done: true',
    tags: ['this host'],
    request: { body: { required: false, content: { 'application/json': { schema: verifyRequestShape } } } },
    responses: {
      200: { description: 'lines', content: { 'application/x-ndjson': { schema: verifyLineShape } } },
      default: { description: 'what went wrong', content: { 'application/json': { schema: errorBody } } },
    },
  })
  app.post('/api/v1/verify', async (c) => {
    const text = await c.req.text()
    const request = verifyRequestShape.safeParse(text === '' ? {} : parseJson(text))
    if (!request.success) throw new ShoalError('bad-request', 'expected {"repo": "org/name"} or {}')
    const repo = request.data.repo === undefined ? undefined : parseRepo(request.data.repo)
    if (repo !== undefined && (await models.show(repo)) === undefined) throw notKept(repo)
    return verifyLines(models, repo, c.req.raw.signal)
  })
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new ShoalError('bad-request', 'the body is not JSON', {}, cause)
  }
}

/**
 * The lines as a stream that is pulled: hashing waits for a reader that does not read, and stops when it leaves.
 * @param signal of the request: aborted when the client goes away
 */
function verifyLines(models: Pick<Models, 'verify'>, repo: Repo | undefined, signal: AbortSignal): Response {
  const left = new AbortController()
  const results = models.verify(repo, AbortSignal.any([signal, left.signal]))[Symbol.asyncIterator]()
  const encoder = new TextEncoder()
  let files = 0
  let bad = 0
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const finish = (error: string | null) => {
          const done: VerifyDoneShape = { done: true, files, bad, error }
          controller.enqueue(encoder.encode(`${JSON.stringify(done)}\n`))
          controller.close()
        }
        try {
          const next = await results.next()
          if (next.done === true) return finish(null)
          files += 1
          if (!next.value.ok) bad += 1
          controller.enqueue(encoder.encode(`${JSON.stringify(toVerifyLine(next.value))}\n`))
        } catch (error) {
          if (isAbort(error)) controller.error(error)
          else finish(messageOf(error))
        }
      },
      async cancel() {
        left.abort()
        await results.return?.()
      },
    },
    { highWaterMark: 0 },
  )
  return new Response(body, {
    headers: { 'Content-Type': 'application/x-ndjson', 'Cache-Control': 'no-store' },
  })
}
