// An answer of the local Hub as a value, and the Hub's error answers with their exact codes. Builds, never sends.
import type { HubFile, RepoKind, User } from './repos.ts'

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Body
}

/** `file` and `text` bodies are what is counted as bytes of a file that left the Hub. */
export type Body =
  | { readonly type: 'none' }
  | { readonly type: 'bytes'; readonly bytes: Uint8Array }
  | { readonly type: 'file'; readonly file: HubFile; readonly start: number; readonly end: number }
  | { readonly type: 'gzip'; readonly file: HubFile; readonly bytes: Uint8Array }

export const NO_BODY: Body = { type: 'none' }

export function jsonAnswer(status: number, value: unknown, headers: Record<string, string> = {}): Answer {
  const bytes = new TextEncoder().encode(JSON.stringify(value))
  return {
    status,
    headers: {
      'Content-Type': 'application/json; charset=utf-8',
      'Content-Length': String(bytes.byteLength),
      ...headers,
    },
    body: { type: 'bytes', bytes },
  }
}

export function textAnswer(status: number, text: string, headers: Record<string, string> = {}): Answer {
  const bytes = new TextEncoder().encode(text)
  return {
    status,
    headers: {
      'Content-Type': 'text/plain; charset=utf-8',
      'Content-Length': String(bytes.byteLength),
      ...headers,
    },
    body: { type: 'bytes', bytes },
  }
}

function errorAnswer(
  status: number,
  message: string,
  code?: string,
  headers: Record<string, string> = {},
): Answer {
  return jsonAnswer(
    status,
    { error: message },
    { 'X-Error-Message': message, ...(code === undefined ? {} : { 'X-Error-Code': code }), ...headers },
  )
}

export const badRequest = (message: string) => errorAnswer(400, message)
export const notFound = () => errorAnswer(404, "Sorry, we can't find the page you are looking for.")
export const repoNotFound = (user: User | undefined) =>
  errorAnswer(user === undefined ? 401 : 404, 'Repository not found', 'RepoNotFound')
export const revisionNotFound = (revision: string) =>
  errorAnswer(404, `Invalid rev id: ${revision}`, 'RevisionNotFound')
export const entryNotFound = (commit: string) =>
  errorAnswer(404, 'Entry not found', 'EntryNotFound', { 'X-Repo-Commit': commit })
export const disabled = () => errorAnswer(403, 'Access to this resource is disabled.')
export const badToken = () => errorAnswer(401, 'Invalid credentials in Authorization header')
export const noToken = () => errorAnswer(401, 'Invalid username or password.')

export function gatedRepo(kind: RepoKind, id: string, user: User | undefined): Answer {
  const message =
    user === undefined
      ? `Access to ${kind} ${id} is restricted. You must have access to it and be authenticated to access it. Please log in.`
      : `Access to ${kind} ${id} is restricted and you are not in the authorized list.`
  return errorAnswer(user === undefined ? 401 : 403, message, 'GatedRepo')
}

export function rateLimited(headers: Record<string, string>): Answer {
  return errorAnswer(429, 'Too Many Requests', undefined, headers)
}

/** A part of a file by its Range header: 200, 206 or 416. `headers` come with every form. */
export function fileAnswer(
  file: HubFile,
  range: string | undefined,
  headers: Readonly<Record<string, string>>,
): Answer {
  const size = file.sizeBytes
  const parsed = parseRange(range, size)
  const common = { 'Accept-Ranges': 'bytes', ...headers }
  if (parsed === 'unsatisfiable')
    return {
      ...errorAnswer(416, 'Requested range not satisfiable', undefined, {
        ...common,
        'Content-Range': `bytes */${size}`,
      }),
    }
  if (parsed === undefined) {
    // The stock JavaScript client reads the size from Content-Range even of an empty file.
    const empty = size === 0 && range !== undefined ? { 'Content-Range': 'bytes */0' } : {}
    return {
      status: 200,
      headers: { ...common, ...empty, 'Content-Length': String(size) },
      body: { type: 'file', file, start: 0, end: size },
    }
  }
  const { start, end } = parsed
  return {
    status: 206,
    headers: {
      ...common,
      'Content-Range': `bytes ${start}-${end - 1}/${size}`,
      'Content-Length': String(end - start),
    },
    body: { type: 'file', file, start, end },
  }
}

/** One range only; `end` is exclusive. undefined: no Range header that applies, so the whole file. */
export function parseRange(
  range: string | undefined,
  size: number,
): { readonly start: number; readonly end: number } | 'unsatisfiable' | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(range ?? '')
  if (match === null || size === 0) return undefined
  const [, from = '', to = ''] = match
  if (from === '' && to === '') return undefined
  if (from === '') return to === '0' ? 'unsatisfiable' : { start: Math.max(0, size - Number(to)), end: size }
  const start = Number(from)
  if (start >= size) return 'unsatisfiable'
  if (to === '') return { start, end: size }
  if (Number(to) < start) return undefined
  return { start, end: Math.min(size, Number(to) + 1) }
}
