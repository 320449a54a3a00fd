// PURE. What of the Hub's own answers may go to our clients: no Xet (a client that sees it goes past us to the Hub's
// storage), no link that leads away from us, no content type but JSON and text.
import type { HubAnswer } from '../sources/hub.ts'
import type { Answer } from './answer.ts'
import { headerText } from './hub-errors.ts'

const MAX_DEPTH = 64

/** An answer of the Hub, made ours. `baseUrl` is how the client reaches us. */
export function passedAnswer(answer: HubAnswer, baseUrl: string): Answer {
  const headers: Record<string, string> = { 'X-Content-Type-Options': 'nosniff' }
  if (answer.errorCode !== undefined) headers['X-Error-Code'] = headerText(answer.errorCode)
  if (answer.errorMessage !== undefined) headers['X-Error-Message'] = headerText(answer.errorMessage)
  const link = ownLink(answer.link, baseUrl)
  if (link !== undefined) headers.Link = link
  const json = (answer.contentType ?? '').toLowerCase().includes('json') ? parsed(answer.body) : undefined
  headers['Content-Type'] =
    json === undefined ? 'text/plain; charset=utf-8' : 'application/json; charset=utf-8'
  const body = json === undefined ? answer.body : Buffer.from(JSON.stringify(withoutXet(json.value)))
  return { status: answer.status, headers, body }
}

/** The Hub's pages under our own address; a link to anything but its API is dropped. Absolute, or clients stop at page one. */
export function ownLink(link: string | undefined, baseUrl: string): string | undefined {
  if (link === undefined || link.length > 8192) return undefined
  const links: string[] = []
  for (const match of link.matchAll(/<([^<>]{1,4096})>\s*;\s*rel="?([a-z]{1,16})"?/gi)) {
    const [, target = '', relation = ''] = match
    if (!URL.canParse(target, baseUrl)) continue
    const url = new URL(target, baseUrl)
    if (url.pathname.startsWith('/api/'))
      links.push(`<${baseUrl}${url.pathname}${url.search}>; rel="${relation.toLowerCase()}"`)
  }
  return links.length === 0 ? undefined : links.join(', ')
}

/** A JSON value less every field that names Xet, at any depth. */
export function withoutXet(value: unknown, depth = 0): unknown {
  if (typeof value !== 'object' || value === null || depth > MAX_DEPTH) return value
  if (Array.isArray(value)) return value.map((item) => withoutXet(item, depth + 1))
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => !/^xet/i.test(key))
      .map(([key, item]) => [key, withoutXet(item, depth + 1)]),
  )
}

function parsed(body: Uint8Array): { readonly value: unknown } | undefined {
  try {
    return { value: JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8')) }
  } catch {
    return undefined
  }
}
