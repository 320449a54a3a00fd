// PURE. The Hub's JSON into values of ours: repo info and tree pages. A stranger wrote it: sizes, names, digests and depth
// are checked, and what makes no sense refuses the whole answer, because half a tree would be taken for the truth.
import { ShoalError } from '@shoal/protocol/errors.ts'
import { isCommit, isFilePath, parseBlobId } from '@shoal/protocol/ids.ts'
import {
  type Access,
  type FileEntry,
  MAX_FILE_BYTES,
  MAX_FILES,
  type Manifest,
} from '@shoal/protocol/manifest.ts'
import { z } from 'zod'
import type { HubRevision, HubTree } from './hub.ts'

const MAX_DEPTH = 32

/** UTF-8 JSON. @throws ShoalError `origin-bad-answer` */
export function parseHubJson(bytes: Uint8Array, host: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    throw bad(host, 'the answer is not JSON', error)
  }
}

/**
 * Repo info as the `revision` route gives it. `anonymous`: it was asked without a token, so whoever may see it is everyone.
 * @throws ShoalError `origin-bad-answer`
 */
export function parseRevision(value: unknown, host: string, anonymous: boolean): HubRevision {
  if (!isObject(value)) throw bad(host, 'the repo info is not an object')
  const { sha, private: isPrivate, gated } = value
  if (typeof sha !== 'string' || !isCommit(sha)) throw bad(host, 'the repo info has no commit')
  const info = passable(value, host, 1)
  delete info.siblings
  return { commit: sha, access: accessOf(isPrivate, gated, anonymous), info }
}

function accessOf(isPrivate: unknown, gated: unknown, anonymous: boolean): Access {
  if (isPrivate === true) return 'private'
  if (gated !== undefined && gated !== null && gated !== false) return 'gated'
  // An origin that does not say, asked with a token: better too strict than to show it to others.
  return isPrivate === false || anonymous ? 'public' : 'private'
}

/** A copy less what would make a client look for Xet storage or hurt a reader of ours. */
function passable(value: Record<string, unknown>, host: string, depth: number): Record<string, unknown> {
  const copy: Record<string, unknown> = {}
  for (const [key, inner] of Object.entries(value)) {
    if (key === '__proto__' || /^xet/i.test(key)) continue
    copy[key] = passableValue(inner, host, depth + 1)
  }
  return copy
}

function passableValue(value: unknown, host: string, depth: number): unknown {
  if (depth > MAX_DEPTH) throw bad(host, `the repo info is nested deeper than ${MAX_DEPTH} levels`)
  if (Array.isArray(value)) return value.map((inner) => passableValue(inner, host, depth + 1))
  return isObject(value) ? passable(value, host, depth) : value
}

const oid = z.string().regex(/^[0-9a-f]{40}$/)
const size = z.int().min(0)
const treeEntrySchema = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('file'),
    path: z.string(),
    oid,
    size,
    lfs: z
      .object({
        oid: z.string().regex(/^[0-9a-f]{64}$/),
        size,
        pointerSize: z.int().min(1).max(1024).optional(),
      })
      .nullish(),
    // Only a help in checking links: what is none is as good as none.
    xetHash: z
      .string()
      .regex(/^[0-9a-f]{64}$/)
      .optional()
      .catch(undefined),
  }),
  z.object({ type: z.literal('directory'), path: z.string(), oid }),
  // A submodule: nothing of it can be downloaded.
  z.object({ type: z.literal('unknown'), path: z.string() }),
])

/** Gathers the pages of one tree. */
export class TreeReader {
  readonly #host: string
  readonly #files = new Map<string, FileEntry>()
  readonly #directories = new Map<string, Manifest['directories'][number]>()

  constructor(host: string) {
    this.#host = host
  }

  /** @throws ShoalError `origin-bad-answer` naming the first thing wrong | `too-large` */
  add(page: unknown): void {
    if (!Array.isArray(page)) throw bad(this.#host, 'a page of the tree is not a list')
    for (const raw of page) {
      if (this.#files.size + this.#directories.size >= 2 * MAX_FILES || this.#files.size >= MAX_FILES)
        throw new ShoalError('too-large', `the repo has more than ${MAX_FILES} files`, { host: this.#host })
      this.#addEntry(raw)
    }
  }

  /** The whole tree, in the Hub's order. @throws ShoalError `origin-bad-answer` when a file is also a directory */
  finish(): HubTree {
    for (const path of this.#files.keys()) {
      for (let slash = path.indexOf('/'); slash !== -1; slash = path.indexOf('/', slash + 1)) {
        const parent = path.slice(0, slash)
        if (this.#files.has(parent))
          throw bad(this.#host, `the tree has ${show(parent)} as a file and as a directory`)
      }
    }
    return { files: [...this.#files.values()], directories: [...this.#directories.values()] }
  }

  #addEntry(raw: unknown): void {
    const parsed = treeEntrySchema.safeParse(raw)
    if (!parsed.success) {
      const issue = parsed.error.issues[0]
      const path = isObject(raw) && typeof raw.path === 'string' ? show(raw.path) : 'an entry'
      throw bad(
        this.#host,
        `the tree's ${path} is not valid: ${issue?.path.join('.') ?? ''} ${issue?.message ?? ''}`,
      )
    }
    const entry = parsed.data
    if (entry.type === 'unknown') return
    const { path } = entry
    if (!isFilePath(path)) throw bad(this.#host, `the tree has a path that is refused: ${show(path)}`)
    if (this.#files.has(path) || this.#directories.has(path))
      throw bad(this.#host, `the tree has ${show(path)} twice`)
    if (entry.type === 'directory') {
      this.#directories.set(path, { path, oid: entry.oid })
      return
    }
    const { lfs } = entry
    if (lfs && lfs.size !== entry.size) throw bad(this.#host, `the tree gives two sizes of ${show(path)}`)
    if (entry.size > MAX_FILE_BYTES) throw new ShoalError('too-large', `${show(path)} is larger than 5 TiB`)
    this.#files.set(path, {
      path,
      sizeBytes: entry.size,
      blob: parseBlobId(lfs ? `sha256:${lfs.oid}` : `git-sha1:${entry.oid}`),
      oid: entry.oid,
      ...(lfs ? { pointerBytes: lfs.pointerSize ?? standardPointerBytes(entry.size) } : {}),
      ...(lfs && entry.xetHash !== undefined ? { xetHash: entry.xetHash } : {}),
    })
  }
}

/** Length of the standard three-line pointer: 125 plus the digits of the size. */
function standardPointerBytes(sizeBytes: number): number {
  return 125 + String(sizeBytes).length
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function show(path: string): string {
  return JSON.stringify(path.length > 80 ? `${path.slice(0, 80)}…` : path)
}

function bad(host: string, why: string, cause?: unknown): ShoalError {
  return new ShoalError('origin-bad-answer', `${host}: ${why}`, { host }, cause)
}
