import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, rename, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { indexDamage, liveTables } from '@shoal/agent/store/index-check.ts'
import { crc32c, cursorOver, maskedCrc32c, unsnappy } from '@shoal/agent/store/level-codec.ts'
import { checkTable } from '@shoal/agent/store/table-check.ts'
import { hasCode } from '@shoal/protocol/errors.ts'
import { seededRandom } from '@shoal/protocol/time.ts'
import { ClassicLevel } from 'classic-level'
import fc from 'fast-check'
import { tempFolder } from '../support/temp-folder.ts'

const seed = Number(process.env.SEED ?? Math.floor(performance.timeOrigin) % 2 ** 31)
console.log(`SEED=${seed}`)

interface Shape {
  readonly rows: number
  readonly valueBytes: number
  readonly compression: boolean
}

const FOOTER_BYTES = 48
const SMALL: Shape = { rows: 12, valueBytes: 30, compression: true }
/** Many blocks, and an index block that is worth compressing. */
const LARGE: Shape = { rows: 3000, valueBytes: 60, compression: true }
const PLAIN: Shape = { rows: 300, valueBytes: 100, compression: false }

/** A closed LevelDB with one table, made by LevelDB. */
async function levelWithTable(context: TestContext, shape: Shape): Promise<string> {
  const path = join(await tempFolder(context), 'level')
  const random = seededRandom(1)
  const db = new ClassicLevel<string, string>(path, { compression: shape.compression })
  const rows = Array.from({ length: shape.rows }, (_, row) => ({
    type: 'put' as const,
    key: `a/row/of/the/index/${String(row).padStart(6, '0')}`,
    value: Array.from({ length: shape.valueBytes }, () => Math.floor(random.next() * 36).toString(36)).join(
      '',
    ),
  }))
  await db.batch(rows)
  await db.compactRange('', '~')
  await db.close()
  return path
}

async function onlyTable(path: string): Promise<string> {
  const tables = (await readdir(path)).filter((name) => name.endsWith('.ldb'))
  assert.equal(tables.length, 1)
  return join(path, tables[0] ?? '')
}

async function tableOf(context: TestContext, shape: Shape): Promise<Uint8Array> {
  return readFile(await onlyTable(await levelWithTable(context, shape)))
}

async function manifestOf(path: string): Promise<Buffer> {
  const name = (await readFile(join(path, 'CURRENT'), 'utf8')).trim()
  return readFile(join(path, name))
}

function isDamaged(check: () => unknown): boolean {
  try {
    check()
    return false
  } catch (error) {
    // Anything else, a RangeError say, is a fault of the check.
    assert.ok(hasCode(error, 'store-corrupt'), String(error))
    return true
  }
}

function withFlip(bytes: Uint8Array, bit: number): Uint8Array {
  const flipped = Uint8Array.from(bytes)
  flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
  return flipped
}

function footerOf(table: Uint8Array) {
  const footer = cursorOver(table.subarray(-FOOTER_BYTES))
  const [metaindexAt, metaindexBytes, indexAt, indexBytes] = Array.from({ length: 4 }, () => footer.varint())
  return { metaindexAt, metaindexBytes, indexAt: indexAt ?? 0, indexBytes: indexBytes ?? 0 }
}

test('CRC-32C gives the published sums, and the mask is the one of LevelDB', () => {
  // RFC 3720 B.4, and the check value of the catalogue of CRCs.
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa)
  assert.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43)
  assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, at) => at)), 0x46dd794e)
  assert.equal(crc32c(Buffer.from('123456789')), 0xe3069283)
  const rotated = ((0xe3069283 >>> 15) | (0xe3069283 << 17)) >>> 0
  assert.equal(maskedCrc32c(Buffer.from('123456789')), (rotated + 0xa282ead8) % 2 ** 32)
})

test('snappy elements of every kind are decompressed', () => {
  const cases: readonly (readonly [hex: string, text: string])[] = [
    ['00', ''],
    ['030861 6263', 'abc'],
    // A copy of 1 byte of distance that overlaps what it writes.
    ['0800610d01', 'aaaaaaaa'],
    ['0a0c61626364160400', 'abcdabcdab'],
    ['0a0c616263641704000000', 'abcdabcdab'],
    [`46f045${'7a'.repeat(70)}`, 'z'.repeat(70)],
    [`46f44500${'7a'.repeat(70)}`, 'z'.repeat(70)],
  ]
  for (const [hex, text] of cases)
    assert.equal(Buffer.from(unsnappy(Buffer.from(hex.replaceAll(' ', ''), 'hex'))).toString(), text, hex)
})

test('snappy that promises too much, copies from nowhere or ends early is damage', () => {
  for (const hex of [
    '',
    '80',
    'ffffffff0f',
    '0308616',
    '0461',
    '010861 6263',
    '05086162630105',
    '04006101 00',
    '03',
  ])
    assert.ok(
      isDamaged(() => unsnappy(Buffer.from(hex.replaceAll(' ', ''), 'hex'))),
      hex,
    )
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      isDamaged(() => unsnappy(bytes))
    }),
    { seed, numRuns: 2000 },
  )
})

for (const [id, shape] of Object.entries({ SMALL, LARGE, PLAIN })) {
  test(`a table that LevelDB wrote is not damaged: ${id}`, async (context) => {
    checkTable(await tableOf(context, shape))
  })
}

test('the index block of the large table is compressed, and the plain one has none that is', async (context) => {
  const compressionOf = (table: Uint8Array) => {
    const { indexAt, indexBytes } = footerOf(table)
    return table[indexAt + indexBytes]
  }
  assert.equal(compressionOf(await tableOf(context, LARGE)), 1)
  assert.equal(compressionOf(await tableOf(context, PLAIN)), 0)
})

test('every single flipped bit of a table is found', async (context) => {
  const small = await tableOf(context, SMALL)
  for (let bit = 0; bit < small.byteLength * 8; bit++)
    assert.ok(
      isDamaged(() => checkTable(withFlip(small, bit))),
      `bit ${bit} of the small table`,
    )
  const random = seededRandom(seed)
  for (const shape of [LARGE, PLAIN]) {
    const table = await tableOf(context, shape)
    const bits = table.byteLength * 8
    const footer = Array.from({ length: FOOTER_BYTES * 8 }, (_, at) => bits - 1 - at)
    const anywhere = Array.from({ length: 200 }, () => Math.floor(random.next() * bits))
    for (const bit of [...footer, ...anywhere])
      assert.ok(
        isDamaged(() => checkTable(withFlip(table, bit))),
        `bit ${bit} of ${bits} (seed ${seed})`,
      )
  }
})

test('a table that is cut, grown or partly overwritten is damaged, and so is a file of anything else', async (context) => {
  const table = await tableOf(context, SMALL)
  for (let sizeBytes = 0; sizeBytes < table.byteLength; sizeBytes++)
    assert.ok(
      isDamaged(() => checkTable(table.subarray(0, sizeBytes))),
      `cut to ${sizeBytes}`,
    )
  assert.ok(
    isDamaged(() => checkTable(Buffer.concat([Buffer.alloc(1), table]))),
    'a byte before it',
  )
  assert.ok(
    isDamaged(() => checkTable(Buffer.concat([table, table]))),
    'twice in one file',
  )
  fc.assert(
    fc.property(
      fc.nat(table.byteLength - 1),
      fc.uint8Array({ minLength: 1, maxLength: 300 }),
      (at, noise) => {
        const changed = Buffer.from(table)
        changed.set(noise.subarray(0, table.byteLength - at), at)
        assert.equal(
          isDamaged(() => checkTable(changed)),
          !changed.equals(table),
        )
      },
    ),
    { seed, numRuns: 500 },
  )
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => isDamaged(() => checkTable(bytes))),
    { seed, numRuns: 300 },
  )
})

test('an index block with a right checksum and impossible contents is damage and nothing worse', async (context) => {
  for (const shape of [SMALL, LARGE]) {
    const table = await tableOf(context, shape)
    const { indexAt, indexBytes } = footerOf(table)
    fc.assert(
      fc.property(fc.nat(indexBytes), fc.uint8Array({ minLength: 1, maxLength: 8 }), (at, noise) => {
        const changed = Buffer.from(table)
        changed.set(noise.subarray(0, indexBytes + 1 - at), indexAt + at)
        const block = changed.subarray(indexAt, indexAt + indexBytes + 1)
        changed.writeUInt32LE(maskedCrc32c(block), indexAt + indexBytes + 1)
        // The keys are not the check's business: a change there passes.
        isDamaged(() => checkTable(changed))
      }),
      { seed, numRuns: 300 },
    )
  }
})

test('the tables of a MANIFEST are those that are there, with their sizes', async (context) => {
  const path = await levelWithTable(context, SMALL)
  const file = await onlyTable(path)
  const live = liveTables(await manifestOf(path))
  assert.deepEqual(
    [...live].map(([number, sizeBytes]) => [join(path, `${String(number).padStart(6, '0')}.ldb`), sizeBytes]),
    [[file, (await readFile(file)).byteLength]],
  )
})

test('a MANIFEST cut anywhere ends with its last whole record, and zeros are damage unless they are its end', async (context) => {
  const manifest = await manifestOf(await levelWithTable(context, SMALL))
  for (let sizeBytes = 0; sizeBytes <= manifest.byteLength; sizeBytes++)
    assert.ok(!isDamaged(() => liveTables(manifest.subarray(0, sizeBytes))), `cut to ${sizeBytes}`)
  const grown = Buffer.concat([manifest, Buffer.alloc(40_000)])
  assert.deepEqual(liveTables(grown), liveTables(manifest))
  const firstEnd = 7 + manifest.readUInt16LE(4)
  assert.ok(firstEnd < manifest.byteLength)
  assert.ok(isDamaged(() => liveTables(Buffer.from(manifest).fill(0, 0, firstEnd))))
})

test('a flipped bit of a MANIFEST is damage, or hides the records from there on', async (context) => {
  const manifest = await manifestOf(await levelWithTable(context, SMALL))
  const shorter = new Set<string>()
  for (let sizeBytes = 0; sizeBytes <= manifest.byteLength; sizeBytes++)
    shorter.add(JSON.stringify([...liveTables(manifest.subarray(0, sizeBytes))]))
  let damaged = 0
  for (let bit = 0; bit < manifest.byteLength * 8; bit++) {
    const flipped = withFlip(manifest, bit)
    if (isDamaged(() => liveTables(flipped))) damaged++
    else assert.ok(shorter.has(JSON.stringify([...liveTables(flipped)])), `bit ${bit}`)
  }
  assert.ok(damaged > manifest.byteLength * 7, `${damaged} found`)
})

test('records of a MANIFEST that go over the end of a block are put together', () => {
  const name = Buffer.alloc(70_000, 'n')
  const edit = Buffer.concat([Buffer.from([1]), Buffer.from('f0a204', 'hex'), name])
  const table = Buffer.concat([
    Buffer.from([7, 0, 9, 77, 8]),
    Buffer.alloc(8),
    Buffer.from([8]),
    Buffer.alloc(8),
  ])
  const record = (type: number, payload: Uint8Array) => {
    const head = Buffer.alloc(7)
    head[6] = type
    head.writeUInt16LE(payload.byteLength, 4)
    head.writeUInt32LE(maskedCrc32c(Buffer.concat([Buffer.from([type]), payload])))
    return Buffer.concat([head, payload])
  }
  const room = 32 * 1024 - 7
  const parts = [record(2, edit.subarray(0, room)), record(3, edit.subarray(room, 2 * room))]
  const manifest = Buffer.concat([...parts, record(4, edit.subarray(2 * room)), record(1, table)])
  assert.deepEqual([...liveTables(manifest)], [[9, 77]])
  assert.ok(
    isDamaged(() => liveTables(Buffer.concat([...parts, record(1, table)]))),
    'a part is missing',
  )
  assert.ok(
    isDamaged(() => liveTables(record(4, table))),
    'an end without a beginning',
  )
  assert.ok(
    isDamaged(() => liveTables(record(1, Buffer.from([7, 7, 9, 77, 0, 0])))),
    'a level too high',
  )
  assert.ok(
    isDamaged(() => liveTables(record(1, Buffer.from([7, 0, 9, 77, 3, 1, 2, 3, 0])))),
    'a short key',
  )
  assert.ok(
    isDamaged(() => liveTables(record(1, Buffer.from([8, 1])))),
    'an unknown field',
  )
})

test('an index is damaged by what is in its live files, and not by a table that a crash left half-written', async (context) => {
  const path = await levelWithTable(context, SMALL)
  const file = await onlyTable(path)
  const current = join(path, 'CURRENT')
  assert.equal(await indexDamage(path), undefined)
  await writeFile(join(path, '000099.ldb'), 'half')
  assert.equal(await indexDamage(path), undefined)

  const table = await readFile(file)
  await writeFile(file, Buffer.concat([table, Buffer.alloc(1)]))
  assert.match((await indexDamage(path)) ?? '', /^\d{6}\.ldb: \d+ bytes instead of \d+$/)
  await writeFile(file, withFlip(table, 100))
  assert.match((await indexDamage(path)) ?? '', /^\d{6}\.ldb: the checksum of the block at 0 is wrong$/)
  await truncate(file, 64 * 1024 * 1024 + 1)
  assert.match((await indexDamage(path)) ?? '', /longer than it may be/)
  await rename(file, `${file}.away`)
  assert.match((await indexDamage(path)) ?? '', /^\d{6}\.ldb is gone$/)
  await mkdir(file)
  assert.match((await indexDamage(path)) ?? '', /not a regular file/)

  for (const garbage of [
    '',
    '\n',
    '.\n',
    'MANIFEST-000002',
    'MANIFEST-../../x\n',
    'x'.repeat(100_000),
    '\0'.repeat(16),
  ]) {
    await writeFile(current, garbage)
    assert.match((await indexDamage(path)) ?? '', /CURRENT/, JSON.stringify(garbage.slice(0, 40)))
  }
  await writeFile(current, 'MANIFEST-999999\n')
  assert.equal(await indexDamage(path), 'MANIFEST-999999 is gone')
  await rename(current, `${current}.away`)
  assert.equal(await indexDamage(path), undefined)
})
