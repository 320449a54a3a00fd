// The drop-in Hub: every route a stock client asks, from a checked request to an answer as a value. Knows what to ask whom;
// parsing is in names.ts and ranges.ts, wording in hub-tree.ts and hub-errors.ts, sockets in send.ts.
import { ShoalError } from '@shoal/protocol/errors.ts'
import { kindPlural, parseRevision, type Repo } from '@shoal/protocol/ids.ts'
import type { Manifest } from '@shoal/protocol/manifest.ts'
import type { Catalog } from '../catalog-port.ts'
import type { Downloads } from '../downloads-port.ts'
import type { Hub, HubAnswer } from '../sources/hub.ts'
import { type Answer, type HubCall, jsonAnswer } from './answer.ts'
import { hubErrorAnswer } from './hub-errors.ts'
import { knownCommits, knownRefs } from './hub-offline.ts'
import { passedAnswer, withoutXet } from './hub-passed.ts'
import { answerFile } from './hub-resolve.ts'
import { pathsInfo, siblings, type TreeItem, treeItems } from './hub-tree.ts'
import { type HubRoute, type HubRouteKind, parseHubPath } from './names.ts'
import { formPaths, isTrue, treePage } from './queries.ts'
import { readableManifest } from './readable.ts'

export interface HubApiDeps {
  readonly catalog: Catalog
  readonly downloads: Pick<Downloads, 'open'>
  readonly hub: Pick<Hub, 'pass' | 'raw'>
}

export interface HubAnswered {
  readonly route: HubRouteKind
  readonly answer: Answer
  /** What went wrong, for the log; the answer already says as much of it as a client may know. */
  readonly error?: unknown
}

export interface HubApi {
  /** Never throws: every failure is an answer. */
  answer(call: HubCall): Promise<HubAnswered>
}

const POST_ROUTES: ReadonlySet<HubRouteKind> = new Set(['paths-info'])

export function createHubApi(deps: HubApiDeps): HubApi {
  return {
    async answer(call) {
      let kind: HubRouteKind = 'unknown'
      try {
        const route = parseHubPath(call.rawPath)
        kind = route.kind
        const refused = refusedMethod(call, kind)
        if (refused !== undefined) return { route: kind, answer: refused }
        return { route: kind, answer: await answerRoute(call, route, deps) }
      } catch (error) {
        return { route: kind, answer: hubErrorAnswer(error, tokenOf(call) !== undefined), error }
      }
    },
  }
}

function refusedMethod(call: HubCall, kind: HubRouteKind): Answer | undefined {
  if (kind === 'unknown' || kind === 'unsupported' || kind === 'absent') return undefined
  const post = POST_ROUTES.has(kind)
  if (post ? call.method === 'POST' : call.method === 'GET' || call.method === 'HEAD') return undefined
  const message = `this route takes ${post ? 'POST' : 'GET and HEAD'} only`
  return jsonAnswer(
    { error: message },
    { Allow: post ? 'POST' : 'GET, HEAD', 'X-Error-Code': 'MethodNotAllowed', 'X-Error-Message': message },
    405,
  )
}

async function answerRoute(call: HubCall, route: HubRoute, deps: HubApiDeps): Promise<Answer> {
  switch (route.kind) {
    case 'resolve':
    case 'raw':
      return answerFile(call, route, deps)
    case 'info': {
      const manifest = await readableManifest(call, route.repo, route.revision, deps.catalog)
      return jsonAnswer(repoInfo(manifest, call), commitHeader(manifest))
    }
    case 'tree':
      return answerTree(call, route, deps.catalog)
    case 'paths-info': {
      const { paths, expand } = formPaths(call.header('content-type'), await call.body())
      const manifest = await readableManifest(call, route.repo, route.revision, deps.catalog)
      return jsonAnswer(pathsInfo(manifest, paths, expand), commitHeader(manifest))
    }
    case 'refs':
      return passOr(call, apiPath(route.repo, 'refs'), deps, () =>
        offlineRefs(call, route.repo, deps.catalog),
      )
    case 'commits':
      return passOr(
        call,
        apiPath(route.repo, `commits/${encodeURIComponent(route.revision)}`),
        deps,
        async () => knownCommits(await readableManifest(call, route.repo, route.revision, deps.catalog)),
      )
    case 'auth-check': {
      await readableManifest(call, route.repo, parseRevision('main'), deps.catalog)
      return jsonAnswer({})
    }
    case 'whoami':
      if (tokenOf(call) === undefined) throw new ShoalError('unauthorized', 'no token was given')
      return passedAnswer(await pass(call, '/api/whoami-v2', deps), call.baseUrl)
    case 'xet-token':
      throw new ShoalError('not-found', 'Xet storage is not offered here; files come by plain HTTP')
    case 'absent':
      throw new ShoalError('not-found', 'not offered here')
    case 'unsupported':
      throw new ShoalError('not-supported', 'this agent serves files, not this part of the Hub')
    case 'unknown':
      throw new ShoalError('not-found', 'no such route; /docs lists what this agent answers')
  }
}

function commitHeader(manifest: Manifest): Readonly<Record<string, string>> {
  return { 'X-Repo-Commit': manifest.commit }
}

function repoInfo(manifest: Manifest, call: HubCall): Readonly<Record<string, unknown>> {
  const query = new URLSearchParams(call.rawQuery)
  const { repo, access, commit } = manifest
  const info = withoutXet(manifest.info) as Readonly<Record<string, unknown>>
  return {
    private: access === 'private',
    gated: access === 'gated' ? 'auto' : false,
    downloads: 0,
    likes: 0,
    tags: [],
    lastModified: new Date(manifest.learnedAt).toISOString(),
    ...info,
    ...(repo.kind === 'model' ? { modelId: info.id ?? repo.id } : {}),
    _id: info._id ?? commit.slice(0, 24),
    id: info.id ?? repo.id,
    sha: commit,
    siblings: siblings(manifest, isTrue(query.get('blobs'))),
  }
}

async function answerTree(
  call: HubCall,
  route: Extract<HubRoute, { readonly kind: 'tree' }>,
  catalog: Catalog,
): Promise<Answer> {
  const query = new URLSearchParams(call.rawQuery)
  const page = treePage(query)
  const manifest = await readableManifest(call, route.repo, route.revision, catalog)
  const options = { recursive: isTrue(query.get('recursive')), expand: isTrue(query.get('expand')) }
  const items: readonly TreeItem[] | undefined = treeItems(manifest, route.directory, options)
  if (items === undefined) {
    throw new ShoalError('file-not-found', `${route.directory} does not exist at this revision`, {
      commit: manifest.commit,
    })
  }
  if (page === undefined) return jsonAnswer(items, commitHeader(manifest))
  const end = page.start + page.limit
  const headers: Record<string, string> = { ...commitHeader(manifest) }
  if (end < items.length) {
    query.set('cursor', String(end))
    const path = call.rawPath.replace(/[<>]/g, encodeURIComponent)
    headers.Link = `<${call.baseUrl}${path}?${query}>; rel="next"`
  }
  return jsonAnswer(items.slice(page.start, end), headers)
}

/** The Hub's own answer; what we know ourselves when the Hub cannot be asked, else the Hub's failure. */
async function passOr(
  call: HubCall,
  path: string,
  deps: HubApiDeps,
  offline: () => Promise<unknown>,
): Promise<Answer> {
  try {
    return passedAnswer(await pass(call, path, deps), call.baseUrl)
  } catch (cause) {
    if (call.signal.aborted) throw cause
    try {
      return jsonAnswer(await offline())
    } catch (error) {
      throw hidesTheCause(error) ? cause : error
    }
  }
}

/** An access refusal is the better answer; not knowing the repo either is not. */
function hidesTheCause(error: unknown): boolean {
  return !(error instanceof ShoalError && (error.code === 'repo-gated' || error.code === 'unauthorized'))
}

async function pass(call: HubCall, path: string, deps: HubApiDeps): Promise<HubAnswer> {
  const query = call.rawQuery === '' ? '' : `?${call.rawQuery}`
  const answer = await deps.hub.pass(`${path}${query}`, { token: tokenOf(call), signal: call.signal })
  if (answer.status >= 500)
    throw new ShoalError('origin-unreachable', `the Hub answered ${answer.status}`, { status: answer.status })
  if (answer.status >= 300 && answer.status < 400)
    throw new ShoalError('origin-bad-answer', 'the Hub sent this request elsewhere')
  return answer
}

async function offlineRefs(call: HubCall, repo: Repo, catalog: Catalog): Promise<unknown> {
  await readableManifest(call, repo, parseRevision('main'), catalog)
  return knownRefs(await catalog.refs(repo), isTrue(new URLSearchParams(call.rawQuery).get('include_prs')))
}

function apiPath(repo: Repo, rest: string): string {
  return `/api/${kindPlural(repo.kind)}/${repo.id}/${rest}`
}

function tokenOf(call: HubCall): string | undefined {
  return call.caller.kind === 'client' ? call.caller.token : undefined
}
