// From a request to its right answer: rate limit, token, access, then the route. The order is the real Hub's. No faults here.
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Clock } from '@shoal/protocol/time.ts'
import {
  type Answer,
  badRequest,
  badToken,
  disabled,
  gatedRepo,
  notFound,
  rateLimited,
  repoNotFound,
  revisionNotFound,
  textAnswer,
} from './answer.ts'
import {
  commitsAnswer,
  infoAnswer,
  type Paging,
  pathsInfoAnswer,
  refsAnswer,
  treeAnswer,
  whoamiAnswer,
} from './api.ts'
import type { Counts, SeenRequest } from './counts.ts'
import {
  cdnAnswer,
  cdnRefusal,
  type FileRequest,
  rawAnswer,
  redirect,
  resolveAnswer,
  resolveCacheAnswer,
  type Signer,
} from './files.ts'
import type { RateLimiter } from './quota.ts'
import { fullName, type HubRepo, oidOf, type Repos, resolveRevision, type User } from './repos.ts'
import type { Route } from './route.ts'

export interface HubState {
  readonly clock: Clock
  readonly repos: Repos
  readonly limiter: RateLimiter
  readonly signer: Signer
  readonly counts: Counts
  readonly paging: Paging
  readonly cdnUrl: string
  readonly signedUrlTtlMs: number
}

export interface Asked {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** undefined: a path that is not well formed. */
  readonly route: Route | undefined
  readonly seen: SeenRequest
  readonly signal: AbortSignal
}

const MAX_BODY_BYTES = 8 * 1024 * 1024
const CDN_PREFIX = '/xet-bridge-local/'

export async function answerHub(state: HubState, asked: Asked, range: string | undefined): Promise<Answer> {
  const { request, route } = asked
  if (route === undefined) return badRequest('Malformed URL')
  const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1]
  const user = token === undefined ? undefined : state.repos.user(token)
  const limit = state.limiter.take(route.kind, user?.name, state.clock.now())
  const answer = limit.ok ? await answerRoute(state, asked, route, user, range) : rateLimited(limit.headers)
  return { ...answer, headers: { ...limit.headers, ...answer.headers } }
}

async function answerRoute(
  state: HubState,
  asked: Asked,
  route: Route,
  user: User | undefined,
  range: string | undefined,
): Promise<Answer> {
  const { request } = asked
  if (user === undefined && request.headers.authorization !== undefined) return badToken()
  if (route.kind === 'whoami') return whoamiAnswer(user)
  if (route.kind === 'other' || route.kind === 'cdn' || route.kind === 'xet-token') return notFound()
  if (route.kind === 'list') {
    const open = state.repos.list(route.repoKind).filter((repo) => !repo.private)
    return textAnswer(200, JSON.stringify(open.map(({ id }) => ({ id, modelId: id }))), {
      'Content-Type': 'application/json',
    })
  }
  const name = fullName(route.repoKind, route.id)
  const renamed = state.repos.renamed(name)
  const repo = state.repos.find(name)
  if (repo === undefined && renamed !== undefined) return redirect(307, route.url.replace(route.id, renamed))
  const refusal = refuse(repo, name, route, user)
  if (repo === undefined || refusal !== undefined) return refusal ?? repoNotFound(user)
  if (route.kind === 'auth-check') return textAnswer(200, 'OK')
  if (route.kind === 'refs') return refsAnswer(repo, route)
  return answerRevision(state, asked, route, repo, range)
}

function refuse(
  repo: HubRepo | undefined,
  name: string,
  route: Route,
  user: User | undefined,
): Answer | undefined {
  const may = user?.access.includes(name) === true
  if (repo === undefined || (repo.private && !may)) return repoNotFound(user)
  if (repo.disabled) return disabled()
  const guarded = ['resolve', 'resolve-cache', 'raw', 'auth-check'].includes(route.kind) || repo.gatesMetadata
  if (repo.gated !== false && !may && guarded) return gatedRepo(repo.kind, repo.id, user)
  return undefined
}

async function answerRevision(
  state: HubState,
  asked: Asked,
  route: Route,
  repo: HubRepo,
  range: string | undefined,
): Promise<Answer> {
  const { request } = asked
  const commit = resolveRevision(repo, route.kind === 'info' ? 'HEAD' : route.revision)
  if (commit === undefined) return revisionNotFound(route.revision)
  const headers: FileRequest = {
    range,
    ifNoneMatch: request.headers['if-none-match'],
    acceptEncoding: String(request.headers['accept-encoding'] ?? ''),
  }
  switch (route.kind) {
    case 'info':
    case 'revision':
      return infoAnswer(repo, commit, route)
    case 'tree':
      return treeAnswer(commit, route, state.paging)
    case 'commits':
      return commitsAnswer(commit, route, state.paging)
    case 'paths-info':
      if (request.method !== 'POST') return notFound()
      return pathsInfoAnswer(commit, await readBody(request), request.headers['content-type'] ?? '')
    case 'resolve':
      return resolveAnswer(repo, commit, route, headers, (file, fileName) => {
        const signed = state.signer.sign(oidOf(file), fileName, state.clock.wallTime(), state.signedUrlTtlMs)
        return state.cdnUrl + signed
      })
    case 'resolve-cache':
      return resolveCacheAnswer(commit, route, headers)
    case 'raw':
      return rawAnswer(commit, route, headers)
    default:
      return notFound()
  }
}

export function parseCdnRoute(url: string): Route | undefined {
  const [path = '', query = ''] = url.split('?')
  if (!path.startsWith(CDN_PREFIX)) return undefined
  return {
    kind: 'cdn',
    repoKind: 'model',
    id: '',
    revision: '',
    path: path.slice(CDN_PREFIX.length),
    query: new URLSearchParams(query),
    url,
  }
}

export function answerCdn(state: HubState, { request, route }: Asked, range: string | undefined): Answer {
  const content = route === undefined ? undefined : state.repos.byOid(route.path)
  if (route === undefined || content === undefined) return cdnRefusal('missing')
  // The real one refuses a request that is signed and authorized at once; and a token here is a leak.
  if (request.headers.authorization !== undefined) return cdnRefusal('authorization')
  const verdict = state.signer.check(route.path, route.query, state.clock.wallTime())
  if (verdict !== 'good') return cdnRefusal(verdict)
  return cdnAnswer(content.file, { range, ifNoneMatch: undefined, acceptEncoding: undefined })
}

async function readBody(request: IncomingMessage): Promise<Uint8Array> {
  const pieces: Buffer[] = []
  let size = 0
  for await (const piece of request) {
    size += (piece as Buffer).byteLength
    if (size > MAX_BODY_BYTES) throw new Error('the body is too large')
    pieces.push(piece as Buffer)
  }
  return Buffer.concat(pieces)
}
