// A worker thread that hashes files, each no further than it has been told is on disk. Several jobs take turns, a few
// megabytes each. Owns the file descriptors it opens. Knows nothing of blobs being kept or served.
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import { type ChunkGeometry, MAX_CHUNK_BYTES, parseGeometry } from '@shoal/protocol/chunks.ts'
import { type BlobDigest, createBlobDigest, type Hashing, loadHashing } from '../hashing.ts'
import type { FromHashWorker, HashRequest, ToHashWorker } from './hash-messages.ts'

/** Read at a time: large enough for full disk speed, small enough that jobs take turns within milliseconds. */
const SLICE_BYTES = 4 * 1024 * 1024
const DIGEST_BYTES = 32

interface Job {
  readonly id: number
  readonly request: HashRequest
  readonly file: number
  readonly digest: BlobDigest
  readonly chunks: ChunkGeometry | undefined
  readonly chunkDigests: Uint8Array
  readBytes: number
  /** Where reading goes on. */
  at: number
  /** Bytes known to be on disk. */
  available: number
}

const jobs = new Map<number, Job>()
let buffer = new Uint8Array(0)
let hashing: Hashing | undefined
let busy = false

function tell(message: FromHashWorker): void {
  parentPort?.postMessage(message)
}

function end(job: Job): void {
  jobs.delete(job.id)
  closeSync(job.file)
}

function fail(id: number, error: unknown): void {
  const errno = error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
  tell({ kind: 'failed', id, errno, message: error instanceof Error ? error.message : String(error) })
}

function start(id: number, request: HashRequest): void {
  const file = openSync(request.path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    if (!fstatSync(file).isFile()) throw new Error(`${request.path} is not a regular file`)
    const chunks = request.chunks === undefined ? undefined : parseGeometry(request.chunks)
    jobs.set(id, {
      id,
      request,
      file,
      digest: createBlobDigest(request.algorithm, request.sizeBytes),
      chunks,
      chunkDigests: new Uint8Array((chunks?.chunkCount ?? 0) * DIGEST_BYTES),
      readBytes: 0,
      at: 0,
      available: 0,
    })
  } catch (error) {
    closeSync(file)
    throw error
  }
}

/** Fills `target` from the file; less only where the file ends. */
function read(file: number, target: Uint8Array, position: number): number {
  let done = 0
  while (done < target.byteLength) {
    const bytes = readSync(file, target, done, target.byteLength - done, position + done)
    if (bytes === 0) break
    done += bytes
  }
  return done
}

/** One turn of a job: a slice, or a whole chunk when chunks are hashed too. */
function advance(job: Job): void {
  const { chunks, request } = job
  const index = chunks === undefined || job.at >= request.sizeBytes ? undefined : chunks.indexAt(job.at)
  const stop =
    chunks === undefined || index === undefined
      ? Math.min(job.at + SLICE_BYTES, job.available)
      : chunks.range(index).end
  const wanted = stop - job.at
  if (buffer.byteLength < wanted)
    buffer = new Uint8Array(wanted > SLICE_BYTES ? MAX_CHUNK_BYTES : SLICE_BYTES)
  const target = buffer.subarray(0, wanted)
  let got = 0
  try {
    got = read(job.file, target, job.at)
  } catch (error) {
    // While checking what is on disk, an unreadable place is a bad chunk and the rest is still looked at.
    if (chunks === undefined) throw error
  }
  job.digest.update(target.subarray(0, got))
  job.readBytes += got
  if (index !== undefined && got === wanted && hashing !== undefined)
    job.chunkDigests.set(hashing.blake3(target), index * DIGEST_BYTES)
  // A file that ends early is finished: its digest cannot fit any more.
  job.at = chunks === undefined && got < wanted ? request.sizeBytes : stop
}

function isRunnable(job: Job): boolean {
  return job.at < job.available || job.at >= job.request.sizeBytes
}

function takeTurn(job: Job): void {
  try {
    if (job.at < job.request.sizeBytes) advance(job)
    if (job.at < job.request.sizeBytes) return
    end(job)
    const { chunkDigests, readBytes } = job
    tell({ kind: 'done', id: job.id, result: { hex: job.digest.hex(), bytes: readBytes, chunkDigests } })
  } catch (error) {
    end(job)
    fail(job.id, error)
  }
}

async function work(): Promise<void> {
  if (busy) return
  busy = true
  try {
    for (;;) {
      const runnable = [...jobs.values()].filter(isRunnable)
      if (runnable.length === 0) return
      if (hashing === undefined && runnable.some((job) => job.chunks !== undefined))
        hashing = await loadHashing()
      for (const job of runnable) takeTurn(job)
      // Lets waiting messages in: new jobs, more bytes, cancellations.
      await new Promise((resolve) => setImmediate(resolve))
    }
  } finally {
    busy = false
  }
}

parentPort?.on('message', (message: ToHashWorker) => {
  const job = jobs.get(message.id)
  if (message.kind === 'start') {
    try {
      start(message.id, message.request)
    } catch (error) {
      fail(message.id, error)
    }
  } else if (message.kind === 'cancel') {
    if (job !== undefined) end(job)
  } else if (job !== undefined) {
    job.available = Math.min(Math.max(job.available, message.bytes), job.request.sizeBytes)
  }
  void work()
})
