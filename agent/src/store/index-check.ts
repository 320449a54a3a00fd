// Says whether the files of a closed LevelDB are as LevelDB left them, before it is let near them: it ends the process over some
// damage, and does not start over other. Reads only; what to do about damage is index-db.ts's to decide. Logs (`*.log`) are left to
// LevelDB, which checks their records by itself.
import { join } from 'node:path'
import { hasCode } from '@shoal/protocol/errors.ts'
import { corrupt, cursorOver, maskedCrc32c } from './level-codec.ts'
import { readSmallFile } from './store-files.ts'
import { checkTable } from './table-check.ts'

/** LevelDB's tables are 2 MiB here, and 4 MiB and one write when first written. Only one file is in memory at a time. */
const MAX_FILE_BYTES = 64 * 1024 * 1024
const MAX_CURRENT_BYTES = 64
const CURRENT_TEXT = /^(MANIFEST-\d{6,20})\n$/

/** Records of a MANIFEST (db/log_format.h): CRC (4), length (2), type (1); none crosses the end of a block. */
const LOG_BLOCK_BYTES = 32 * 1024
const RECORD_HEAD_BYTES = 7
const CRC_BYTES = 4
const WHOLE = 1
const FIRST = 2
const MIDDLE = 3
const LAST = 4

/** Fields of a version edit (db/version_edit.cc). */
const COMPARATOR = 1
/** Number of the log, next file number, last sequence, number of the log before. */
const PLAIN_NUMBERS: ReadonlySet<number> = new Set([2, 3, 4, 9])
const COMPACT_POINTER = 5
const DELETED_TABLE = 6
const NEW_TABLE = 7
const LEVELS = 7
/** Sequence and kind at the end of every key: LevelDB aborts on a key without them. */
const KEY_SUFFIX_BYTES = 8

/**
 * What is damaged, as a sentence; undefined when nothing is, or when there is no database yet. Tables that the MANIFEST does not
 * name are not looked at: a crash leaves half-written ones, and LevelDB removes them.
 * @throws ShoalError `store-failed` when the files may not be read at all
 */
export async function indexDamage(path: string): Promise<string | undefined> {
  try {
    const current = await readSmallFile(join(path, 'CURRENT'), MAX_CURRENT_BYTES)
    if (current === undefined) return undefined
    const name = CURRENT_TEXT.exec(current.toString('latin1'))?.[1]
    if (name === undefined) return 'CURRENT does not name a MANIFEST'
    const tables = await checked(path, name, liveTables)
    for (const [number, sizeBytes] of tables)
      await checked(path, `${String(number).padStart(6, '0')}.ldb`, (table) => {
        if (table.byteLength !== sizeBytes) throw corrupt(`${table.byteLength} bytes instead of ${sizeBytes}`)
        checkTable(table)
      })
    return undefined
  } catch (error) {
    if (hasCode(error, 'store-corrupt')) return error.message
    throw error
  }
}

async function checked<T>(path: string, name: string, check: (bytes: Uint8Array) => T): Promise<T> {
  const bytes = await readSmallFile(join(path, name), MAX_FILE_BYTES)
  if (bytes === undefined) throw corrupt(`${name} is gone`)
  try {
    return check(bytes)
  } catch (error) {
    if (hasCode(error, 'store-corrupt')) throw corrupt(`${name}: ${error.message}`)
    throw error
  }
}

/** Numbers and sizes in bytes of the tables that a MANIFEST names. @throws ShoalError `store-corrupt` */
export function liveTables(manifest: Uint8Array): ReadonlyMap<number, number> {
  const live = new Map<number, number>()
  for (const record of recordsOf(manifest)) {
    const { added, deleted } = readEdit(record)
    // This order: a table that moves to another level is both.
    for (const number of deleted) live.delete(number)
    for (const [number, sizeBytes] of added) live.set(number, sizeBytes)
  }
  return live
}

/**
 * Its records. A record cut at the end is none: a crash leaves that. Zeros within are damage, though LevelDB jumps over them: an edit
 * that is left out can leave tables that overlap, and then it aborts.
 */
function recordsOf(manifest: Uint8Array): Uint8Array[] {
  const records: Uint8Array[] = []
  let parts: Uint8Array[] = []
  for (let at = 0; ; ) {
    const blockEnd = at - (at % LOG_BLOCK_BYTES) + LOG_BLOCK_BYTES
    if (blockEnd - at < RECORD_HEAD_BYTES) {
      at = blockEnd
      continue
    }
    if (manifest.byteLength - at < RECORD_HEAD_BYTES) return records
    const head = cursorOver(manifest.subarray(at, at + RECORD_HEAD_BYTES))
    const crc = head.littleEndian(CRC_BYTES)
    const end = at + RECORD_HEAD_BYTES + head.littleEndian(2)
    const type = head.littleEndian(1)
    if (end > manifest.byteLength || manifest.subarray(at).every((byte) => byte === 0)) return records
    if (end > blockEnd || maskedCrc32c(manifest.subarray(at + CRC_BYTES + 2, end)) !== crc)
      throw corrupt(`the record at ${at} is damaged`)
    if (type !== (parts.length === 0 ? FIRST : MIDDLE) && type !== (parts.length === 0 ? WHOLE : LAST))
      throw corrupt(`the record at ${at} is out of place`)
    parts.push(manifest.subarray(at + RECORD_HEAD_BYTES, end))
    if (type === WHOLE || type === LAST) {
      records.push(Buffer.concat(parts))
      parts = []
    }
    at = end
  }
}

interface VersionEdit {
  readonly added: readonly (readonly [number: number, sizeBytes: number])[]
  readonly deleted: readonly number[]
}

function readEdit(record: Uint8Array): VersionEdit {
  const added: (readonly [number, number])[] = []
  const deleted: number[] = []
  const fields = cursorOver(record)
  const level = () => {
    if (fields.varint() >= LEVELS) throw corrupt('a table of no level')
  }
  const key = () => {
    if (fields.prefixed().byteLength < KEY_SUFFIX_BYTES) throw corrupt('a key is too short')
  }
  while (fields.left > 0) {
    const field = fields.varint()
    if (field === COMPARATOR) fields.prefixed()
    else if (PLAIN_NUMBERS.has(field)) fields.varint()
    else if (field === COMPACT_POINTER) {
      level()
      key()
    } else if (field === DELETED_TABLE) {
      level()
      deleted.push(fields.varint())
    } else if (field === NEW_TABLE) {
      level()
      added.push([fields.varint(), fields.varint()])
      key()
      key()
    } else throw corrupt(`an unknown field ${field}`)
  }
  return { added, deleted }
}
