// The Hub's metadata routes: repo info, tree with pages, paths-info, refs, commits, whoami. From state to answers; no sockets.
import { createHash } from 'node:crypto'
import { type Answer, badRequest, entryNotFound, jsonAnswer, noToken } from './answer.ts'
import { type Commit, type HubFile, type HubRepo, history, type User } from './repos.ts'
import { encodePath, type Route } from './route.ts'

export interface Paging {
  /** Entries of one page of `tree`, where the request names no smaller limit. */
  readonly treePage: number
  readonly commitsPage: number
  /** Base of absolute links. */
  readonly origin: string
}

/** `siblings` as `?blobs=true` gives them are sent only when asked for. Everything `expand` could ask for is always there. */
export function infoAnswer(repo: HubRepo, commit: Commit, route: Route): Answer {
  const blobs = isTrue(route.query.get('blobs'))
  const size = [...commit.files.values()].reduce((sum, file) => sum + file.sizeBytes, 0)
  return jsonAnswer(200, {
    _id: createHash('sha1').update(repo.id).digest('hex').slice(0, 24),
    id: repo.id,
    ...(repo.kind === 'model' ? { modelId: repo.id } : {}),
    author: repo.id.includes('/') ? repo.id.split('/')[0] : undefined,
    sha: commit.sha,
    lastModified: commit.date,
    createdAt: history(commit).at(-1)?.date,
    private: repo.private,
    gated: repo.gated,
    disabled: repo.disabled,
    downloads: 0,
    likes: 0,
    tags: [],
    usedStorage: size,
    siblings: [...commit.files].map(([path, file]) => ({
      rfilename: path,
      ...(blobs ? blobFacts(file) : {}),
    })),
    ...(isTrue(route.query.get('securityStatus'))
      ? { securityRepoStatus: { scansDone: true, filesWithIssues: [] } }
      : {}),
    ...repo.info,
  })
}

function blobFacts(file: HubFile): Record<string, unknown> {
  const lfs = file.lfs
  return {
    size: file.sizeBytes,
    blobId: file.gitOid,
    ...(lfs === undefined
      ? {}
      : { lfs: { sha256: lfs.sha256, size: file.sizeBytes, pointerSize: lfs.pointer.length } }),
  }
}

export function treeAnswer(commit: Commit, route: Route, paging: Paging): Answer {
  const recursive = isTrue(route.query.get('recursive'))
  const expand = isTrue(route.query.get('expand'))
  const prefix = route.path === '' ? '' : `${route.path}/`
  const entries = treeEntries(commit, prefix, recursive)
  if (entries.length === 0 && prefix !== '') return entryNotFound(commit.sha)
  const limit = Math.min(
    Number(route.query.get('limit') ?? paging.treePage) || paging.treePage,
    paging.treePage,
  )
  const cursor = route.query.get('cursor')
  const start = cursor === null ? 0 : Number(Buffer.from(cursor, 'base64url').toString())
  if (!Number.isSafeInteger(start) || start < 0) return badRequest('Invalid cursor')
  const next = new URLSearchParams(route.query)
  next.set('limit', String(limit))
  next.set('cursor', Buffer.from(String(start + limit)).toString('base64url'))
  return jsonAnswer(
    200,
    entries.slice(start, start + limit).map((path) => entryJson(commit, path, expand)),
    start + limit < entries.length ? linkTo(route, next, paging) : {},
  )
}

/** Paths below `prefix`: directories end in a slash. */
function treeEntries(commit: Commit, prefix: string, recursive: boolean): readonly string[] {
  const found = new Set<string>()
  for (const path of [...commit.files.keys()].sort()) {
    if (!path.startsWith(prefix)) continue
    const parts = path.slice(prefix.length).split('/')
    const depth = recursive ? parts.length : 1
    for (let count = 1; count < parts.length && count <= depth; count += 1)
      found.add(`${prefix}${parts.slice(0, count).join('/')}/`)
    if (parts.length <= depth) found.add(path)
  }
  return [...found]
}

function entryJson(commit: Commit, path: string, expand: boolean): Record<string, unknown> {
  if (path.endsWith('/')) {
    const name = path.slice(0, -1)
    const oid = createHash('sha1').update(`tree ${name} ${commit.sha}`).digest('hex')
    return {
      type: 'directory',
      oid,
      size: 0,
      path: name,
      ...(expand ? { lastCommit: commitJson(commit) } : {}),
    }
  }
  const file = commit.files.get(path)
  if (file === undefined) throw new Error(`no file ${path} in ${commit.sha}`)
  const lfs = file.lfs
  return {
    type: 'file',
    oid: file.gitOid,
    size: file.sizeBytes,
    path,
    ...(lfs === undefined
      ? {}
      : { lfs: { oid: lfs.sha256, size: file.sizeBytes, pointerSize: lfs.pointer.length } }),
    ...(lfs?.xetHash === undefined ? {} : { xetHash: lfs.xetHash }),
    ...(expand
      ? {
          lastCommit: commitJson(commit.lastChange.get(path) ?? commit),
          securityFileStatus: { status: 'safe', avScan: null, pickleImportScan: null },
        }
      : {}),
  }
}

function commitJson(commit: Commit): Record<string, unknown> {
  return { id: commit.sha, title: commit.title, date: commit.date }
}

/** `paths` and `expand` from either form of the body. */
export function pathsInfoAnswer(commit: Commit, body: Uint8Array, contentType: string): Answer {
  const wanted = parsePathsBody(Buffer.from(body).toString(), contentType)
  if (wanted === undefined) return badRequest('Invalid body')
  const directories = new Set(treeEntries(commit, '', true).filter((path) => path.endsWith('/')))
  const entries = wanted.paths.flatMap((path) => {
    if (commit.files.has(path)) return [path]
    return directories.has(`${path}/`) ? [`${path}/`] : []
  })
  return jsonAnswer(
    200,
    entries.map((path) => entryJson(commit, path, wanted.expand)),
  )
}

function parsePathsBody(text: string, contentType: string): { paths: string[]; expand: boolean } | undefined {
  if (!contentType.includes('json')) {
    const form = new URLSearchParams(text)
    return { paths: form.getAll('paths'), expand: isTrue(form.get('expand')) }
  }
  try {
    const json: unknown = JSON.parse(text)
    if (typeof json !== 'object' || json === null || !('paths' in json) || !Array.isArray(json.paths))
      return undefined
    return { paths: json.paths.map(String), expand: 'expand' in json && json.expand === true }
  } catch {
    return undefined
  }
}

export function refsAnswer(repo: HubRepo, route: Route): Answer {
  const refs = [...repo.refs].map(([ref, commit]) => ({ ref, targetCommit: commit.sha }))
  const named = (prefix: string, keep = '') =>
    refs
      .filter(({ ref }) => ref.startsWith(prefix))
      .map(({ ref, targetCommit }) => ({ name: keep + ref.slice(prefix.length), ref, targetCommit }))
  return jsonAnswer(200, {
    branches: named('refs/heads/'),
    converts: named('refs/convert/'),
    tags: named('refs/tags/'),
    ...(isTrue(route.query.get('include_prs')) ? { pullRequests: named('refs/pr/') } : {}),
  })
}

export function commitsAnswer(commit: Commit, route: Route, paging: Paging): Answer {
  const all = history(commit)
  const page = Number(route.query.get('p') ?? 0) || 0
  const limit = Math.min(Number(route.query.get('limit') ?? paging.commitsPage) || paging.commitsPage, 1000)
  const start = page * limit
  const next = new URLSearchParams(route.query)
  next.set('p', String(page + 1))
  return jsonAnswer(
    200,
    all.slice(start, start + limit).map((one) => ({
      id: one.sha,
      title: one.title,
      message: '',
      authors: [{ user: one.author, avatar: '' }],
      date: one.date,
    })),
    {
      'X-Total-Count': String(all.length),
      ...(start + limit < all.length ? linkTo(route, next, paging) : {}),
    },
  )
}

export function whoamiAnswer(user: User | undefined): Answer {
  if (user === undefined) return noToken()
  return jsonAnswer(200, {
    type: 'user',
    id: createHash('sha1').update(user.name).digest('hex').slice(0, 24),
    name: user.name,
    fullname: user.name,
    orgs: [],
    auth: {
      type: 'access_token',
      accessToken: { displayName: 'local', role: 'read', createdAt: '2025-01-01T00:00:00.000Z' },
    },
  })
}

function linkTo(route: Route, query: URLSearchParams, paging: Paging): Record<string, string> {
  const revision = encodeURIComponent(route.revision)
  const path = route.path === '' ? '' : `/${encodePath(route.path)}`
  return {
    Link: `<${paging.origin}/api/${route.repoKind}s/${route.id}/${route.kind}/${revision}${path}?${query}>; rel="next"`,
  }
}

/** Python sends `True` or `true`. */
export function isTrue(value: string | null): boolean {
  return value?.toLowerCase() === 'true' || value === '1'
}
