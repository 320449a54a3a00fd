// One file at a bare origin, and answers about it that are honest or broken: what the fault tests of the origin side share.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import type { TestContext } from 'node:test'
import { fixedSlices } from '@shoal/protocol/chunks.ts'
import { type ErrorCode, ShoalError } from '@shoal/protocol/errors.ts'
import { parseBlobId, parseCommit, parseFilePath, parseRepoSpec, parseRevision } from '@shoal/protocol/ids.ts'
import {
  type ClientOptions,
  type FakeOrigin,
  fakeOrigin,
  fetchChunk,
  type Handler,
  testClient,
} from './origin-client.ts'

export const signal = new AbortController().signal
export const COMMIT = parseCommit('c'.repeat(40))
export const REPO = parseRepoSpec('org/model').repo
export const MAIN = parseRevision('main')
export const CONTENT = Buffer.from(
  Array.from({ length: 200_000 }, (_, index) => (index * 7 + (index >> 8)) & 255),
)
export const SHA = createHash('sha256').update(CONTENT).digest('hex')
export const BLOB = parseBlobId(`sha256:${SHA}`)
export const FILE = {
  repo: REPO,
  commit: COMMIT,
  entry: {
    path: parseFilePath('w.bin'),
    sizeBytes: CONTENT.length,
    blob: BLOB,
    oid: '1'.repeat(40),
    pointerBytes: 131,
  },
}
export const GEOMETRY = fixedSlices(CONTENT.length, 100_000)
/** Chunk 1: bytes 100000 to 199999. */
export const SECOND = CONTENT.subarray(100_000)
export const IDENTITY = {
  'x-linked-etag': `"${SHA}"`,
  'x-linked-size': String(CONTENT.length),
  'x-repo-commit': COMMIT,
}

export function rangeOf(header: string | undefined): readonly [start: number, end: number] {
  const match = /^bytes=(\d+)-(\d+)$/.exec(header ?? '')
  return match === null ? [0, CONTENT.length] : [Number(match[1]), Number(match[2]) + 1]
}

/** Serves the file in place, as a mirror does. */
export const honest: Handler = (request, response) => {
  const [start, end] = rangeOf(request.headers.range)
  response.writeHead(request.headers.range === undefined ? 200 : 206, {
    etag: `"${SHA}"`,
    'x-repo-commit': COMMIT,
    'content-length': end - start,
    ...(request.headers.range === undefined
      ? {}
      : { 'content-range': `bytes ${start}-${end - 1}/${CONTENT.length}` }),
  })
  response.end(CONTENT.subarray(start, end))
}

/** Answers the first requests by `faults` in turn, all later ones honestly. */
export function first(...faults: readonly Handler[]): Handler {
  let turn = 0
  return (request, response) => (faults[turn++] ?? honest)(request, response)
}

export const always =
  (status: number, headers: Record<string, string> = {}, body = ''): Handler =>
  (_request, response) => {
    response.writeHead(status, headers)
    response.end(body)
  }

export const part = (headers: string): string =>
  `HTTP/1.1 206 Partial Content\nETag: "${SHA}"\nX-Repo-Commit: ${COMMIT}\n${headers}\n\n`
export const PART_RANGE = `Content-Range: bytes 100000-199999/${CONTENT.length}`

export interface Run {
  readonly origin: FakeOrigin
  readonly client: ReturnType<typeof testClient>
  fetch(index?: number): Promise<Uint8Array>
}

export async function run(
  context: TestContext,
  handler: Handler,
  options: Partial<ClientOptions> = {},
): Promise<Run> {
  const origin = await fakeOrigin(context, handler)
  const client = testClient(context, { readTimeoutMs: 300, ...options, upstreams: [origin.url] })
  const source = client.hub.source(FILE, () => 'hf_canary')
  return {
    origin,
    client,
    fetch: async (index = 1) => (await fetchChunk(source, BLOB, GEOMETRY, index)).bytes,
  }
}

export function code(...wanted: readonly ErrorCode[]) {
  return (error: unknown) => {
    assert.ok(error instanceof ShoalError, String(error))
    assert.ok(wanted.includes(error.code), `${error.code}: ${error.message}`)
    return true
  }
}
