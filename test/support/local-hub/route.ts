// Reads a request's path as one of the Hub's routes. Pure. Segments are percent-decoded one by one; `+` is no space.
import type { RepoKind } from './repos.ts'

export type RouteKind =
  | 'info'
  | 'revision'
  | 'tree'
  | 'paths-info'
  | 'refs'
  | 'commits'
  | 'auth-check'
  | 'whoami'
  | 'xet-token'
  | 'list'
  | 'resolve'
  | 'resolve-cache'
  | 'raw'
  | 'cdn'
  | 'other'

export interface Route {
  readonly kind: RouteKind
  readonly repoKind: RepoKind
  /** Empty for routes that are about no repo. */
  readonly id: string
  readonly revision: string
  /** Path inside the repo; empty for the root. On the CDN the id of the content. */
  readonly path: string
  readonly query: URLSearchParams
  /** Path and query as sent. */
  readonly url: string
}

const API_VERBS: Readonly<Record<string, RouteKind>> = {
  revision: 'revision',
  tree: 'tree',
  'paths-info': 'paths-info',
  refs: 'refs',
  commits: 'commits',
  'auth-check': 'auth-check',
  'xet-read-token': 'xet-token',
}
const FILE_VERBS: Readonly<Record<string, RouteKind>> = { resolve: 'resolve', raw: 'raw' }
const KINDS: Readonly<Record<string, RepoKind>> = { models: 'model', datasets: 'dataset', spaces: 'space' }

/** undefined: the path is not well formed (400). */
export function parseRoute(url: string): Route | undefined {
  const mark = url.indexOf('?')
  const query = new URLSearchParams(mark === -1 ? '' : url.slice(mark + 1))
  const segments = decodeSegments(mark === -1 ? url : url.slice(0, mark))
  if (segments === undefined) return undefined
  const base = { query, url, id: '', revision: '', path: '', repoKind: 'model' as RepoKind }
  const [first = '', second = '', ...rest] = segments
  if (first === 'api') {
    if (second === 'whoami-v2') return { ...base, kind: 'whoami' }
    if (second === 'resolve-cache') return parseCache(base, rest)
    const repoKind = KINDS[second]
    if (repoKind === undefined) return { ...base, kind: 'other' }
    if (rest.length === 0) return { ...base, repoKind, kind: 'list' }
    return parseRepo({ ...base, repoKind }, rest, API_VERBS)
  }
  const repoKind = first === 'models' ? undefined : KINDS[first]
  return parseRepo(
    { ...base, repoKind: repoKind ?? 'model' },
    repoKind === undefined ? segments : segments.slice(1),
    FILE_VERBS,
  )
}

type Base = Omit<Route, 'kind'>

function parseRepo(base: Base, segments: readonly string[], verbs: typeof API_VERBS): Route {
  for (const idLength of [1, 2]) {
    const kind = verbs[segments[idLength] ?? '']
    if (kind === undefined) continue
    const id = segments.slice(0, idLength).join('/')
    return { ...base, kind, id, ...splitRevision(segments.slice(idLength + 1)) }
  }
  if (segments.length > 2 || verbs === FILE_VERBS) return { ...base, kind: 'other' }
  return { ...base, kind: 'info', id: segments.join('/') }
}

/** A revision is one encoded segment, or `refs/pr/N` and `refs/convert/NAME` as they are. */
function splitRevision(segments: readonly string[]): { revision: string; path: string } {
  const raw = segments[0] === 'refs' && (segments[1] === 'pr' || segments[1] === 'convert')
  const count = raw ? 3 : 1
  return { revision: segments.slice(0, count).join('/'), path: segments.slice(count).join('/') }
}

function parseCache(base: Base, segments: readonly string[]): Route {
  const [kind = '', ...rest] = segments
  const repoKind = KINDS[kind]
  const commitAt = rest.findIndex((segment) => /^[0-9a-f]{40}$/.test(segment))
  if (repoKind === undefined || commitAt < 1) return { ...base, kind: 'other' }
  return {
    ...base,
    repoKind,
    kind: 'resolve-cache',
    id: rest.slice(0, commitAt).join('/'),
    revision: rest[commitAt] ?? '',
    path: rest.slice(commitAt + 1).join('/'),
  }
}

function decodeSegments(path: string): readonly string[] | undefined {
  try {
    return path
      .split('/')
      .slice(1)
      .map((segment) => decodeURIComponent(segment))
      .filter((segment, index, all) => segment !== '' || index < all.length - 1)
  } catch {
    return undefined
  }
}

/** Encoded as one path, slashes kept. */
export function encodePath(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/')
}
