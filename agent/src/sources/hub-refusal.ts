// Turns a refusing answer, whose body is still on the wire, into the error it means. Reads a bounded part of it; the
// meaning is decided by hub-errors.ts.
import { type ErrorCode, isAbort, type ShoalError } from '@shoal/protocol/errors.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import { type EgressAnswer, readBody } from './egress.ts'
import { parseRetryAfter } from './http-facts.ts'
import { refusalError } from './hub-errors.ts'

const MAX_ERROR_BYTES = 64 * 1024

/**
 * The error that an answer of status 400 or more stands for. `absent`: what a 404 without a code means.
 * @throws ShoalError `aborted`
 */
export async function refusalOf(
  answer: EgressAnswer,
  absent: ErrorCode,
  token: string | undefined,
  clock: Clock,
): Promise<ShoalError> {
  const body = await readBody(answer, MAX_ERROR_BYTES).catch((error: unknown) => {
    if (isAbort(error)) throw error
    return new Uint8Array()
  })
  return refusalError({
    status: answer.status,
    host: answer.url.host,
    errorCode: answer.header('x-error-code'),
    errorMessage: answer.header('x-error-message'),
    body: Buffer.from(body).toString('utf8'),
    retryAfterMs: parseRetryAfter(answer.header('retry-after'), clock.wallTime()),
    token,
    absent,
  })
}
