import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdir, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { blobDigest, loadHashing } from '@shoal/agent/hashing.ts'
import { createFileHasher } from '@shoal/agent/store/file-hasher.ts'
import { hasCode } from '@shoal/protocol/errors.ts'
import { makeBlob } from '../support/made-blob.ts'
import { tempFolder } from '../support/temp-folder.ts'

const signal = new AbortController().signal
const MIB = 1024 * 1024

test('a file is hashed behind the bytes that arrive, and several take turns', async (context) => {
  const folder = await tempFolder(context)
  const hasher = createFileHasher({ maxWorkers: 1 })
  context.after(() => hasher.stop())
  const blobs = [1, 2, 3].map((seed) =>
    makeBlob(seed, 9 * MIB + seed, { algorithm: seed === 2 ? 'git-sha1' : 'sha256' }),
  )
  const jobs = []
  for (const [index, { bytes, blob }] of blobs.entries()) {
    const path = join(folder, `${index}`)
    await writeFile(path, bytes)
    const algorithm = blob.startsWith('sha256') ? 'sha256' : 'git-sha1'
    jobs.push({
      job: hasher.start({ path, algorithm, sizeBytes: bytes.byteLength }),
      bytes,
      algorithm,
    } as const)
  }
  // The first waits for bytes; those after it must not wait for the first.
  for (const { job, bytes } of jobs.slice(1)) job.grow(bytes.byteLength)
  for (const { job, bytes, algorithm } of jobs.slice(1))
    assert.equal((await job.result(signal)).hex, blobDigest(algorithm, bytes))
  const [first] = jobs
  assert.ok(first !== undefined)
  first.job.grow(5 * MIB)
  first.job.grow(1 * MIB)
  first.job.grow(first.bytes.byteLength)
  assert.equal((await first.job.result(signal)).hex, blobDigest(first.algorithm, first.bytes))
})

test('chunk digests come with the whole digest, and a file that ends early is told apart', async (context) => {
  const folder = await tempFolder(context)
  const hasher = createFileHasher()
  context.after(() => hasher.stop())
  const { blake3 } = await loadHashing()
  const made = makeBlob(4, 3 * MIB + 10, { chunkBytes: MIB })
  const path = join(folder, 'file')
  await writeFile(path, made.bytes)
  const request = {
    path,
    algorithm: 'sha256',
    sizeBytes: made.bytes.byteLength,
    chunks: made.geometry.text,
  } as const
  const whole = hasher.start(request)
  whole.grow(request.sizeBytes)
  const result = await whole.result(signal)
  assert.equal(`sha256:${result.hex}`, made.blob)
  for (let index = 0; index < 4; index++)
    assert.deepEqual(
      Buffer.from(result.chunkDigests.subarray(index * 32, index * 32 + 32)),
      Buffer.from(blake3(made.chunk(index))),
    )
  await truncate(path, 2 * MIB + 1)
  const short = hasher.start(request)
  short.grow(request.sizeBytes)
  const cut = await short.result(signal)
  assert.equal(cut.bytes, 2 * MIB + 1)
  assert.ok(cut.chunkDigests.subarray(64).every((byte) => byte === 0))
})

test('a link, a pipe, a directory or nothing in the place of a file is an error at once', async (context) => {
  const folder = await tempFolder(context)
  const hasher = createFileHasher()
  context.after(() => hasher.stop())
  await writeFile(join(folder, 'file'), 'content')
  await symlink('file', join(folder, 'link'))
  await mkdir(join(folder, 'directory'))
  execFileSync('mkfifo', [join(folder, 'pipe')])
  for (const name of ['link', 'pipe', 'directory', 'nothing']) {
    const job = hasher.start({ path: join(folder, name), algorithm: 'sha256', sizeBytes: 7 })
    job.grow(7)
    await assert.rejects(job.result(signal), (error) => hasCode(error, 'store-corrupt'), name)
  }
})

test('a worker that dies is replaced once, and a second death fails the job instead of hanging it', async (context) => {
  const folder = await tempFolder(context)
  const starts = join(folder, 'starts')
  const workerFile = join(folder, 'dying-worker.mjs')
  await writeFile(
    workerFile,
    `import { appendFileSync } from 'node:fs'
     import { parentPort } from 'node:worker_threads'
     parentPort.on('message', () => { appendFileSync(${JSON.stringify(starts)}, 'x'); process.exit(3) })`,
  )
  const hasher = createFileHasher({ workerFile: pathToFileURL(workerFile) })
  context.after(() => hasher.stop())
  const job = hasher.start({ path: starts, algorithm: 'sha256', sizeBytes: 1 })
  await assert.rejects(job.result(signal), (error) => hasCode(error, 'store-failed'))
  assert.equal(execFileSync('cat', [starts], { encoding: 'utf8' }), 'xx')
})

test('an abort ends the wait and not the job; cancel and stop end both', async (context) => {
  const folder = await tempFolder(context)
  const path = join(folder, 'file')
  const bytes = Buffer.from('some content')
  await writeFile(path, bytes)
  const hasher = createFileHasher()
  context.after(() => hasher.stop())
  const job = hasher.start({ path, algorithm: 'sha256', sizeBytes: bytes.byteLength })
  await assert.rejects(job.result(AbortSignal.abort()), (error) => hasCode(error, 'aborted'))
  job.grow(bytes.byteLength)
  assert.equal((await job.result(signal)).hex, blobDigest('sha256', bytes))
  const cancelled = hasher.start({ path, algorithm: 'sha256', sizeBytes: bytes.byteLength })
  cancelled.cancel()
  await assert.rejects(cancelled.result(signal), (error) => hasCode(error, 'aborted'))
  const stopped = hasher.start({ path, algorithm: 'sha256', sizeBytes: bytes.byteLength })
  await hasher.stop()
  await assert.rejects(stopped.result(signal), (error) => hasCode(error, 'aborted'))
})

test('a process with nothing left to hash ends by itself', async (context) => {
  const folder = await tempFolder(context)
  const path = join(folder, 'file')
  await writeFile(path, 'x')
  const program = `
    import { createFileHasher } from '@shoal/agent/store/file-hasher.ts'
    const hasher = createFileHasher()
    const job = hasher.start({ path: ${JSON.stringify(path)}, algorithm: 'sha256', sizeBytes: 1 })
    job.grow(1)
    console.log((await job.result(new AbortController().signal)).hex)`
  const output = execFileSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
    timeout: 20_000,
    cwd: import.meta.dirname,
  })
  assert.equal(output.trim(), blobDigest('sha256', Buffer.from('x')))
})
