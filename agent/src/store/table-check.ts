// Says whether a table of LevelDB is what LevelDB wrote, by its own checksums. LevelDB reads tables without them, and ends the
// whole process when a damaged key looks impossible. Pure: bytes in, an error out. Does not look at the rows; they have their own.
import { corrupt, cursorOver, maskedCrc32c, unsnappy } from './level-codec.ts'

const FOOTER_BYTES = 48
/** The two handles of the footer with their padding; the magic number follows. */
const FOOTER_HANDLES_BYTES = 40
/** Compression (1), masked CRC-32C over contents and compression (4). */
const TRAILER_BYTES = 5
const MAGIC = Buffer.from('57fb808b247547db', 'hex')
const PLAIN = 0
const SNAPPY = 1
const UINT32_BYTES = 4

/** Where a block lies, without its trailer. */
interface BlockHandle {
  readonly offset: number
  readonly sizeBytes: number
}

/**
 * Every byte of the file has to be in a block, a trailer or the footer, and every checksum right: LevelDB's writer
 * (table/table_builder.cc of 1.20) leaves no gap. So a flipped bit is always found.
 * @throws ShoalError `store-corrupt` with what is wrong
 */
export function checkTable(table: Uint8Array): void {
  if (table.byteLength < FOOTER_BYTES) throw corrupt('shorter than its footer')
  const blocksEnd = table.byteLength - FOOTER_BYTES
  const footer = table.subarray(blocksEnd)
  if (!MAGIC.equals(footer.subarray(FOOTER_HANDLES_BYTES))) throw corrupt('not a table')
  const handles = cursorOver(footer.subarray(0, FOOTER_HANDLES_BYTES))
  const metaindex = readHandle(handles)
  const index = readHandle(handles)
  if (handles.take(handles.left).some((byte) => byte !== 0))
    throw corrupt('its footer is not padded with zeros')

  const blocks = [
    ...handlesIn(contentsOf(table, index, blocksEnd)),
    ...handlesIn(contentsOf(table, metaindex, blocksEnd)),
  ]
  let reached = 0
  for (const { offset, sizeBytes } of [...blocks, metaindex, index].toSorted((a, b) => a.offset - b.offset)) {
    if (offset !== reached)
      throw corrupt(`bytes from ${Math.min(offset, reached)} are in no block, or in two`)
    reached = offset + sizeBytes + TRAILER_BYTES
  }
  if (reached !== blocksEnd) throw corrupt(`bytes from ${reached} are in no block`)
  for (const block of blocks) checkedBlock(table, block, blocksEnd)
}

function readHandle(from: ReturnType<typeof cursorOver>): BlockHandle {
  return { offset: from.varint(), sizeBytes: from.varint() }
}

/** Contents and compression of a block, when the checksum is right. */
function checkedBlock(table: Uint8Array, { offset, sizeBytes }: BlockHandle, blocksEnd: number): Uint8Array {
  const crcAt = offset + sizeBytes + 1
  if (crcAt + UINT32_BYTES > blocksEnd) throw corrupt(`a block at ${offset} would end behind the blocks`)
  const block = table.subarray(offset, crcAt)
  const expected = cursorOver(table.subarray(crcAt, crcAt + UINT32_BYTES)).littleEndian(UINT32_BYTES)
  if (maskedCrc32c(block) !== expected) throw corrupt(`the checksum of the block at ${offset} is wrong`)
  return block
}

function contentsOf(table: Uint8Array, handle: BlockHandle, blocksEnd: number): Uint8Array {
  const block = checkedBlock(table, handle, blocksEnd)
  const contents = block.subarray(0, -1)
  const compression = block.at(-1)
  if (compression === PLAIN) return contents
  if (compression === SNAPPY) return unsnappy(contents)
  throw corrupt(`the block at ${handle.offset} has an unknown compression`)
}

/**
 * The handles that are the values of an index block. Entries: bytes of the key shared with the one before, bytes not shared,
 * bytes of the value, then both; at the end the places where nothing is shared (4 each), and how many (4).
 */
function handlesIn(contents: Uint8Array): BlockHandle[] {
  const countAt = contents.byteLength - UINT32_BYTES
  if (countAt < 0) throw corrupt('an index block is empty')
  const restarts = cursorOver(contents.subarray(countAt)).littleEndian(UINT32_BYTES)
  const entriesEnd = countAt - restarts * UINT32_BYTES
  if (restarts === 0 || entriesEnd < 0) throw corrupt('an index block has the wrong number of restarts')
  const entries = cursorOver(contents.subarray(0, entriesEnd))
  const found: BlockHandle[] = []
  while (entries.left > 0) {
    entries.varint()
    const ownKeyBytes = entries.varint()
    const valueBytes = entries.varint()
    entries.take(ownKeyBytes)
    const value = cursorOver(entries.take(valueBytes))
    found.push(readHandle(value))
    if (value.left > 0) throw corrupt('a block handle is too long')
  }
  return found
}
