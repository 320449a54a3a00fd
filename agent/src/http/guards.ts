// PURE. What every request must pass before anything is routed, on every method: a Host we answer for, no foreign page behind
// it, one of each header that decides something, bounds. There is no CORS: no page but our own may talk to an agent.
import { type ErrorCode, ShoalError } from '@shoal/protocol/errors.ts'
import { formatListenAddress, type ListenAddress } from '@shoal/protocol/listen-address.ts'

export const MAX_HEADERS = 100
export const MAX_HEADER_BYTES = 16 * 1024
export const MAX_BODY_BYTES = 1024 * 1024
/** Names the agents a request has come through; the same word as in sources/loop-guard.ts. */
export const LOOP_HEADER = 'x-shoal-via'

export interface RequestFacts {
  readonly method: string
  readonly target: string
  /** Name, value, name, value …, as they came. */
  readonly rawHeaders: readonly string[]
}

export interface GuardRules {
  /** Exact values of Host, lower case, with port. */
  readonly hosts: ReadonlySet<string>
  /** False for a value of {@link LOOP_HEADER} that names us. Asked last: it may remember who asks. */
  readonly admitsVia: (via: string | undefined) => boolean
}

export interface Refusal {
  readonly ok: false
  readonly status: number
  readonly error: ShoalError
  readonly headers: Readonly<Record<string, string>>
}

export interface Admitted {
  readonly ok: true
  readonly rawPath: string
  readonly rawQuery: string
  /** As the client wrote it. */
  readonly host: string
  /** Of the Authorization header. */
  readonly token: string | undefined
}

const METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'DELETE'])
/** Used by this host's own API only; no route of the Hub knows them. */
const API_METHODS: ReadonlySet<string> = new Set(['PUT', 'PATCH'])
/** A second one of these could make two readers of a request see two different ones. */
const SINGLE = [
  'host',
  'authorization',
  'content-length',
  'transfer-encoding',
  'origin',
  'sec-fetch-site',
] as const

/**
 * Hosts a server answers for: the loopback names and its own address with the port, and what is configured (which gets the
 * port too unless it names one).
 */
export function allowedHosts(address: ListenAddress, configured: readonly string[]): ReadonlySet<string> {
  const { port } = address
  const hosts = new Set<string>()
  const add = (name: string) => {
    hosts.add(`${name}:${port}`)
    if (port === 80) hosts.add(name)
  }
  for (const name of ['127.0.0.1', 'localhost', '[::1]']) add(name)
  if (address.host !== '0.0.0.0' && address.host !== '::')
    add(formatListenAddress(address).replace(/:\d+$/, '').toLowerCase())
  for (const name of configured.map((entry) => entry.trim().toLowerCase())) {
    if (/^(?:\[[^\]]*\]|[^:]*):\d+$/.test(name)) hosts.add(name)
    else add(name.includes(':') && !name.startsWith('[') ? `[${name}]` : name)
  }
  return hosts
}

export function guard(facts: RequestFacts, rules: GuardRules): Admitted | Refusal {
  const headers = collect(facts.rawHeaders)
  const first = (name: string) => headers.get(name)?.[0]
  if (facts.rawHeaders.length / 2 > MAX_HEADERS)
    return refusal(431, 'too-large', `more than ${MAX_HEADERS} headers`)
  for (const name of SINGLE) {
    if ((headers.get(name)?.length ?? 0) > 1)
      return refusal(400, 'bad-request', `more than one ${name} header`)
  }
  const host = first('host')
  if (host === undefined) return refusal(400, 'bad-request', 'a Host header is needed')
  if (!rules.hosts.has(host.toLowerCase()))
    return refusal(
      421,
      'misdirected',
      'this agent does not answer for that host name; see http.allowed_hosts',
    )
  if (!facts.target.startsWith('/')) return refusal(400, 'bad-request', 'the request target must be a path')
  const page = refusedPage(first('sec-fetch-site'), first('origin'), host)
  if (page !== undefined) return refusal(403, 'forbidden', page)
  const isKnown =
    METHODS.has(facts.method) || (API_METHODS.has(facts.method) && facts.target.startsWith('/api/v1/'))
  if (!isKnown)
    return refusal(405, 'not-supported', `the method ${facts.method.slice(0, 20)} is not used here`, {
      Allow: [...METHODS].join(', '),
    })
  const body = refusedBody(facts.method, first('content-length'), first('transfer-encoding'))
  if (body !== undefined) return body
  const token = bearerToken(first('authorization'))
  if (token === 'bad') return refusal(401, 'unauthorized', 'Invalid credentials in Authorization header')
  if (!rules.admitsVia(headers.get(LOOP_HEADER)?.join(', '))) {
    return refusal(
      508,
      'origin-refused',
      'this request has already come through this agent: hub.upstream leads back to it',
    )
  }
  const mark = facts.target.indexOf('?')
  return {
    ok: true,
    rawPath: mark === -1 ? facts.target : facts.target.slice(0, mark),
    rawQuery: mark === -1 ? '' : facts.target.slice(mark + 1),
    host,
    token: token?.value,
  }
}

/** Why a browser's page may not have sent this; undefined when no page did, or our own. */
function refusedPage(site: string | undefined, origin: string | undefined, host: string): string | undefined {
  if (site !== undefined && site !== 'same-origin' && site !== 'none')
    return 'a page of another site may not use this agent'
  if (origin !== undefined && origin.toLowerCase() !== `http://${host.toLowerCase()}`)
    return 'a page of another origin may not use this agent'
  return undefined
}

function refusedBody(
  method: string,
  length: string | undefined,
  encoding: string | undefined,
): Refusal | undefined {
  const hasBody = encoding !== undefined || (length !== undefined && length !== '0')
  if (hasBody && (method === 'GET' || method === 'HEAD'))
    return refusal(400, 'bad-request', `a ${method} request has no body here`)
  if (length !== undefined && Number(length) > MAX_BODY_BYTES)
    return refusal(413, 'too-large', `a body may have ${MAX_BODY_BYTES} bytes`)
  return undefined
}

/** `Bearer x`, the scheme in any case. A token is a run of visible ASCII. */
function bearerToken(header: string | undefined): { readonly value: string } | 'bad' | undefined {
  if (header === undefined) return undefined
  const match = /^Bearer +([\x21-\x7e]{1,4096}) *$/i.exec(header)
  return match?.[1] === undefined ? 'bad' : { value: match[1] }
}

/** Why a write may not be taken as JSON: a page can send text across origins unasked, JSON it cannot. */
export function refusedContentType(contentType: string | undefined, hasBody: boolean): string | undefined {
  if (contentType === undefined && !hasBody) return undefined
  const type = (contentType ?? '').split(';', 1)[0]?.trim().toLowerCase()
  return type === 'application/json' ? undefined : 'the body must be sent as application/json'
}

function collect(rawHeaders: readonly string[]): ReadonlyMap<string, readonly string[]> {
  const headers = new Map<string, string[]>()
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const name = (rawHeaders[index] ?? '').toLowerCase()
    const values = headers.get(name)
    if (values === undefined) headers.set(name, [rawHeaders[index + 1] ?? ''])
    else values.push(rawHeaders[index + 1] ?? '')
  }
  return headers
}

function refusal(
  status: number,
  code: ErrorCode,
  message: string,
  headers: Readonly<Record<string, string>> = {},
): Refusal {
  return { ok: false, status, error: new ShoalError(code, message), headers }
}
