// PURE. Whether an answer of an origin is what was asked for: the right file (identity) and the right bytes of it (range).
// Says how its body lies on the wanted range. Reads no body.

import type { ByteRange } from '@shoal/protocol/chunks.ts'
import { type ErrorDetails, ShoalError } from '@shoal/protocol/errors.ts'
import { blobParts, type Commit } from '@shoal/protocol/ids.ts'
import type { FileEntry } from '@shoal/protocol/manifest.ts'
import { bareEtag, parseContentRange, parseSize } from './http-facts.ts'

/** A prefix longer than this is not read only to be thrown away: the origin is given up instead. */
export const MAX_SKIPPED_BYTES = 16 * 1024 * 1024

export interface AnswerFacts {
  readonly status: number
  readonly host: string
  readonly header: (name: string) => string | undefined
}

/** How a body lies on the wanted range. */
export interface BodyPlan {
  /** Bytes before the wanted ones. */
  readonly skipBytes: number
  /** The body goes on after the wanted bytes: cut it there. Otherwise more bytes than wanted are an error. */
  readonly open: boolean
}

/**
 * Compares what the Hub's own headers say with the file that the manifest names. `own`: the answer is the file itself, given
 * by the Hub's own host, so that its plain `ETag` names the content too (a storage host's may be anything).
 * @throws ShoalError `origin-changed`
 */
export function checkIdentity(answer: AnswerFacts, commit: Commit, entry: FileEntry, own: boolean): void {
  const changed = (what: string) =>
    new ShoalError('origin-changed', `${answer.host} has another ${what} than the commit's list of files`, {
      host: answer.host,
    })
  const told = answer.header('x-repo-commit')
  if (told !== undefined && told !== commit) throw changed('commit')
  const etag = bareEtag(answer.header('x-linked-etag') ?? (own ? answer.header('etag') : undefined))
  if (etag !== undefined && etag.toLowerCase() !== blobParts(entry.blob).hex) throw changed('digest')
  const size = parseSize(answer.header('x-linked-size'))
  if (size !== undefined && size !== entry.sizeBytes) throw changed('size')
}

/**
 * Reads status and range headers of an answer to a GET of `wanted`. `ranged`: the request had a Range header.
 * @throws ShoalError `origin-bad-answer` (not the bytes asked for) | `origin-changed` (another size) |
 *   `origin-refused` (it ignores Range and the bytes lie too far in)
 */
export function planBody(
  answer: AnswerFacts,
  wanted: ByteRange,
  sizeBytes: number,
  ranged: boolean,
): BodyPlan {
  const { host } = answer
  const details: ErrorDetails = { host, httpStatus: answer.status }
  const bad = (why: string) => new ShoalError('origin-bad-answer', `${host}: ${why}`, details)
  const changed = () => new ShoalError('origin-changed', `${host} has a file of another size`, details)
  const length = parseSize(answer.header('content-length'))
  if (Number.isNaN(length)) throw bad('its Content-Length is not a size')
  if (answer.status === 206) {
    const range = ranged ? parseContentRange(answer.header('content-range')) : undefined
    if (range === undefined) throw bad('it gives a part without saying properly which')
    if (range.totalBytes !== undefined && range.totalBytes !== sizeBytes) throw changed()
    if (range.start !== wanted.start || range.end !== wanted.end)
      throw bad('it gives another range than asked for')
    if (length !== undefined && length !== wanted.end - wanted.start) throw bad('its part has another length')
    return { skipBytes: 0, open: false }
  }
  if (length !== undefined && length !== sizeBytes) throw changed()
  if (wanted.start > MAX_SKIPPED_BYTES)
    throw new ShoalError(
      'origin-refused',
      `${host} ignores Range; the bytes lie too far into the file`,
      details,
    )
  return { skipBytes: wanted.start, open: wanted.end < sizeBytes }
}
