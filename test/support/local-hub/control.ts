// Lets other processes steer a local Hub over loopback HTTP: add repos, set faults, read counts, take servers down. Every
// call is POST /<name> with a JSON array of arguments and answers JSON. Trusts its caller: for tests only.
import type { IncomingMessage, ServerResponse } from 'node:http'
import { bytesContent, type Content, fileContent, seededContent, textContent } from './content.ts'
import type { Copies, FileCounts, SeenRequest, ServerName } from './counts.ts'
import type { Fault } from './faults.ts'
import type { FileName, LocalHub } from './hub.ts'
import type { Quotas } from './quota.ts'
import type { FileSource, RepoSpec, User } from './repos.ts'

/** A file's content as JSON. Text and base64 are kept in Git unless `lfs` says otherwise; the other two in LFS. */
export type FileJson = (
  | { readonly text: string }
  | { readonly base64: string }
  | { readonly seed: string | number; readonly sizeBytes: number }
  | { readonly file: string }
) & { readonly lfs?: boolean }

export interface RepoJson extends Omit<RepoSpec, 'files'> {
  readonly files: Readonly<Record<string, FileJson>>
}

export interface CommitJson {
  readonly files: Readonly<Record<string, FileJson | null>>
  readonly branch?: string
  readonly title?: string
}

export interface CountsJson {
  readonly bytes: number
  readonly bytesFrom: Readonly<Record<ServerName, number>>
  readonly tokenLeaks: number
  /** By kind of route. */
  readonly requests: Readonly<Record<string, number>>
}

/** What another process may ask; each name is a path. */
export interface HubControl {
  addRepo(spec: RepoJson): Promise<{ commit: string }>
  commit(repo: string, spec: CommitJson): Promise<{ commit: string }>
  moveBranch(repo: string, branch: string, sha: string): Promise<null>
  renameRepo(repo: string, newId: string): Promise<null>
  removeRepo(repo: string): Promise<null>
  changeRepo(
    repo: string,
    change: { gated?: 'auto' | 'manual' | false; private?: boolean; disabled?: boolean },
  ): Promise<null>
  addUser(user: User): Promise<null>
  removeUser(token: string): Promise<null>
  addFault(fault: Omit<Fault, 'onHit'>): Promise<{ id: number }>
  removeFault(id: number): Promise<null>
  clearFaults(): Promise<null>
  pause(...names: ServerName[]): Promise<null>
  resume(...names: ServerName[]): Promise<null>
  limitRate(bytesPerSecond: number | null): Promise<null>
  setQuotas(quotas: Partial<Quotas>): Promise<null>
  expireSignedUrls(): Promise<null>
  counts(): Promise<CountsJson>
  seen(): Promise<readonly SeenRequest[]>
  resetCounts(): Promise<null>
  copiesOf(name: FileName): Promise<Copies>
  countsOf(name: FileName): Promise<FileCounts>
  sizeBytes(repo: string, revision?: string): Promise<number>
  /** The file's id: SHA-256 when in LFS, else its Git blob id. */
  oidOf(name: FileName): Promise<string>
}

export function hubControl(hub: LocalHub): HubControl {
  const done = (work: () => unknown) => async () => {
    await work()
    return null
  }
  return {
    addRepo: async (spec) => {
      const repo = await hub.addRepo({ ...spec, files: await toSources(spec.files) })
      return { commit: repo.refs.get('refs/heads/main')?.sha ?? '' }
    },
    commit: async (repo, spec) => {
      const commit = await hub.commit(repo, { ...spec, files: await toSources(spec.files) })
      return { commit: commit.sha }
    },
    moveBranch: (...args) => done(() => hub.moveBranch(...args))(),
    renameRepo: (...args) => done(() => hub.renameRepo(...args))(),
    removeRepo: (...args) => done(() => hub.removeRepo(...args))(),
    changeRepo: (repo, change) => done(() => Object.assign(hub.repo(repo), change))(),
    addUser: (...args) => done(() => hub.addUser(...args))(),
    removeUser: (...args) => done(() => hub.removeUser(...args))(),
    addFault: async (fault) => ({ id: hub.addFault(fault).id }),
    removeFault: (...args) => done(() => hub.removeFault(...args))(),
    clearFaults: done(() => hub.clearFaults()),
    pause: (...names) => done(() => hub.pause(...names))(),
    resume: (...names) => done(() => hub.resume(...names))(),
    limitRate: (rate) => done(() => hub.limitRate(rate ?? undefined))(),
    setQuotas: (...args) => done(() => hub.setQuotas(...args))(),
    expireSignedUrls: done(() => hub.expireSignedUrls()),
    counts: async () => countsJson(hub),
    seen: async () => hub.counts.seen,
    resetCounts: done(() => hub.counts.reset()),
    copiesOf: async (name) => hub.copiesOf(name),
    countsOf: async (name) => hub.countsOf(name),
    sizeBytes: async (...args) => hub.sizeBytes(...args),
    oidOf: async (name) => hub.oidOf(name),
  }
}

function countsJson({ counts }: LocalHub): CountsJson {
  const requests: Record<string, number> = {}
  for (const { kind } of counts.seen) requests[kind] = (requests[kind] ?? 0) + 1
  return {
    bytes: counts.bytes,
    bytesFrom: {
      hub: counts.bytesFrom('hub'),
      cdn: counts.bytesFrom('cdn'),
      mirror: counts.bytesFrom('mirror'),
    },
    tokenLeaks: counts.tokenLeaks,
    requests,
  }
}

/** Serves the control calls; put it behind a server of its own. */
export function controlHandler(control: HubControl) {
  const calls = control as unknown as Readonly<Record<string, (...args: unknown[]) => Promise<unknown>>>
  return async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const name = (request.url ?? '').slice(1)
    let status = 200
    let result: unknown
    try {
      const call = Object.hasOwn(calls, name) ? calls[name] : undefined
      if (call === undefined) throw new Error(`the local Hub has no control call ${name}`)
      const pieces: Buffer[] = []
      for await (const piece of request) pieces.push(piece as Buffer)
      const text = Buffer.concat(pieces).toString()
      result = await call(...((text === '' ? [] : JSON.parse(text)) as unknown[]))
    } catch (error) {
      status = 400
      result = { error: error instanceof Error ? error.message : String(error) }
    }
    response.writeHead(status, { 'Content-Type': 'application/json' })
    response.end(JSON.stringify(result))
  }
}

/** The same calls from another process. @param url the control URL that main.ts printed */
export function remoteControl(url: string): HubControl {
  const call =
    (name: string) =>
    async (...args: unknown[]) => {
      const answer = await fetch(`${url}/${name}`, { method: 'POST', body: JSON.stringify(args) })
      const result: unknown = await answer.json()
      if (!answer.ok) throw new Error(`local Hub, ${name}: ${JSON.stringify(result)}`)
      return result
    }
  return new Proxy({} as HubControl, {
    get: (_target, name) => (typeof name === 'string' && name !== 'then' ? call(name) : undefined),
  })
}

async function toSources<Gone extends FileJson | null>(files: Readonly<Record<string, Gone>>) {
  type Source = FileSource | (null extends Gone ? null : never)
  const sources: Record<string, Source> = {}
  for (const [path, json] of Object.entries(files))
    sources[path] = (json === null ? null : await toSource(json)) as Source
  return sources
}

async function toSource(json: FileJson): Promise<FileSource> {
  const content = await toContent(json)
  const lfs = json.lfs ?? !('text' in json || 'base64' in json)
  return lfs ? { lfs: content } : { git: content }
}

async function toContent(json: FileJson): Promise<Content> {
  if ('text' in json) return textContent(json.text)
  if ('base64' in json) return bytesContent(Buffer.from(json.base64, 'base64'))
  return 'seed' in json ? seededContent(json.seed, json.sizeBytes) : await fileContent(json.file)
}
