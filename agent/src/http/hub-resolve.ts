// The files themselves: `resolve` and `raw`, HEAD and GET. HEAD from metadata alone; GET answers at once and the bytes
// follow. Access is decided here, per caller, before a byte or a fact of a file leaves. Never redirects, never encodes.
import { ShoalError } from '@shoal/protocol/errors.ts'
import { blobParts } from '@shoal/protocol/ids.ts'
import { type FileEntry, fileAt, type Manifest } from '@shoal/protocol/manifest.ts'
import type { Catalog } from '../catalog-port.ts'
import type { Downloads } from '../downloads-port.ts'
import { blobDigest } from '../hashing.ts'
import type { Hub } from '../sources/hub.ts'
import type { Answer, HubCall } from './answer.ts'
import { lfsDigest, pointerBytes, pointerText } from './hub-tree.ts'
import type { HubRoute } from './names.ts'
import { listsEtag, type RangeAnswer, rangeStands, readRange } from './ranges.ts'
import { readableManifest } from './readable.ts'

export interface ResolveDeps {
  readonly catalog: Pick<Catalog, 'manifest' | 'checkAccess'>
  readonly downloads: Pick<Downloads, 'open'>
  readonly hub: Pick<Hub, 'raw'>
}

type FileRoute = Extract<HubRoute, { readonly kind: 'resolve' | 'raw' }>

const RAW_LIMIT_BYTES = 1024 * 1024
/** Plain git files with these endings go out as text, as the Hub does. */
const TEXT =
  /(?:^|\/)(?:\.[a-z]+|[^/]*\.(?:json|jsonl|txt|md|py|ya?ml|toml|cfg|ini|csv|tsv|jinja|model\.index))$/i

/** HEAD or GET of a file. @throws ShoalError, see Catalog and Downloads; `range-not-satisfiable` with `details.sizeBytes` */
export async function answerFile(call: HubCall, route: FileRoute, deps: ResolveDeps): Promise<Answer> {
  const { repo, revision, path } = route
  const manifest = await readableManifest(call, repo, revision, deps.catalog)
  const entry = fileAt(manifest, path)
  if (entry === undefined) {
    throw new ShoalError('file-not-found', `${path} does not exist at this revision`, {
      commit: manifest.commit,
    })
  }
  const pointer = route.kind === 'raw' && lfsDigest(entry) !== undefined
  const sizeBytes = pointer ? pointerBytes(entry) : entry.sizeBytes
  const etag = pointer ? entry.oid : blobParts(entry.blob).hex
  const headers = headersOf(manifest, entry, etag, pointer)

  if (listsEtag(call.header('if-none-match'), etag)) return { status: 304, headers }
  // RFC 9110: Range has a meaning for GET only, so HEAD tells of the whole file.
  if (call.method === 'HEAD') return { status: 200, headers: { ...headers, ...whole(sizeBytes) } }
  const asked: RangeAnswer = rangeStands(call.header('if-range'), etag)
    ? readRange(call.header('range'), sizeBytes)
    : { kind: 'whole' }
  if (asked.kind === 'unsatisfiable')
    throw new ShoalError('range-not-satisfiable', `the file has ${sizeBytes} bytes`, { sizeBytes })

  if (pointer) {
    const text = await rawPointer(call, manifest, entry, deps.hub)
    const framing = frame(asked, sizeBytes)
    return {
      status: framing.status,
      headers: { ...headers, ...framing.headers },
      body: text.subarray(framing.range.start, framing.range.end),
    }
  }
  const reader = await deps.downloads.open(
    { manifest, entry, caller: call.caller, revision },
    frame(asked, sizeBytes).range,
  )
  const suspect = reader.suspectPrefix && asked.kind === 'part' && asked.openEnded && asked.range.start > 0
  const framing = frame(suspect ? { kind: 'whole' } : asked, sizeBytes)
  return {
    status: framing.status,
    headers: { ...headers, ...framing.headers, 'X-Shoal-Source': reader.from },
    body: { reader, range: framing.range },
  }
}

/** Headers by file, as long as its manifest is in memory: clients ask for the same few files thousands of times. */
const made = new WeakMap<
  FileEntry,
  { readonly commit: string; readonly headers: Readonly<Record<string, string>> }
>()

function headersOf(
  manifest: Manifest,
  entry: FileEntry,
  etag: string,
  pointer: boolean,
): Readonly<Record<string, string>> {
  if (pointer) return fileHeaders(manifest, entry, etag, true)
  const known = made.get(entry)
  if (known?.commit === manifest.commit) return known.headers
  const headers = fileHeaders(manifest, entry, etag, false)
  made.set(entry, { commit: manifest.commit, headers })
  return headers
}

function fileHeaders(
  manifest: Manifest,
  entry: FileEntry,
  etag: string,
  pointer: boolean,
): Record<string, string> {
  const lfs = lfsDigest(entry) !== undefined
  const headers: Record<string, string> = {
    'X-Repo-Commit': manifest.commit,
    ETag: `"${etag}"`,
    'Accept-Ranges': 'bytes',
    'Content-Type':
      pointer || (!lfs && TEXT.test(entry.path)) ? 'text/plain; charset=utf-8' : 'application/octet-stream',
    'Content-Disposition': disposition(entry.path, lfs && !pointer),
    // A file is data, whatever a browser would make of it.
    'X-Content-Type-Options': 'nosniff',
    'Content-Security-Policy': "default-src 'none'; sandbox",
  }
  if (lfs && !pointer) {
    headers['X-Linked-Etag'] = `"${etag}"`
    headers['X-Linked-Size'] = String(entry.sizeBytes)
  }
  return headers
}

interface Framing {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly range: { readonly start: number; readonly end: number }
}

function frame(asked: Exclude<RangeAnswer, { kind: 'unsatisfiable' }>, sizeBytes: number): Framing {
  if (asked.kind !== 'part') {
    const probe: Record<string, string> = asked.kind === 'empty' ? { 'Content-Range': 'bytes */0' } : {}
    return { status: 200, headers: { ...whole(sizeBytes), ...probe }, range: { start: 0, end: sizeBytes } }
  }
  const { start, end } = asked.range
  return {
    status: 206,
    headers: {
      'Content-Length': String(end - start),
      'Content-Range': `bytes ${start}-${end - 1}/${sizeBytes}`,
    },
    range: asked.range,
  }
}

function whole(sizeBytes: number): Readonly<Record<string, string>> {
  return { 'Content-Length': String(sizeBytes) }
}

/** The pointer of an LFS file: written anew when its git id proves it is the same text, else asked of the Hub. */
async function rawPointer(
  call: HubCall,
  manifest: Manifest,
  entry: FileEntry,
  hub: ResolveDeps['hub'],
): Promise<Uint8Array> {
  const own = Buffer.from(pointerText(lfsDigest(entry) ?? '', entry.sizeBytes))
  if (blobDigest('git-sha1', own) === entry.oid && own.byteLength === pointerBytes(entry)) return own
  const token = call.caller.kind === 'client' ? call.caller.token : undefined
  const { repo, commit } = manifest
  const got = await hub.raw({ repo, commit, path: entry.path }, RAW_LIMIT_BYTES, {
    token,
    signal: call.signal,
  })
  if (blobDigest('git-sha1', got) !== entry.oid || got.byteLength !== pointerBytes(entry))
    throw new ShoalError('origin-bad-answer', 'the Hub gave a pointer whose git id is another')
  return got
}

/** A file name for a save dialog: no name from outside can end the header or name a directory. */
function disposition(path: string, attachment: boolean): string {
  const name = path.slice(path.lastIndexOf('/') + 1)
  const plain = name.replace(/[^\x20-\x7e]|["\\%;]/g, '_')
  const encoded = encodeURIComponent(name).replace(
    /['()*!]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  )
  return `${attachment ? 'attachment' : 'inline'}; filename*=UTF-8''${encoded}; filename="${plain}"`
}
