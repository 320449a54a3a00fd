// PURE. The raw path of a request as one typed Hub route. Decodes every segment itself, once, by percent-decoding only
// (`+` stays `+`); no router decodes these names before or after. What is malformed is refused here with 400 or never.
import { ShoalError } from '@shoal/protocol/errors.ts'
import {
  type FilePath,
  kindPlural,
  parseFilePath,
  parseRepoId,
  parseRevision,
  REPO_KINDS,
  type Repo,
  type RepoKind,
  type Revision,
} from '@shoal/protocol/ids.ts'
import { BoundedMap } from '../bounded-map.ts'

export type HubRoute =
  | {
      readonly kind: 'resolve' | 'raw'
      readonly repo: Repo
      readonly revision: Revision
      readonly path: FilePath
    }
  | {
      readonly kind: 'tree'
      readonly repo: Repo
      readonly revision: Revision
      /** undefined: the root. */
      readonly directory: FilePath | undefined
    }
  | {
      readonly kind: 'info' | 'paths-info' | 'commits' | 'xet-token'
      readonly repo: Repo
      readonly revision: Revision
    }
  | { readonly kind: 'refs' | 'auth-check'; readonly repo: Repo }
  | { readonly kind: 'whoami' }
  /** Asked by clients on the side; a 404 is what they expect. */
  | { readonly kind: 'absent' }
  /** A route of the Hub that we know of and do not serve. */
  | { readonly kind: 'unsupported' }
  | { readonly kind: 'unknown' }

export type HubRouteKind = HubRoute['kind']

export const MAX_RAW_PATH = 8 * 1024
const DEFAULT_REVISION = 'main'

/**
 * @param rawPath the request target up to `?`, exactly as it came
 * @throws ShoalError `bad-request` for a bad encoding, an overlong or hostile name; `revision-not-found` for a well-formed
 *   name that no revision can have (the Hub says so too, and clients tell the user the right thing)
 */
export function parseHubPath(rawPath: string): HubRoute {
  const known = parsed.get(rawPath)
  if (known !== undefined) return known
  const route = parseAnew(rawPath)
  if (rawPath.length <= MAX_KEPT_PATH) parsed.set(rawPath, route)
  return route
}

/** Routes of the paths asked for last: what a path means never changes, and parsing it is a good part of a HEAD request. */
const parsed = new BoundedMap<string, HubRoute>(4_096)
const MAX_KEPT_PATH = 512

function parseAnew(rawPath: string): HubRoute {
  if (rawPath.length > MAX_RAW_PATH) throw new ShoalError('bad-request', 'the path is too long')
  if (!/^\/[\x21\x22\x24-\x7e]*$/.test(rawPath))
    throw new ShoalError('bad-request', 'the path holds characters that must be percent-encoded')
  const segments = rawPath.slice(1).split('/')
  const isApi = segments[0] === 'api'
  if (isApi && segments.length > 1 && segments.at(-1) === '') segments.pop()
  if (segments.length === 1 && segments[0] === '') return { kind: 'unknown' }
  const decoded = segments.map(decodeSegment)
  return isApi ? parseApi(decoded.slice(1)) : parseFile(decoded)
}

/** @throws ShoalError `bad-request` */
export function decodeSegment(raw: string): string {
  if (raw === '') throw new ShoalError('bad-request', 'the path holds an empty segment')
  if (/%(?![0-9A-Fa-f]{2})/.test(raw)) throw new ShoalError('bad-request', 'bad percent-encoding in the path')
  let text: string
  try {
    // Refuses overlong forms, lone surrogates and everything else that is not UTF-8.
    text = decodeURIComponent(raw)
  } catch (cause) {
    throw new ShoalError('bad-request', 'the path is not UTF-8', {}, cause)
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are exactly what is refused here
  if (/[\u0000-\u001f\u007f]/.test(text))
    throw new ShoalError('bad-request', 'the path holds a control character')
  if (text.split('/').some((part) => part === '.' || part === '..' || part === ''))
    throw new ShoalError('bad-request', 'the path holds an empty, "." or ".." segment')
  return text
}

function parseFile(segments: readonly string[]): HubRoute {
  const kind = kindOf(segments[0])
  const parts = kind === undefined || kind === 'model' ? segments : segments.slice(1)
  for (const idLength of [2, 1]) {
    const verb = parts[idLength]
    if (verb !== 'resolve' && verb !== 'raw') continue
    const taken = takeRevision(parts.slice(idLength + 1))
    if (taken === undefined || taken.rest.length === 0) continue
    const repo = repoOf(kind ?? 'model', parts.slice(0, idLength))
    const path = parseFilePath(taken.rest.join('/'))
    return { kind: verb, repo, revision: toRevision(taken.revision), path }
  }
  return { kind: 'unknown' }
}

function parseApi(segments: readonly string[]): HubRoute {
  const [first, ...rest] = segments
  if (first === 'whoami-v2' && rest.length === 0) return { kind: 'whoami' }
  if (first === 'agent-harnesses' || first === 'telemetry') return { kind: 'absent' }
  const kind = kindOf(first)
  if (kind === undefined) return { kind: first === 'kernels' ? 'unsupported' : 'unknown' }
  if (rest.length === 0) return { kind: 'unsupported' }
  for (const idLength of [2, 1]) {
    const found = parseVerb(kind, rest.slice(0, idLength), rest[idLength], rest.slice(idLength + 1))
    if (found !== undefined) return found
  }
  if (rest.length > 2) return { kind: 'unsupported' }
  return { kind: 'info', repo: repoOf(kind, rest), revision: toRevision(DEFAULT_REVISION) }
}

/** undefined: these are not that verb with the arguments it takes. */
function parseVerb(
  kind: RepoKind,
  id: readonly string[],
  verb: string | undefined,
  rest: readonly string[],
): HubRoute | undefined {
  if (verb === 'refs' || verb === 'auth-check')
    return rest.length === 0 ? { kind: verb, repo: repoOf(kind, id) } : undefined
  const route = verb === undefined ? undefined : REVISION_VERBS.get(verb)
  const taken = route === undefined ? undefined : takeRevision(rest)
  if (route === undefined || taken === undefined) return undefined
  if (route !== 'tree' && taken.rest.length > 0) return undefined
  const repo = repoOf(kind, id)
  const revision = toRevision(taken.revision)
  if (route !== 'tree') return { kind: route, repo, revision }
  const directory = taken.rest.length === 0 ? undefined : parseFilePath(taken.rest.join('/'))
  return { kind: 'tree', repo, revision, directory }
}

const REVISION_VERBS = new Map<string, 'info' | 'tree' | 'paths-info' | 'commits' | 'xet-token'>([
  ['revision', 'info'],
  ['tree', 'tree'],
  ['paths-info', 'paths-info'],
  ['commits', 'commits'],
  ['xet-read-token', 'xet-token'],
])

/** One segment, or the three of `refs/pr/N` and `refs/convert/X`, which some clients do not encode. */
function takeRevision(
  segments: readonly string[],
): { readonly revision: string; readonly rest: readonly string[] } | undefined {
  const [first, second, third] = segments
  if (first === undefined) return undefined
  if (first === 'refs' && third !== undefined && (second === 'convert' || second === 'pr'))
    return { revision: `refs/${second}/${third}`, rest: segments.slice(3) }
  return { revision: first, rest: segments.slice(1) }
}

function toRevision(text: string): Revision {
  try {
    return parseRevision(text)
  } catch (cause) {
    throw new ShoalError('revision-not-found', `no revision can be called ${JSON.stringify(text)}`, {}, cause)
  }
}

function repoOf(kind: RepoKind, id: readonly string[]): Repo {
  if (id.some((part) => part.includes('/'))) throw new ShoalError('bad-request', 'not a repository id')
  return { kind, id: parseRepoId(id.join('/')) }
}

function kindOf(segment: string | undefined): RepoKind | undefined {
  return REPO_KINDS.find((kind) => kindPlural(kind) === segment)
}
