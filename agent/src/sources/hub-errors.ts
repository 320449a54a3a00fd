// PURE. What the Hub's refusals mean (hub-protocol note 1.7): status, `X-Error-Code` and message in, one error out.
// Keeps the Hub's own status, code and text for whoever passes them on. Sends nothing.
import { type ErrorCode, type ErrorDetails, ShoalError } from '@shoal/protocol/errors.ts'

export interface Refusal {
  readonly status: number
  /** Host (and port) that answered. */
  readonly host: string
  /** From `X-Error-Code`, `X-Error-Message`, and the body. */
  readonly errorCode: string | undefined
  readonly errorMessage: string | undefined
  readonly body: string
  readonly retryAfterMs?: number | undefined
  /** Never appears in the error, should the origin echo it. */
  readonly token: string | undefined
  /** What a 404 means that carries no code: depends on what was asked. */
  readonly absent: ErrorCode
}

const MAX_MESSAGE_LENGTH = 300
const DISABLED = 'Access to this resource is disabled.'
const BAD_TOKEN = 'Invalid credentials in Authorization header'

const BY_CODE: Readonly<Record<string, ErrorCode>> = {
  RepoNotFound: 'repo-not-found',
  GatedRepo: 'repo-gated',
  RevisionNotFound: 'revision-not-found',
  EntryNotFound: 'file-not-found',
  DisabledRepo: 'repo-disabled',
}

/**
 * An answer of status 400 or more as an error. `details.httpStatus` is the Hub's status, `details.hubCode` its
 * `X-Error-Code` when it sent one; the message is the Hub's own when it gave one.
 */
export function refusalError(refusal: Refusal): ShoalError {
  const { status, host } = refusal
  const said = cleanMessage(refusal.errorMessage ?? messageIn(refusal.body), refusal.token)
  const code = codeOf(refusal, said)
  const details: Record<string, ErrorDetails[string]> = { httpStatus: status, host }
  if (refusal.errorCode !== undefined && Object.hasOwn(BY_CODE, refusal.errorCode))
    details.hubCode = refusal.errorCode
  if (code === 'origin-rate-limited' && refusal.retryAfterMs !== undefined)
    details.retryAfterMs = refusal.retryAfterMs
  return new ShoalError(code, said ?? `${host} answered ${status}`, details)
}

function codeOf(refusal: Refusal, said: string | undefined): ErrorCode {
  const { status } = refusal
  if (status === 429) return 'origin-rate-limited'
  if (status === 408 || status >= 500) return 'origin-unreachable'
  const named = Object.hasOwn(BY_CODE, refusal.errorCode ?? '') ? BY_CODE[refusal.errorCode ?? ''] : undefined
  if (named !== undefined) return named
  if (status === 403 && said === DISABLED) return 'repo-disabled'
  if (status === 401) return said?.startsWith(BAD_TOKEN) ? 'unauthorized' : 'repo-not-found'
  if (status === 403) return 'forbidden'
  if (status === 404 || status === 410) return refusal.absent
  return 'origin-bad-answer'
}

function messageIn(body: string): string | undefined {
  if (!body.startsWith('{')) return undefined
  try {
    const parsed: unknown = JSON.parse(body)
    const error = (parsed as { error?: unknown }).error
    return typeof error === 'string' ? error : undefined
  } catch {
    return undefined
  }
}

function cleanMessage(text: string | undefined, token: string | undefined): string | undefined {
  if (text === undefined) return undefined
  const hidden = token === undefined || token === '' ? text : text.replaceAll(token, '[hidden]')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
  const plain = hidden.replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ').trim()
  return plain === '' ? undefined : plain.slice(0, MAX_MESSAGE_LENGTH)
}
