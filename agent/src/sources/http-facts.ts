// PURE. What HTTP answers of the origin say about ranges, limits, links, redirects and expiry: text in, values out.
// Decides whether a redirect may be followed. Sends nothing, and trusts no header to be well formed.
import { ShoalError } from '@shoal/protocol/errors.ts'

export const MAX_REDIRECTS = 5
/** No wait that an origin asks for is longer than this. */
export const MAX_BACKOFF_MS = 60_000
const MAX_LOCATION_LENGTH = 8 * 1024

/**
 * Where a redirect leads. `hops` counts the redirects followed before this one.
 * @throws ShoalError `origin-refused`: no or bad Location, not http(s), https to http, credentials in it, too many
 */
export function redirectTarget(from: URL, location: string | undefined, hops: number): URL {
  const refuse = (why: string) =>
    new ShoalError('origin-refused', `a redirect of ${from.host} was refused: ${why}`, { host: from.host })
  if (hops >= MAX_REDIRECTS) throw refuse(`more than ${MAX_REDIRECTS} hops`)
  if (location === undefined || location === '') throw refuse('it names no location')
  if (location.length > MAX_LOCATION_LENGTH)
    throw refuse(`its location is longer than ${MAX_LOCATION_LENGTH} characters`)
  if (!URL.canParse(location, from.href)) throw refuse('its location is not a URL')
  const target = new URL(location, from)
  if (target.protocol !== 'http:' && target.protocol !== 'https:')
    throw refuse('only http and https are followed')
  if (from.protocol === 'https:' && target.protocol === 'http:') throw refuse('it leads from https to http')
  if (target.username !== '' || target.password !== '') throw refuse('its location carries credentials')
  target.hash = ''
  return target
}

export function isRedirect(status: number): boolean {
  return status === 301 || status === 302 || status === 303 || status === 307 || status === 308
}

/** One entry of `RateLimit`: requests left in a bucket (`api`, `pages`, `resolvers`) and seconds until it is full again. */
export interface RateLimit {
  readonly bucket: string
  readonly remaining: number
  readonly resetSeconds: number
}

/** Reads `"resolvers";r=2998;t=172`, several separated by commas. What does not parse is left out. */
export function parseRateLimit(text: string | undefined): readonly RateLimit[] {
  if (text === undefined || text.length > 512) return []
  const limits: RateLimit[] = []
  for (const item of text.split(',')) {
    const match = /^\s*"([A-Za-z0-9_-]{1,32})"((?:\s*;\s*[a-z]+=\d{1,12})*)\s*$/.exec(item)
    if (match === null) continue
    const parameters = new Map(
      [...(match[2] ?? '').matchAll(/([a-z]+)=(\d+)/g)].map((pair) => [pair[1], Number(pair[2])]),
    )
    const remaining = parameters.get('r')
    if (remaining === undefined) continue
    limits.push({ bucket: match[1] ?? '', remaining, resetSeconds: parameters.get('t') ?? 0 })
  }
  return limits
}

/**
 * `Retry-After` in milliseconds from now: seconds or an HTTP date, never more than {@link MAX_BACKOFF_MS}.
 * undefined when absent or unreadable. `wallNow` is Unix time in milliseconds.
 */
export function parseRetryAfter(text: string | undefined, wallNow: number): number | undefined {
  if (text === undefined) return undefined
  const trimmed = text.trim()
  if (/^\d{1,20}$/.test(trimmed)) return Math.min(Number(trimmed) * 1000, MAX_BACKOFF_MS)
  if (!/^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/.test(trimmed)) return undefined
  const at = Date.parse(trimmed)
  return Number.isNaN(at) ? undefined : Math.min(Math.max(at - wallNow, 0), MAX_BACKOFF_MS)
}

export interface ContentRange {
  readonly start: number
  /** First byte after the range. */
  readonly end: number
  /** Size of the whole, when told. */
  readonly totalBytes: number | undefined
}

/** Reads `bytes a-b/total` (total may be `*`). undefined for anything else, also for the form without a range. */
export function parseContentRange(text: string | undefined): ContentRange | undefined {
  const match = /^bytes (\d{1,16})-(\d{1,16})\/(\d{1,16}|\*)$/.exec(text ?? '')
  if (match === null) return undefined
  const start = Number(match[1])
  const end = Number(match[2]) + 1
  const totalBytes = match[3] === '*' ? undefined : Number(match[3])
  const known = totalBytes === undefined || (Number.isSafeInteger(totalBytes) && end <= totalBytes)
  if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || end <= start || !known) return undefined
  return { start, end, totalBytes }
}

/** A `Content-Length` or `X-Linked-Size`: undefined when absent, NaN when it is not a size. */
export function parseSize(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  return /^\d{1,16}$/.test(text) && Number.isSafeInteger(Number(text)) ? Number(text) : Number.NaN
}

/** An ETag without `W/` and quotes; undefined when absent or empty. */
export function bareEtag(text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  const bare = text
    .trim()
    .replace(/^W\//, '')
    .replace(/^"(.*)"$/, '$1')
  return bare === '' ? undefined : bare
}

/** The `rel="next"` target of a Link header, as written there. */
export function parseNextLink(text: string | undefined): string | undefined {
  if (text === undefined || text.length > MAX_LOCATION_LENGTH) return undefined
  for (const match of text.matchAll(/<([^<>]*)>\s*((?:;[^,<]*)?)/g)) {
    if (/;\s*rel\s*=\s*"?next"?/i.test(match[2] ?? '')) return match[1]
  }
  return undefined
}

/**
 * When a signed URL ends, Unix time in milliseconds: CloudFront `Expires` or `Policy`, or `X-Amz-Date` with
 * `X-Amz-Expires`. undefined when the URL does not say.
 */
export function signedUrlExpiry(url: URL): number | undefined {
  const query = new Map([...url.searchParams].map(([name, value]) => [name.toLowerCase(), value]))
  const expires = query.get('expires')
  if (expires !== undefined && /^\d{9,11}$/.test(expires)) return Number(expires) * 1000
  const lifetime = query.get('x-amz-expires')
  const date = /^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})Z$/.exec(query.get('x-amz-date') ?? '')
  if (lifetime !== undefined && /^\d{1,7}$/.test(lifetime) && date !== null) {
    const [year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0] = date.slice(1).map(Number)
    return Date.UTC(year, month - 1, day, hour, minute, second) + Number(lifetime) * 1000
  }
  const policy = query.get('policy')
  if (policy === undefined) return undefined
  // CloudFront's own base64 alphabet: `-` for `+`, `_` for `=`, `~` for `/`.
  const text = Buffer.from(
    policy.replaceAll('-', '+').replaceAll('_', '=').replaceAll('~', '/'),
    'base64',
  ).toString('latin1')
  const epoch = /"AWS:EpochTime"\s*:\s*(\d{9,11})\b/.exec(text)
  return epoch === null ? undefined : Number(epoch[1]) * 1000
}
