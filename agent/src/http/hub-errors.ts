// PURE. Errors as HTTP says them: the Hub's status, code and message headers for Hub routes, the house's own error body for
// the rest. The only place in http/ that turns an error into a status.
import { asShoalError, type ErrorCode, errorRow, isAbort, ShoalError } from '@shoal/protocol/errors.ts'
import { type Answer, jsonAnswer } from './answer.ts'

const MAX_MESSAGE = 500
/** Codes where the Hub's own choice between 401, 403 and 404 is passed on: it saw the caller's token. */
const HUB_DECIDES: ReadonlySet<ErrorCode> = new Set([
  'repo-not-found',
  'repo-gated',
  'repo-disabled',
  'revision-not-found',
  'unauthorized',
])
/** Clients compare these two word by word. */
const FIXED_MESSAGES: Partial<Record<ErrorCode, string>> = {
  'repo-disabled': 'Access to this resource is disabled.',
  unauthorized: 'Invalid credentials in Authorization header',
}
/** Codes the Hub has none for, where a word still tells more than a number. */
const OWN_CODES: Partial<Record<ErrorCode, string>> = {
  'not-found': 'NotFound',
  'not-supported': 'NotSupported',
  'bad-request': 'BadRequest',
  'range-not-satisfiable': 'RangeNotSatisfiable',
}

/** Anything thrown as a ShoalError: an unknown error says nothing of itself to the outside. */
export function toShoalError(error: unknown): ShoalError {
  const known = asShoalError(error)
  if (known !== undefined && known.code !== 'aborted') return known
  if (isAbort(error)) return new ShoalError('not-running', 'the work was cancelled', {}, error)
  return new ShoalError('internal', 'an internal error; the log of the agent has it', {}, error)
}

/** @param hasToken whether the caller showed a token: the Hub hides a missing repo behind 401 from those who did not */
export function hubErrorAnswer(thrown: unknown, hasToken: boolean): Answer {
  const error = toShoalError(thrown)
  const message = FIXED_MESSAGES[error.code] ?? error.message
  const row = errorRow(error.code)
  const headers: Record<string, string> = { 'X-Error-Message': headerText(message), ...retryAfter(error) }
  const code = row.hubCode ?? OWN_CODES[error.code]
  if (code !== undefined) headers['X-Error-Code'] = code
  const commit = error.details.commit
  // With the commit the client remembers the absence for ever: only where it is certain.
  if (error.code === 'file-not-found' && typeof commit === 'string') headers['X-Repo-Commit'] = commit
  const size = error.details.sizeBytes
  if (error.code === 'range-not-satisfiable' && typeof size === 'number')
    headers['Content-Range'] = `bytes */${size}`
  return jsonAnswer({ error: message }, headers, hubStatus(error, hasToken))
}

/** The house's own form, for /api/v1 and the probes. */
export function nodeErrorAnswer(thrown: unknown): Answer {
  const error = toShoalError(thrown)
  return jsonAnswer(nodeErrorBody(error), retryAfter(error), errorRow(error.code).http)
}

export function nodeErrorBody(error: ShoalError) {
  return { error: { code: error.code, message: error.message, details: error.details } }
}

function hubStatus(error: ShoalError, hasToken: boolean): number {
  const said = error.details.httpStatus
  if (HUB_DECIDES.has(error.code) && (said === 401 || said === 403 || said === 404)) return said
  if (error.code === 'repo-not-found') return hasToken ? 404 : 401
  if (error.code === 'repo-gated') return hasToken ? 403 : 401
  return errorRow(error.code).http
}

function retryAfter(error: ShoalError): Readonly<Record<string, string>> {
  const waitMs = error.details.retryAfterMs
  if (typeof waitMs !== 'number' || !(waitMs >= 0)) return {}
  return { 'Retry-After': String(Math.ceil(waitMs / 1000)) }
}

/** A header value: printable ASCII, bounded. */
export function headerText(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, MAX_MESSAGE)
}
