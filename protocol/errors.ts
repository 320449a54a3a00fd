// The one error class of the house and the table that says what each code means to an HTTP client, to a retry
// and to the reputation of whoever caused it. Recovery reads this table; nothing else decides by error text.

/** Who is to answer for an error: decides scores, cooldowns and bans. */
export type Blame = 'caller' | 'source' | 'origin' | 'publisher' | 'self' | 'nobody'

/** What may help: never again, later at the same place, elsewhere now, or a new plan from fresh metadata. */
export type Retry = 'never' | 'later' | 'other-source' | 'new-plan'

interface ErrorRow {
  readonly http: number
  readonly retry: Retry
  readonly blame: Blame
  /** A source that causes it is refused for good, not only cooled down. */
  readonly ban?: true
  /** Value of `X-Error-Code` on Hub routes, where the Hub has one. */
  readonly hubCode?: string
}

export const ERROR_TABLE = {
  'bad-request': { http: 400, retry: 'never', blame: 'caller' },
  'bad-config': { http: 400, retry: 'never', blame: 'caller' },
  'bad-message': { http: 400, retry: 'other-source', blame: 'source', ban: true },
  unauthorized: { http: 401, retry: 'never', blame: 'caller' },
  forbidden: { http: 403, retry: 'never', blame: 'caller' },
  misdirected: { http: 421, retry: 'never', blame: 'caller' },
  'repo-not-found': { http: 404, retry: 'never', blame: 'nobody', hubCode: 'RepoNotFound' },
  'repo-gated': { http: 403, retry: 'never', blame: 'nobody', hubCode: 'GatedRepo' },
  'repo-disabled': { http: 403, retry: 'never', blame: 'nobody' },
  'revision-not-found': { http: 404, retry: 'never', blame: 'nobody', hubCode: 'RevisionNotFound' },
  'file-not-found': { http: 404, retry: 'never', blame: 'nobody', hubCode: 'EntryNotFound' },
  'not-found': { http: 404, retry: 'never', blame: 'nobody' },
  'not-supported': { http: 501, retry: 'never', blame: 'nobody' },
  'range-not-satisfiable': { http: 416, retry: 'never', blame: 'caller' },
  'quota-exceeded': { http: 429, retry: 'later', blame: 'caller' },
  'too-large': { http: 413, retry: 'never', blame: 'caller' },
  conflict: { http: 409, retry: 'never', blame: 'caller' },
  'peer-timeout': { http: 504, retry: 'other-source', blame: 'source' },
  'peer-unreachable': { http: 503, retry: 'other-source', blame: 'source' },
  'peer-lacks-chunk': { http: 503, retry: 'other-source', blame: 'source' },
  'peer-refused': { http: 503, retry: 'other-source', blame: 'nobody' },
  'peer-busy': { http: 503, retry: 'other-source', blame: 'nobody' },
  'peer-later': { http: 503, retry: 'other-source', blame: 'nobody' },
  'not-admitted': { http: 403, retry: 'never', blame: 'source' },
  'owner-lost': { http: 503, retry: 'other-source', blame: 'nobody' },
  'chunk-corrupt': { http: 502, retry: 'other-source', blame: 'source', ban: true },
  'origin-rate-limited': { http: 503, retry: 'later', blame: 'origin' },
  'origin-unreachable': { http: 503, retry: 'later', blame: 'origin' },
  'origin-refused': { http: 502, retry: 'never', blame: 'origin' },
  'origin-bad-answer': { http: 502, retry: 'later', blame: 'origin' },
  'origin-changed': { http: 502, retry: 'new-plan', blame: 'nobody' },
  'blob-corrupt': { http: 502, retry: 'new-plan', blame: 'publisher' },
  'store-full': { http: 507, retry: 'later', blame: 'self' },
  'store-corrupt': { http: 500, retry: 'other-source', blame: 'self' },
  'store-failed': { http: 500, retry: 'later', blame: 'self' },
  'store-locked': { http: 503, retry: 'never', blame: 'self' },
  'store-version': { http: 500, retry: 'never', blame: 'self' },
  'no-source': { http: 503, retry: 'later', blame: 'nobody' },
  'not-running': { http: 503, retry: 'later', blame: 'nobody' },
  aborted: { http: 499, retry: 'never', blame: 'nobody' },
  internal: { http: 500, retry: 'never', blame: 'self' },
} as const satisfies Record<string, ErrorRow>

export type ErrorCode = keyof typeof ERROR_TABLE

/** Plain fields for logs and for the `details` of an HTTP error body. Never a secret. */
export type ErrorDetails = Readonly<Record<string, string | number | boolean | null | readonly string[]>>

/**
 * The only error class. Match on `code`; `details` are plain fields; `cause` keeps what led here.
 * Programming errors are plain `Error` and end the program.
 */
export class ShoalError extends Error {
  readonly code: ErrorCode
  readonly details: ErrorDetails

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'ShoalError'
    this.code = code
    this.details = details
  }
}

/** The table's row for a code. */
export function errorRow(code: ErrorCode): ErrorRow {
  return ERROR_TABLE[code]
}

/** `error` as a ShoalError when it is one (also across duplicated module instances), else undefined. */
export function asShoalError(error: unknown): ShoalError | undefined {
  if (error instanceof ShoalError) return error
  return undefined
}

/** True when `error` carries exactly this code. */
export function hasCode(error: unknown, code: ErrorCode): error is ShoalError {
  return asShoalError(error)?.code === code
}

/** True for anything that an abort signal threw: nobody's fault, neither logged nor blamed. */
export function isAbort(error: unknown): boolean {
  if (hasCode(error, 'aborted')) return true
  return (
    error instanceof Error &&
    (error.name === 'AbortError' || (error as { code?: unknown }).code === 'ABORT_ERR')
  )
}

/** The message of anything thrown, for a log line or as part of another message. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
