// The index on LevelDB, and with it the lock of the storage path: LevelDB's lock admits one process. LevelDB does not check
// what it reads, so its files are checked before it opens them, and every value carries its own checksum. Everything in here can
// be rebuilt; damage never stops a start.
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import { ClassicLevel } from 'classic-level'
import { sha256 } from '../hashing.ts'
import { indexDamage } from './index-check.ts'
import type { Index } from './index-port.ts'
import { DIRECTORY_MODE, errnoOf, type StoreLog, storeError } from './store-files.ts'

/** Version of what the values mean. A newer one is refused and left alone. */
export const INDEX_FORMAT = 1
const VALUE_VERSION = 1
const CHECKSUM_BYTES = 16
/** Our own row: the format, and proof that LevelDB still has the rows of its start. */
const FORMAT_KEY = '\u0000format'

/**
 * Indexes open in this process. LevelDB's lock is a POSIX one: closing any descriptor of its file gives it up for the whole
 * process, and a refused second attempt from within does just that. So that attempt is refused before it reaches LevelDB.
 */
const openHere = new Set<string>()

type Db = ClassicLevel<string, Uint8Array>

/** The index as its owners see it, and what happened to it. */
export interface IndexDb extends Index {
  /** Why this start began with an empty index; undefined when it did not. Owners refill it from disk. */
  readonly rebuilt: string | undefined
  /** Values found damaged since the start. */
  readonly damaged: number
}

export interface IndexDbOptions {
  readonly path: string
  readonly log?: StoreLog
}

/**
 * @throws from `start`: ShoalError `store-locked` when another process has it | `store-version` | `store-full` | `store-failed`
 */
export function createIndexDb({ path, log = () => {} }: IndexDbOptions): IndexDb {
  let db: Db | undefined
  let rebuilt: string | undefined
  let damaged = 0

  function opened(): Db {
    if (db === undefined) throw new ShoalError('not-running', 'the index is not open')
    return db
  }

  function read(key: string, row: Uint8Array): unknown {
    const value = decodeRow(key, row)
    if (value !== undefined) return value
    damaged++
    log('warn', 'index value damaged', { key })
    return undefined
  }

  async function openOrRebuild(): Promise<Db> {
    const found = await openDb(path)
    if (typeof found !== 'string') {
      rebuilt = found.isNew ? 'there was none' : undefined
      return found.db
    }
    rebuilt = found
    log('warn', 'index damaged, starting a new one', { reason: found })
    await setAside(path)
    const fresh = await openDb(path)
    if (typeof fresh !== 'string') return fresh.db
    throw new ShoalError('store-failed', `cannot create the index: ${fresh}`)
  }

  return {
    name: 'index',
    get rebuilt() {
      return rebuilt
    },
    get damaged() {
      return damaged
    },
    async start() {
      if (db !== undefined) return
      const place = resolve(path)
      if (openHere.has(place)) throw lockedError(path)
      openHere.add(place)
      try {
        db = await openOrRebuild()
      } catch (error) {
        openHere.delete(place)
        throw error
      }
    },
    async stop() {
      if (db === undefined) return
      const closing = db
      db = undefined
      await closing.close()
      openHere.delete(resolve(path))
    },
    async get(key) {
      const row = await attempt('read the index', () => opened().get(key))
      return row === undefined ? undefined : read(key, row)
    },
    put: (key, value) => attempt('write the index', () => opened().put(key, encodeRow(key, value))),
    delete: (key) => attempt('write the index', () => opened().del(key)),
    batch: (changes) =>
      attempt('write the index', () =>
        opened().batch(
          changes.map(({ key, value }) =>
            value === undefined
              ? ({ type: 'del', key } as const)
              : ({ type: 'put', key, value: encodeRow(key, value) } as const),
          ),
        ),
      ),
    async *entries(prefix) {
      // The highest code point follows every key with this prefix, none of which may contain it.
      const rows = opened().iterator({ gte: prefix, lt: `${prefix}\u{10ffff}` })
      try {
        for (;;) {
          const row = await attempt('read the index', () => rows.next())
          if (row === undefined) return
          const [key, bytes] = row
          if (key === FORMAT_KEY) continue
          const value = read(key, bytes)
          if (value !== undefined) yield [key, value] as const
        }
      } finally {
        await rows.close()
      }
    },
  }
}

async function attempt<T>(action: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw indexError(action, error)
  }
}

function indexError(action: string, error: unknown): ShoalError {
  if (error instanceof ShoalError) return error
  const { codes, text } = trail(error)
  if (codes.includes('LEVEL_IO_ERROR') && /no space|quota/i.test(text))
    return new ShoalError('store-full', `cannot ${action}: the disk is full`, {}, error)
  // It is also the code of every failed opening, which has a cause.
  if (codes.includes('LEVEL_DATABASE_NOT_OPEN') && !(error instanceof Error && error.cause instanceof Error))
    return new ShoalError('not-running', 'the index is closed', {}, error)
  return new ShoalError('store-failed', `cannot ${action}: ${text}`, {}, error)
}

function lockedError(path: string, cause?: unknown): ShoalError {
  return new ShoalError(
    'store-locked',
    `another Shoal agent is already using ${path}. Stop it first, or give this one a storage path of its own.`,
    {},
    cause,
  )
}

/** Codes and messages of an error and of what caused it: classic-level keeps the telling one in `cause`. */
function trail(error: unknown): { readonly codes: readonly string[]; readonly text: string } {
  const codes: string[] = []
  const messages: string[] = []
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    const code = errnoOf(at)
    if (code !== undefined) codes.push(code)
    messages.push(at.message)
  }
  return { codes, text: messages.join(': ') }
}

/** The open database, or the sentence that says why it has to be made anew. */
async function openDb(path: string): Promise<{ readonly db: Db; readonly isNew: boolean } | string> {
  await mkdir(path, { recursive: true, mode: DIRECTORY_MODE }).catch((error: unknown) => {
    throw storeError(`create ${path}`, error)
  })
  const hadTables = (await stat(join(path, 'CURRENT')).catch(() => undefined)) !== undefined
  const damage = await lastingDamage(path)
  if (damage !== undefined) return damage
  const db: Db = new ClassicLevel(path, { keyEncoding: 'utf8', valueEncoding: 'view' })
  try {
    await db.open()
  } catch (error) {
    const { codes, text } = trail(error)
    if (codes.includes('LEVEL_LOCKED')) throw lockedError(path, error)
    if (codes.includes('LEVEL_CORRUPTION')) return text
    // A missing CURRENT, MANIFEST or table is reported in several ways; all mean that tables are gone.
    if (hadTables && /no such file|not found|missing|does not exist|not a/i.test(text)) return text
    throw indexError('open the index', error)
  }
  try {
    return (await checkFormat(db, path, hadTables)) ?? { db, isNew: !hadTables }
  } catch (error) {
    await db.close().catch(() => {})
    throw error
  }
}

/** Looks twice: what another agent is writing can look damaged, until it has the lock no more. */
async function lastingDamage(path: string): Promise<string | undefined> {
  let damage: string | undefined
  for (let look = 0; look < 2; look++) {
    damage = await indexDamage(path)
    if (damage === undefined) return undefined
    await refuseIfLocked(path)
  }
  return damage
}

/** Asks LevelDB for its lock and for a refusal after that, so that it reads nothing. @throws ShoalError `store-locked` */
async function refuseIfLocked(path: string): Promise<void> {
  const probe = new ClassicLevel(path, { createIfMissing: false, errorIfExists: true })
  try {
    await probe.open()
  } catch (error) {
    if (trail(error).codes.includes('LEVEL_LOCKED')) throw lockedError(path, error)
    return
  }
  await probe.close()
}

async function checkFormat(db: Db, path: string, hadTables: boolean): Promise<string | undefined> {
  let format: unknown
  try {
    const row = await db.get(FORMAT_KEY)
    format = row === undefined ? undefined : decodeRow(FORMAT_KEY, row)
  } catch (error) {
    await db.close()
    return `its format cannot be read: ${messageOf(error)}`
  }
  if (typeof format === 'number' && format > INDEX_FORMAT) {
    throw new ShoalError(
      'store-version',
      `the index in ${path} has format ${format}, this version of Shoal knows up to ${INDEX_FORMAT}. Nothing was changed.`,
      { found: format, known: INDEX_FORMAT },
    )
  }
  if (format === INDEX_FORMAT) return undefined
  if (hadTables) {
    // A cut MANIFEST opens without an error and without some of its rows, the oldest first.
    await db.close()
    return 'its format record is gone'
  }
  await attempt('create the index', () =>
    db.put(FORMAT_KEY, encodeRow(FORMAT_KEY, INDEX_FORMAT), { sync: true }),
  )
  return undefined
}

/** Keeps one damaged index for whoever wants to look into it; the LOCK of the new one is taken afresh. */
async function setAside(path: string): Promise<void> {
  const aside = `${path}.damaged`
  try {
    await rm(aside, { recursive: true, force: true })
    await rename(path, aside)
  } catch (error) {
    // A mount point cannot be renamed: then it is emptied.
    if (!['EBUSY', 'EXDEV', 'EPERM'].includes(errnoOf(error) ?? ''))
      throw storeError('set the damaged index aside', error)
    for (const name of await readdir(path)) await rm(join(path, name), { recursive: true, force: true })
  }
}

/** A row: version (1), first 16 bytes of SHA-256 over key and text, then the JSON text. */
export function encodeRow(key: string, value: unknown): Uint8Array {
  const text = JSON.stringify(value)
  if (text === undefined) throw new Error(`not a JSON value for the index key ${key}`)
  return Buffer.concat([Buffer.from([VALUE_VERSION]), checksum(key, text), Buffer.from(text)])
}

/** undefined when damaged, of another key, or of a version that is not known. */
export function decodeRow(key: string, row: Uint8Array): unknown {
  const bytes = Buffer.from(row.buffer, row.byteOffset, row.byteLength)
  if (bytes[0] !== VALUE_VERSION) return undefined
  const text = bytes.toString('utf8', 1 + CHECKSUM_BYTES)
  const sum = bytes.subarray(1, 1 + CHECKSUM_BYTES)
  if (!sum.equals(checksum(key, bytes.subarray(1 + CHECKSUM_BYTES)))) return undefined
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function checksum(key: string, text: string | Uint8Array): Uint8Array {
  const head = Buffer.from(`${VALUE_VERSION}\u0000${key}\u0000`)
  return sha256(Buffer.concat([head, Buffer.from(text)])).subarray(0, CHECKSUM_BYTES)
}
