import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, rmdir, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, type TestContext, test } from 'node:test'
import { createIndexDb, encodeRow, type IndexDb } from '@shoal/agent/store/index-db.ts'
import { hasCode } from '@shoal/protocol/errors.ts'
import { type Random, seededRandom } from '@shoal/protocol/time.ts'
import { ClassicLevel } from 'classic-level'
import { tempFolder } from '../support/temp-folder.ts'

const seed = Number(process.env.SEED ?? Math.floor(performance.timeOrigin) % 2 ** 31)
console.log(`SEED=${seed}`)
const ROWS = 1000
const rowValue = (row: number) => ({ row, text: 'x'.repeat(row % 50) })
const keyOf = (row: number) => `row/${String(row).padStart(6, '0')}`

async function open(context: TestContext, path: string): Promise<IndexDb> {
  const index = createIndexDb({ path })
  await index.start()
  context.after(() => index.stop())
  return index
}

async function collect(index: IndexDb, prefix: string): Promise<(readonly [string, unknown])[]> {
  const found = []
  for await (const entry of index.entries(prefix)) found.push(entry)
  return found
}

/** An index with rows in tables and in the log, closed. */
async function fillIndex(path: string): Promise<void> {
  for (const half of [0, 1]) {
    const index = createIndexDb({ path })
    await index.start()
    const rows = Array.from({ length: ROWS / 2 }, (_, row) => row + (half * ROWS) / 2)
    await index.batch(rows.map((row) => ({ key: keyOf(row), value: rowValue(row) })))
    await index.stop()
  }
}

async function filledIndex(context: TestContext): Promise<string> {
  const path = join(await tempFolder(context), 'index')
  await fillIndex(path)
  return path
}

test('rows are put, read by key and by prefix in order, replaced and deleted', async (context) => {
  const index = await open(context, join(await tempFolder(context), 'index'))
  await index.put('b/2', { n: 2 })
  await index.put('b/1', [1])
  await index.put('a', 'text')
  await index.put('c', null)
  assert.equal(await index.get('nothing'), undefined)
  assert.deepEqual(await index.get('b/2'), { n: 2 })
  assert.equal(await index.get('c'), null)
  assert.deepEqual(await collect(index, 'b/'), [
    ['b/1', [1]],
    ['b/2', { n: 2 }],
  ])
  await index.batch([{ key: 'b/1' }, { key: 'b/3', value: 3 }, { key: 'a', value: 'new' }])
  await index.delete('b/2')
  await index.delete('never there')
  assert.deepEqual(await collect(index, ''), [
    ['a', 'new'],
    ['b/3', 3],
    ['c', null],
  ])
})

test('rows are there after a restart, start and stop may be called twice', async (context) => {
  const path = join(await tempFolder(context), 'index')
  const index = await open(context, path)
  await index.start()
  await index.put('key', 1)
  await index.stop()
  await index.stop()
  await assert.rejects(index.get('key'), (error) => hasCode(error, 'not-running'))
  assert.equal(index.rebuilt, 'there was none')
  const again = await open(context, path)
  assert.equal(await again.get('key'), 1)
  assert.equal(again.rebuilt, undefined)
})

test('a row of a later version of the value format, or one somebody else wrote, is a miss', async (context) => {
  const path = join(await tempFolder(context), 'index')
  const index = await open(context, path)
  await index.put('good', 1)
  await index.stop()
  const db = new ClassicLevel<string, Uint8Array>(path, { valueEncoding: 'view' })
  const later = Uint8Array.from(encodeRow('later', 1))
  later[0] = 2
  await db.batch([
    { type: 'put', key: 'later', value: later },
    { type: 'put', key: 'foreign', value: Buffer.from('{"n":1}') },
    { type: 'put', key: 'moved', value: encodeRow('elsewhere', 1) },
  ])
  await db.close()
  const again = await open(context, path)
  assert.deepEqual(await collect(again, ''), [['good', 1]])
  assert.equal(await again.get('later'), undefined)
  assert.equal(again.damaged, 4)
})

test('an index of a later format is refused with a sentence and left as it is', async (context) => {
  const path = join(await tempFolder(context), 'index')
  await (await open(context, path)).stop()
  const db = new ClassicLevel<string, Uint8Array>(path, { valueEncoding: 'view' })
  await db.put('\u0000format', encodeRow('\u0000format', 2))
  await db.put('precious', encodeRow('precious', 1))
  await db.close()
  for (const attempt of [1, 2]) {
    const index = createIndexDb({ path })
    await assert.rejects(
      index.start(),
      (error) => hasCode(error, 'store-version') && /format 2.*Nothing was changed/.test(error.message),
      `attempt ${attempt}`,
    )
  }
  const still = new ClassicLevel<string, Uint8Array>(path, { valueEncoding: 'view' })
  assert.deepEqual(Buffer.from((await still.get('precious')) ?? []), Buffer.from(encodeRow('precious', 1)))
  await still.close()
})

/** The code with which another process fails to open an index. */
function codeElsewhere(path: string): string {
  const program = `
    import { createIndexDb } from '@shoal/agent/store/index-db.ts'
    try { await createIndexDb({ path: ${JSON.stringify(path)} }).start() } catch (error) { console.log(error.code) }`
  const options = { cwd: import.meta.dirname, encoding: 'utf8' } as const
  return execFileSync(process.execPath, ['--input-type=module', '-e', program], options).trim()
}

test('an index that another process or this one has open is locked', async (context) => {
  const path = join(await tempFolder(context), 'index')
  const first = await open(context, path)
  await assert.rejects(createIndexDb({ path }).start(), (error) => hasCode(error, 'store-locked'))
  assert.equal(codeElsewhere(path), 'store-locked')
  await first.put('still', 'ours')
  assert.equal(await first.get('still'), 'ours')
})

test('an index that another process has open is locked and not set aside, even when its files look damaged', async (context) => {
  const path = join(await tempFolder(context), 'index')
  const first = await open(context, path)
  await first.put('still', 'ours')
  const current = join(path, 'CURRENT')
  const text = await readFile(current)
  // As it may look to somebody who reads while it is being written.
  await writeFile(current, 'half a na')
  assert.equal(codeElsewhere(path), 'store-locked')
  await writeFile(current, text)
  await first.stop()
  const again = await open(context, path)
  assert.equal(again.rebuilt, undefined)
  assert.equal(await again.get('still'), 'ours')
})

test('a table that a crash left half-written costs nothing', async (context) => {
  const path = await filledIndex(context)
  await writeFile(join(path, '000099.ldb'), 'half')
  const index = await open(context, path)
  assert.equal(index.rebuilt, undefined)
  assert.equal((await collect(index, '')).length, ROWS)
})

test('an index that cannot be opened though nothing is damaged is refused and left as it is', async (context) => {
  const path = await filledIndex(context)
  await rm(join(path, 'LOCK'))
  await mkdir(join(path, 'LOCK'))
  await assert.rejects(createIndexDb({ path }).start(), (error) => hasCode(error, 'store-failed'))
  await rmdir(join(path, 'LOCK'))
  const index = await open(context, path)
  assert.equal((await collect(index, '')).length, ROWS)
})

interface Damage {
  readonly id: string
  /** For each seed. */
  readonly tries: number
  /** Besides the one of this run. */
  readonly seeds?: readonly number[]
  /** The start must notice by itself; else every row read is right or a miss. */
  readonly rebuilds: 'yes' | 'maybe'
  readonly apply: (path: string, names: readonly string[], random: Random) => Promise<void>
}

const named = (names: readonly string[], pattern: RegExp) => names.filter((name) => pattern.test(name))

function oneTable(names: readonly string[], random: Random): string {
  const tables = named(names, /\.ldb$/)
  const table = tables[Math.floor(random.next() * tables.length)]
  assert.ok(table !== undefined)
  return table
}

async function flip(path: string, random: Random): Promise<void> {
  const bytes = await readFile(path)
  const bit = Math.floor(random.next() * bytes.byteLength * 8)
  bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7))
  await writeFile(path, bytes)
}

const DAMAGES: readonly Damage[] = [
  {
    id: 'one bit of a table flipped',
    tries: 25,
    // LevelDB ended the process with each of them when it was let near the table.
    seeds: [276152929, 4, 10, 15, 18],
    rebuilds: 'yes',
    apply: (path, names, random) => flip(join(path, oneTable(names, random)), random),
  },
  {
    id: 'a table cut',
    tries: 10,
    rebuilds: 'yes',
    async apply(path, names, random) {
      const table = join(path, oneTable(names, random))
      const { byteLength } = await readFile(table)
      // Every other one shorter than a footer.
      await truncate(table, Math.floor(random.next() * (random.next() < 0.5 ? byteLength : 48)))
    },
  },
  {
    id: 'the sizes in the footer of a table overwritten',
    tries: 10,
    rebuilds: 'yes',
    async apply(path, names, random) {
      const table = join(path, oneTable(names, random))
      const bytes = await readFile(table)
      const noise = Uint8Array.from({ length: 12 }, () => Math.floor(random.next() * 256))
      bytes.set(noise, bytes.byteLength - 48)
      await writeFile(table, bytes)
    },
  },
  {
    id: 'one bit of the log flipped',
    tries: 10,
    rebuilds: 'maybe',
    async apply(path, names, random) {
      for (const name of named(names, /\.log$/)) await flip(join(path, name), random).catch(() => {})
    },
  },
  {
    id: 'the log cut',
    tries: 3,
    rebuilds: 'maybe',
    async apply(path, names, random) {
      for (const name of named(names, /\.log$/)) {
        const { byteLength } = await readFile(join(path, name))
        await truncate(join(path, name), Math.floor(random.next() * byteLength))
      }
    },
  },
  {
    id: 'one bit of MANIFEST flipped',
    tries: 10,
    rebuilds: 'maybe',
    async apply(path, names, random) {
      for (const name of named(names, /^MANIFEST/)) await flip(join(path, name), random)
    },
  },
  {
    id: 'MANIFEST zeroed up to its end',
    tries: 1,
    rebuilds: 'yes',
    async apply(path, names) {
      for (const name of named(names, /^MANIFEST/)) {
        const { byteLength } = await readFile(join(path, name))
        await writeFile(join(path, name), new Uint8Array(byteLength))
      }
    },
  },
  {
    id: 'MANIFEST cut in half',
    tries: 1,
    rebuilds: 'maybe',
    async apply(path, names) {
      for (const name of named(names, /^MANIFEST/))
        await truncate(join(path, name), (await readFile(join(path, name))).byteLength >> 1)
    },
  },
  {
    id: 'MANIFEST empty',
    tries: 1,
    rebuilds: 'yes',
    async apply(path, names) {
      for (const name of named(names, /^MANIFEST/)) await truncate(join(path, name), 0)
    },
  },
  {
    id: 'MANIFEST gone',
    tries: 1,
    rebuilds: 'yes',
    async apply(path, names) {
      for (const name of named(names, /^MANIFEST/)) await rm(join(path, name))
    },
  },
  { id: 'CURRENT empty', tries: 1, rebuilds: 'yes', apply: (path) => truncate(join(path, 'CURRENT'), 0) },
  {
    // Its line end makes LevelDB look for a file of that name.
    id: 'CURRENT is garbage',
    tries: 10,
    rebuilds: 'yes',
    async apply(path, _, random) {
      const garbage = Array.from({ length: Math.floor(random.next() * 400) }, () =>
        Math.floor(random.next() * 256),
      )
      await writeFile(join(path, 'CURRENT'), Uint8Array.from([...garbage, 10]))
    },
  },
  {
    id: 'CURRENT names the directory',
    tries: 1,
    rebuilds: 'yes',
    apply: (path) => writeFile(join(path, 'CURRENT'), '.\n'),
  },
  {
    id: 'CURRENT names nothing',
    tries: 1,
    rebuilds: 'yes',
    apply: (path) => writeFile(join(path, 'CURRENT'), 'MANIFEST-999999\n'),
  },
  {
    id: 'a table gone',
    tries: 1,
    rebuilds: 'yes',
    async apply(path, names) {
      for (const name of named(names, /\.ldb$/).slice(0, 1)) await rm(join(path, name))
    },
  },
  {
    id: 'a stale LOCK file',
    tries: 1,
    rebuilds: 'maybe',
    apply: (path) => writeFile(join(path, 'LOCK'), '12345'),
  },
  {
    id: 'the directory empty',
    tries: 1,
    rebuilds: 'yes',
    async apply(path, names) {
      for (const name of names) await rm(join(path, name))
    },
  },
]

const masterFolder = await mkdtemp(join(tmpdir(), 'shoal-test-'))
after(() => rm(masterFolder, { recursive: true, force: true }))
const master = join(masterFolder, 'index')
await fillIndex(master)

/** How many rows are there. All of them have to be right; LevelDB may notice damage while it iterates. */
async function rightRows(index: IndexDb, from: number): Promise<number> {
  let seen = 0
  try {
    for (const [key, value] of await collect(index, '')) {
      const row = Number(key.slice(4))
      assert.ok(row < ROWS && key === keyOf(row), `phantom key ${key} (seed ${from})`)
      assert.deepEqual(value, rowValue(row), `row ${row} (seed ${from})`)
      seen++
    }
  } catch (error) {
    if (!hasCode(error, 'store-failed')) throw error
  }
  return seen
}

for (const { id, tries, seeds = [], rebuilds, apply } of DAMAGES) {
  test(`damage gives misses, never a wrong row, and never stops a start: ${id}`, async (context) => {
    const copies = join(await tempFolder(context), 'index')
    let attempts = 0
    let rebuilt = 0
    let missing = 0
    const tryAll = async (from: number) => {
      const random = seededRandom(from)
      for (let attempt = 0; attempt < tries; attempt++) {
        const path = `${copies}-${attempts++}`
        await cp(master, path, { recursive: true })
        await apply(path, await readdir(path), random)
        const index = createIndexDb({ path })
        await index.start()
        if (index.rebuilt !== undefined) rebuilt++
        const seen = await rightRows(index, from)
        missing += ROWS - seen
        await index.put('new', 1)
        assert.equal(await index.get('new'), 1)
        await index.stop()
      }
    }
    // At once, because they mostly wait for the disk.
    await Promise.all([seed, ...seeds].map(tryAll))
    console.log(`${id}: ${attempts} tries, ${rebuilt} made anew, ${missing} rows missed`)
    if (rebuilds === 'yes') assert.equal(rebuilt, attempts)
  })
}
