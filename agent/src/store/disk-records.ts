// Manifests, refs and access as JSON files, a folder a repo, each written whole and carrying its own checksum. A damaged file is
// a miss, reported. Folder names are digests of the repo's key; the names are inside. No start-up work, whatever is there.
import { readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { messageOf } from '@shoal/protocol/errors.ts'
import {
  type Commit,
  isCommit,
  parseRevision,
  type Repo,
  type Revision,
  repoKey,
} from '@shoal/protocol/ids.ts'
import type { Access, Manifest } from '@shoal/protocol/manifest.ts'
import { z } from 'zod'
import { sha256 } from '../hashing.ts'
import { createKeyedQueue } from './keyed-queue.ts'
import type { Records, RefRecord } from './records.ts'
import {
  ensureDirectory,
  errnoOf,
  readSmallFile,
  type StoreLog,
  storeError,
  writeWhole,
} from './store-files.ts'
import { WeightedCache } from './weighted-cache.ts'

const RECORD_FORMAT = 1
/** A manifest of 100,000 files is about 22 MB. */
const MAX_RECORD_BYTES = 256 * 1024 * 1024
/** JSON text whose parsed form may stay in memory, unless told otherwise. */
const CACHE_BYTES = 32 * 1024 * 1024
/** Most refs remembered of a repo; the ones resolved longest ago go first. */
const MAX_REFS = 10_000

const refsSchema = z.array(
  z.strictObject({
    revision: z.string().transform((text) => parseRevision(text)),
    commit: z.custom<Commit>((value) => typeof value === 'string' && isCommit(value)),
    resolvedAt: z.number().min(0),
    from: z.enum(['origin', 'peer']),
  }),
)
const accessSchema = z.strictObject({ access: z.enum(['public', 'gated', 'private']) })
const headerSchema = z.strictObject({ format: z.int(), sha256: z.string() })

export interface DiskRecordsOptions {
  readonly path: string
  /** Directory for files being written. The store creates and empties it. */
  readonly temp: string
  readonly cacheBytes?: number
  readonly log?: StoreLog
}

/** The records, and how many files were found damaged since the start. */
export interface DiskRecords extends Records {
  readonly damaged: number
}

export function createDiskRecords(options: DiskRecordsOptions): DiskRecords {
  const { path: root, temp, cacheBytes = CACHE_BYTES, log = () => {} } = options
  const manifests = new WeightedCache<Manifest>(cacheBytes)
  const writes = createKeyedQueue<string>()
  let damaged = 0

  const folderOf = (repo: Repo) => join(root, Buffer.from(sha256(repoKey(repo))).toString('hex'))
  const manifestFolder = (folder: string) => join(folder, 'manifests')
  const manifestFile = (folder: string, commit: Commit) => join(manifestFolder(folder), `${commit}.json`)

  /** The JSON text of a record; undefined when absent or damaged. */
  async function readText(path: string): Promise<Buffer | undefined> {
    try {
      const bytes = await readSmallFile(path, MAX_RECORD_BYTES)
      return bytes === undefined ? undefined : openRecord(bytes)
    } catch (error) {
      return reportDamage(path, error)
    }
  }

  function reportDamage(path: string, error: unknown): undefined {
    damaged++
    log('warn', 'record damaged', { path, reason: messageOf(error) })
    return undefined
  }

  async function write(path: string, folder: string, value: unknown): Promise<number> {
    const text = JSON.stringify(value)
    await ensureDirectory(folder).catch((error: unknown) => {
      throw storeError(`create ${folder}`, error)
    })
    await writeWhole(path, sealRecord(text), temp)
    return text.length
  }

  async function readManifest(path: string): Promise<Manifest | undefined> {
    const kept = manifests.get(path)
    if (kept !== undefined) return kept
    const text = await readText(path)
    if (text === undefined) return undefined
    try {
      const manifest = manifestOf(text)
      manifests.set(path, manifest, text.byteLength)
      return manifest
    } catch (error) {
      return reportDamage(path, error)
    }
  }

  async function readRefs(folder: string): Promise<Map<Revision, RefRecord>> {
    const path = join(folder, 'refs.json')
    const text = await readText(path)
    const refs = new Map<Revision, RefRecord>()
    if (text === undefined) return refs
    try {
      for (const { revision, ...record } of refsSchema.parse(JSON.parse(text.toString())))
        refs.set(revision, record)
    } catch (error) {
      reportDamage(path, error)
    }
    return refs
  }

  return {
    name: 'records',
    get damaged() {
      return damaged
    },
    async start() {
      await ensureDirectory(root)
    },
    async stop() {
      await writes.idle()
      manifests.clear()
    },
    async putManifest(manifest) {
      const folder = folderOf(manifest.repo)
      const path = manifestFile(folder, manifest.commit)
      await writes.run(folder, async () => {
        const length = await write(path, manifestFolder(folder), manifest)
        manifests.set(path, manifest, length)
      })
    },
    manifest: (repo, commit) => readManifest(manifestFile(folderOf(repo), commit)),
    async *manifests() {
      for (const name of await namesIn(root)) {
        const folder = manifestFolder(join(root, name))
        for (const file of await namesIn(folder)) {
          const commit = file.endsWith('.json') ? file.slice(0, -'.json'.length) : ''
          const manifest = isCommit(commit) ? await readManifest(join(folder, file)) : undefined
          if (manifest !== undefined) yield manifest
        }
      }
    },
    async putRef(repo, revision, record) {
      const folder = folderOf(repo)
      await writes.run(folder, async () => {
        const refs = await readRefs(folder)
        refs.delete(revision)
        refs.set(revision, record)
        const kept = [...refs].slice(-MAX_REFS).map(([name, rest]) => ({ revision: name, ...rest }))
        await write(join(folder, 'refs.json'), folder, kept)
      })
    },
    refs: (repo) => readRefs(folderOf(repo)),
    async putAccess(repo, access) {
      const folder = folderOf(repo)
      await writes.run(folder, async () => {
        await write(join(folder, 'access.json'), folder, { access })
      })
    },
    async access(repo): Promise<Access | undefined> {
      const path = join(folderOf(repo), 'access.json')
      const text = await readText(path)
      if (text === undefined) return undefined
      try {
        return accessSchema.parse(JSON.parse(text.toString())).access
      } catch (error) {
        return reportDamage(path, error)
      }
    },
    async forget(repo) {
      const folder = folderOf(repo)
      await writes.run(folder, async () => {
        for (const file of await namesIn(manifestFolder(folder)))
          manifests.delete(join(manifestFolder(folder), file))
        await removeFolder(folder, temp)
      })
    },
  }
}

/**
 * The checksum says that this is, bit for bit, what `putManifest` was given, and its format is ours; checking 100,000 files
 * against the schema again would stop everything else for half a second.
 */
function manifestOf(text: Buffer): Manifest {
  const value: Manifest = JSON.parse(text.toString())
  return value
}

/** A line with the format and the checksum of the rest, then the JSON text. */
function sealRecord(text: string): string {
  const header = { format: RECORD_FORMAT, sha256: Buffer.from(sha256(text)).toString('hex') }
  return `${JSON.stringify(header)}\n${text}`
}

/** @throws Error when anything about it is not right */
function openRecord(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0x0a)
  if (end < 0 || end > 256) throw new Error('no header line')
  const header = headerSchema.parse(JSON.parse(bytes.toString('utf8', 0, end)))
  if (header.format !== RECORD_FORMAT) throw new Error(`format ${header.format} is not known`)
  const text = bytes.subarray(end + 1)
  if (Buffer.from(sha256(text)).toString('hex') !== header.sha256) throw new Error('wrong checksum')
  return text
}

async function namesIn(path: string): Promise<string[]> {
  try {
    return await readdir(path)
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '')) return []
    throw storeError(`read ${path}`, error)
  }
}

/** Gone in one step, then deleted: a crash in between leaves nothing that would be read. */
async function removeFolder(folder: string, temp: string): Promise<void> {
  const away = join(temp, crypto.randomUUID())
  try {
    await rename(folder, away)
    await rm(away, { recursive: true, force: true })
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw storeError(`remove ${folder}`, error)
  }
}
