// PURE. Query strings and the body of paths-info as the clients send them: two spellings of booleans, two forms of body.
import { ShoalError } from '@shoal/protocol/errors.ts'
import { MAX_FILES } from '@shoal/protocol/manifest.ts'
import { z } from 'zod'

const MAX_LIMIT = MAX_FILES

/** `true`, `True`, `1`: httpx and requests spell it differently. Mere presence means nothing. */
export function isTrue(value: string | null | undefined): boolean {
  return value !== null && value !== undefined && /^(?:true|1)$/i.test(value)
}

/**
 * The page asked for; undefined: everything at once.
 * @throws ShoalError `bad-request` for a limit or cursor that we cannot have given
 */
export function treePage(
  query: URLSearchParams,
): { readonly start: number; readonly limit: number } | undefined {
  const limit = query.get('limit')
  const cursor = query.get('cursor')
  if (limit === null && cursor === null) return undefined
  return {
    start: cursor === null ? 0 : whole('cursor', cursor, 0),
    limit: limit === null ? MAX_LIMIT : whole('limit', limit, 1),
  }
}

function whole(name: string, text: string, least: number): number {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN
  if (!(value >= least))
    throw new ShoalError('bad-request', `not a ${name}: ${JSON.stringify(text.slice(0, 40))}`)
  return Math.min(value, name === 'limit' ? MAX_LIMIT : Number.MAX_SAFE_INTEGER)
}

const jsonBody = z.object({
  paths: z.union([z.string(), z.array(z.string())]),
  expand: z.union([z.boolean(), z.string()]).optional(),
})

/** Python posts a form (`paths=a&paths=b&expand=True`), JavaScript posts JSON. @throws ShoalError `bad-request` */
export function formPaths(
  contentType: string | undefined,
  body: Uint8Array,
): { readonly paths: readonly string[]; readonly expand: boolean } {
  const type = (contentType ?? '').split(';', 1)[0]?.trim().toLowerCase()
  const text = Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8')
  if (type === 'application/x-www-form-urlencoded') {
    const form = new URLSearchParams(text)
    return { paths: form.getAll('paths'), expand: isTrue(form.get('expand')) }
  }
  if (type !== 'application/json') throw new ShoalError('bad-request', 'the body must be JSON or a form')
  const parsed = jsonBody.safeParse(parseJson(text))
  if (!parsed.success) throw new ShoalError('bad-request', 'expected {"paths": [...], "expand": true}')
  const { paths, expand } = parsed.data
  return {
    paths: typeof paths === 'string' ? [paths] : paths,
    expand: typeof expand === 'boolean' ? expand : isTrue(expand),
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new ShoalError('bad-request', 'the body is not JSON', {}, cause)
  }
}
