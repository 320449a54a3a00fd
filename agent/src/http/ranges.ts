// PURE. What the Range, If-Range and If-None-Match headers of a request ask for, by RFC 9110. Text in, values out.
import type { ByteRange } from '@shoal/protocol/chunks.ts'

export type RangeAnswer =
  /** No range, several, or one that makes no sense: the whole file, status 200. */
  | { readonly kind: 'whole' }
  /** `openEnded`: the request said "from here on", as a client does that continues a broken download. */
  | { readonly kind: 'part'; readonly range: ByteRange; readonly openEnded: boolean }
  /** A range of an empty file: status 200 with Content-Range, or clients that probe with `bytes=0-0` fail. */
  | { readonly kind: 'empty' }
  | { readonly kind: 'unsatisfiable' }

/** A number no file reaches; longer digit strings mean the same. */
const FAR = Number.MAX_SAFE_INTEGER

/** @param header value of `Range`; several such headers arrive joined and count as several ranges */
export function readRange(header: string | undefined, sizeBytes: number): RangeAnswer {
  const match = header === undefined ? null : /^\s*bytes=\s*(\d{0,64})-(\d{0,64})\s*$/i.exec(header)
  if (match === null) return { kind: 'whole' }
  const [, from = '', to = ''] = match
  if (from === '' && to === '') return { kind: 'whole' }
  const openEnded = to === ''
  if (from === '') {
    const length = toNumber(to)
    if (sizeBytes === 0) return { kind: 'empty' }
    if (length === 0) return { kind: 'unsatisfiable' }
    return {
      kind: 'part',
      range: { start: Math.max(0, sizeBytes - length), end: sizeBytes },
      openEnded: false,
    }
  }
  const start = toNumber(from)
  const last = openEnded ? FAR : toNumber(to)
  if (last < start) return { kind: 'whole' }
  if (sizeBytes === 0) return { kind: 'empty' }
  if (start >= sizeBytes) return { kind: 'unsatisfiable' }
  return { kind: 'part', range: { start, end: Math.min(last, sizeBytes - 1) + 1 }, openEnded }
}

function toNumber(digits: string): number {
  const value = Number(digits)
  return Math.min(value, FAR)
}

/** If-None-Match: a list of tags, weak or strong, or `*`. Weak comparison. */
export function listsEtag(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false
  if (header.trim() === '*') return true
  return header.split(',').some((item) => bareTag(item) === etag)
}

/** If-Range: only the same strong tag lets a range stand. A date never does, for we give no Last-Modified. */
export function rangeStands(header: string | undefined, etag: string): boolean {
  if (header === undefined) return true
  return !/^\s*W\//.test(header) && bareTag(header) === etag
}

function bareTag(text: string): string {
  return text
    .trim()
    .replace(/^W\//, '')
    .replace(/^"(.*)"$/, '$1')
}
