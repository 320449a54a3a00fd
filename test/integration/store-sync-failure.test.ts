import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { type FileHandle, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createFileHasher } from '@shoal/agent/store/file-hasher.ts'
import { storeLayout } from '@shoal/agent/store/layout.ts'
import { openPartialFiles } from '@shoal/agent/store/open-partial.ts'
import { FilePartial } from '@shoal/agent/store/partial-blob.ts'
import { createSpaceLedger } from '@shoal/agent/store/space.ts'
import { ensureDirectory } from '@shoal/agent/store/store-files.ts'
import { hasCode } from '@shoal/protocol/errors.ts'
import { fill } from '../contract/blob-store.contract.ts'
import { makeBlob } from '../support/made-blob.ts'
import { tempFolder } from '../support/temp-folder.ts'
import { virtualClock } from '../support/virtual-clock.ts'

const signal = new AbortController().signal
const isFailed = (error: unknown) => hasCode(error, 'store-failed')

/** A partial blob on a disk whose syncs fail while `disk.broken`. */
async function onFailingDisk(context: TestContext) {
  const layout = storeLayout(await tempFolder(context))
  await ensureDirectory(layout.temp)
  const made = makeBlob(1, 300_000)
  const files = await openPartialFiles(layout, made.blob, made.geometry, undefined)
  const disk = { broken: false }
  const sync = (name: 'sync' | 'datasync') => async () => {
    if (disk.broken) throw Object.assign(new Error('EIO: i/o error, fsync'), { code: 'EIO' })
    await files.data[name]()
  }
  const data: FileHandle = new Proxy(files.data, {
    get(target, key) {
      if (key === 'sync' || key === 'datasync') return sync(key)
      const value: unknown = Reflect.get(target, key)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  const clock = virtualClock()
  const ledger = createSpaceLedger({ limitBytes: undefined, keepFreeBytes: 0 }, async () => 1e9)
  const outcome = { published: 0, usable: undefined as boolean | undefined }
  const partial = new FilePartial(made.blob, made.geometry, new Map(), {
    layout,
    paths: layout.partial(made.blob),
    clock,
    hasher: createFileHasher(),
    reservation: await ledger.reserve(made.bytes.byteLength),
    journal: files.journal,
    data,
    complete: async () => {
      outcome.published++
    },
    released: async (usable) => {
      outcome.usable = usable
    },
  })
  return { partial, made, disk, clock, outcome }
}

test('a sync that fails in the background ends the partial blob for good', async (context) => {
  const { partial, made, disk, clock, outcome } = await onFailingDisk(context)
  await partial.write(0, made.chunk(0), made.voucher(0))
  disk.broken = true
  await clock.advance(1000)
  // The sync runs on real threads: reads before its failure still work, later ones do not.
  await assert.rejects(async () => {
    for (;;) {
      await partial.read(Buffer.alloc(10), 0)
      await new Promise((resolve) => setImmediate(resolve))
    }
  }, isFailed)
  await assert.rejects(partial.write(1, made.chunk(1), made.voucher(1)), isFailed)
  // That the disk works again changes nothing: the lost pages were never reported a second time.
  disk.broken = false
  await assert.rejects(partial.verifyWhole(signal), isFailed)
  await assert.rejects(partial.publish(), isFailed)
  await partial.close()
  assert.deepEqual(outcome, { published: 0, usable: false })
})

test('a blob whose last sync fails is not published', async (context) => {
  const { partial, made, disk, outcome } = await onFailingDisk(context)
  await fill(partial, made)
  assert.equal(await partial.verifyWhole(signal), true)
  disk.broken = true
  await assert.rejects(partial.publish(), isFailed)
  await partial.close()
  assert.deepEqual(outcome, { published: 0, usable: false })
})

test('no file gets a name under blobs before its bytes, its record and its folder are synced', async (context) => {
  const path = await tempFolder(context)
  const log = join(path, 'trace')
  const program = join(import.meta.dirname, '../support/store-writer.ts')
  const calls = 'trace=pwrite64,pwritev,write,fsync,fdatasync,rename,renameat,renameat2'
  try {
    execFileSync(
      'strace',
      [
        '-f',
        '-y',
        '-o',
        log,
        '-e',
        calls,
        process.execPath,
        program,
        join(path, 'store'),
        '5',
        '700000',
        '1',
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    )
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    console.log('SKIPPED, no strace here: the order of writes was not looked at')
    return context.skip('needs strace')
  }
  const lines = (await readFile(log, 'utf8')).split('\n')
  const last = (pattern: RegExp, before = lines.length) =>
    lines.slice(0, before).findLastIndex((line) => pattern.test(line))
  const commit = last(/rename\w*\(.*partial\/sha256-[0-9a-f]+\/data".*blobs\/sha256\//)
  assert.ok(commit > 0, 'the commit point is in the trace')
  const written = last(/p?write\w*\(\d+<.*partial\/sha256-[0-9a-f]+\/data>/)
  const synced = last(/fsync\(\d+<.*partial\/sha256-[0-9a-f]+\/data>/, commit)
  assert.ok(
    written > 0 && written < synced,
    `last write in line ${written}, sync in ${synced}, rename in ${commit}`,
  )
  const sidecar = last(/rename\w*\(.*chunks\/sha256\//, commit)
  assert.ok(sidecar > 0, 'the record has its name before the blob has')
  const draft = /rename\w*\([^"]*"([^"]+)"/.exec(lines[sidecar] ?? '')?.[1] ?? ''
  assert.ok(
    last(new RegExp(`fsync\\(\\d+<${draft}>`), sidecar) > 0,
    'the record is synced before it has its name',
  )
  const folder = lines
    .slice(commit)
    .findIndex((line) => /fsync\(\d+<.*blobs\/sha256\/[0-9a-f]{2}>/.test(line))
  const folderNamed = lines.slice(0, commit).some((line) => /fsync\(\d+<.*blobs\/sha256>/.test(line))
  assert.ok(folder > 0 && folderNamed, 'the folder is synced after the rename, and its own name before')
})
