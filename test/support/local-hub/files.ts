// The Hub's file routes: resolve (a relative redirect for files in Git, a signed one to the CDN for LFS), resolve-cache, raw;
// and the CDN's own answers. From state to answers; no sockets.
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { type Answer, entryNotFound, fileAnswer, NO_BODY, textAnswer } from './answer.ts'
import { bytesContent, readAll } from './content.ts'
import { type Commit, type HubFile, type HubRepo, oidOf } from './repos.ts'
import { encodePath, type Route } from './route.ts'

export interface FileRequest {
  readonly range: string | undefined
  readonly ifNoneMatch: string | undefined
  readonly acceptEncoding: string | undefined
}

/** Makes and checks the CDN's URLs. All that were given out can be made to expire at once. */
export class Signer {
  readonly #key = randomBytes(32)
  #epoch = 0

  /** @param ttlMs how long it is good for, from `nowMs` (Unix time) on */
  sign(oid: string, fileName: string, nowMs: number, ttlMs: number): string {
    const query = new URLSearchParams({
      'response-content-disposition': `inline; filename="${fileName.replaceAll(/[^\w.-]/g, '_')}"`,
      Expires: String((nowMs + ttlMs) / 1000),
      Epoch: String(this.#epoch),
    })
    query.set('Signature', this.#mac(oid, query))
    query.set('Key-Pair-Id', 'LOCALHUB')
    return `/xet-bridge-local/${oid}?${query}`
  }

  check(oid: string, query: URLSearchParams, nowMs: number): 'good' | 'expired' | 'forged' {
    const given = Buffer.from(query.get('Signature') ?? '')
    const right = Buffer.from(this.#mac(oid, query))
    if (given.length !== right.length || !timingSafeEqual(given, right)) return 'forged'
    return Number(query.get('Expires')) * 1000 > nowMs && Number(query.get('Epoch')) === this.#epoch
      ? 'good'
      : 'expired'
  }

  expireAll(): void {
    this.#epoch += 1
  }

  #mac(oid: string, query: URLSearchParams): string {
    return createHmac('sha256', this.#key)
      .update(`${oid} ${query.get('Expires')} ${query.get('Epoch')}`)
      .digest('base64url')
  }
}

/** @param cdnUrl makes the signed URL of a file on the CDN */
export function resolveAnswer(
  repo: HubRepo,
  commit: Commit,
  route: Route,
  request: FileRequest,
  cdnUrl: (file: HubFile, name: string) => string,
): Answer {
  const file = commit.files.get(route.path)
  if (file === undefined) return entryNotFound(commit.sha)
  const etag = `"${oidOf(file)}"`
  if (matches(request.ifNoneMatch, etag)) return notModified(etag, commit)
  if (file.lfs === undefined) {
    const target = `/api/resolve-cache/${repo.kind}s/${repo.id}/${commit.sha}/${encodePath(route.path)}`
    const location = `${target}?${encodeURIComponent(route.url)}=&etag=${encodeURIComponent(etag)}`
    return redirect(307, location, { 'X-Repo-Commit': commit.sha })
  }
  return redirect(302, cdnUrl(file, route.path.split('/').at(-1) ?? ''), {
    'X-Repo-Commit': commit.sha,
    'X-Linked-Etag': etag,
    'X-Linked-Size': String(file.sizeBytes),
    'Accept-Ranges': 'bytes',
    ...(file.lfs.xetHash === undefined
      ? {}
      : {
          'X-Xet-Hash': file.lfs.xetHash,
          Link: `</api/${repo.kind}s/${repo.id}/xet-read-token/${commit.sha}>; rel="xet-auth"`,
        }),
  })
}

/** Where a plain file's redirect leads. Text is compressed for those who accept it, as the real one does. */
export async function resolveCacheAnswer(
  commit: Commit,
  route: Route,
  request: FileRequest,
): Promise<Answer> {
  const file = commit.files.get(route.path)
  if (file === undefined || file.lfs !== undefined) return entryNotFound(commit.sha)
  const etag = `"${file.gitOid}"`
  if (matches(request.ifNoneMatch, etag)) return notModified(etag, commit)
  const headers = {
    ETag: etag,
    'X-Repo-Commit': commit.sha,
    'Content-Type': contentType(route.path),
    'Content-Disposition': `inline; filename*=UTF-8''${encodeURIComponent(route.path.split('/').at(-1) ?? '')};`,
  }
  const gzips = /\bgzip\b/.test(request.acceptEncoding ?? '') && request.range === undefined
  if (!gzips || !isText(route.path) || file.sizeBytes < 1024) return fileAnswer(file, request.range, headers)
  return {
    status: 200,
    headers: { ...headers, ETag: `W/${etag}`, 'Content-Encoding': 'gzip', Vary: 'Accept-Encoding' },
    body: { type: 'gzip', file, bytes: gzipSync(await readAll(file.content)) },
  }
}

/** An LFS file gives its pointer. */
export function rawAnswer(commit: Commit, route: Route, request: FileRequest): Answer {
  const file = commit.files.get(route.path)
  if (file === undefined) return entryNotFound(commit.sha)
  const etag = `"${file.gitOid}"`
  if (matches(request.ifNoneMatch, etag)) return notModified(etag, commit)
  const headers = { ETag: etag, 'X-Repo-Commit': commit.sha, 'Content-Type': 'text/plain; charset=utf-8' }
  if (file.lfs === undefined) return fileAnswer(file, request.range, headers)
  const content = bytesContent(new TextEncoder().encode(file.lfs.pointer))
  const pointer: HubFile = { sizeBytes: content.sizeBytes, content, gitOid: file.gitOid, lfs: undefined }
  return fileAnswer(pointer, request.range, headers)
}

export function cdnAnswer(file: HubFile, request: FileRequest): Answer {
  // What the real CDN puts into its ETag is nobody's business: clients must take X-Linked-Etag of the redirect.
  const etag = `"${createHash('md5').update(oidOf(file)).digest('hex')}"`
  return fileAnswer(file, request.range, { ETag: etag, 'Content-Type': 'application/octet-stream' })
}

export function cdnRefusal(why: 'expired' | 'forged' | 'missing' | 'authorization'): Answer {
  const text = `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${why === 'missing' ? 'NoSuchKey' : 'AccessDenied'}</Code><Message>${why}</Message></Error>`
  const status = why === 'missing' ? 404 : why === 'authorization' ? 400 : 403
  return textAnswer(status, text, { 'Content-Type': 'application/xml' })
}

export function redirect(status: number, location: string, headers: Record<string, string> = {}): Answer {
  return textAnswer(status, `Redirecting to ${location}`, { Location: location, ...headers })
}

function notModified(etag: string, commit: Commit): Answer {
  return { status: 304, headers: { ETag: etag, 'X-Repo-Commit': commit.sha }, body: NO_BODY }
}

function matches(ifNoneMatch: string | undefined, etag: string): boolean {
  return (ifNoneMatch ?? '')
    .split(',')
    .some((one) => one.trim().replace(/^W\//, '') === etag || one.trim() === '*')
}

function isText(path: string): boolean {
  return /\.(json|md|txt|jinja|py|jsonl|csv|ya?ml)$/.test(path)
}

function contentType(path: string): string {
  if (/\.json$/.test(path)) return 'application/json'
  return isText(path) ? 'text/plain; charset=utf-8' : 'application/octet-stream'
}
