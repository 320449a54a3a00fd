// Hashes whole files in a small pool of worker threads, behind the bytes that arrive. Workers exist only while there is
// work. A worker that dies costs its jobs one new start on another one, then an error: nothing ever waits for a dead thread.
import { Worker } from 'node:worker_threads'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { abortError } from '@shoal/protocol/time.ts'
import type { FromHashWorker, HashRequest, HashResult, ToHashWorker } from './hash-messages.ts'

export interface HashJob {
  /** Bytes `[0, bytes)` are on disk and will not change. */
  grow(bytes: number): void
  /**
   * Resolves once all bytes have been told of and hashed. An abort ends this wait, not the job.
   * @throws ShoalError `store-corrupt` when the file cannot be read | `store-failed` when its worker died twice
   */
  result(signal: AbortSignal): Promise<HashResult>
  cancel(): void
}

export interface FileHasher {
  start(request: HashRequest): HashJob
  /** Fails what is running; resolves when no worker is left. May be used again afterwards. */
  stop(): Promise<void>
}

interface Entry {
  readonly id: number
  readonly request: HashRequest
  available: number
  /** Starts made so far: 2 is the last. */
  starts: number
  readonly settle: (outcome: HashResult | ShoalError) => void
}

interface PoolWorker {
  readonly worker: Worker
  readonly jobs: Map<number, Entry>
}

const MAX_STARTS = 2
const DEFAULT_WORKER = new URL('./hash-worker.ts', import.meta.url)

/** @param options.workerFile another worker program, for tests */
export function createFileHasher(
  options: { readonly maxWorkers?: number | undefined; readonly workerFile?: URL } = {},
): FileHasher {
  const maxWorkers = options.maxWorkers ?? 2
  const pool = new Set<PoolWorker>()
  const leaving = new Set<Promise<unknown>>()
  let nextId = 1

  function post(owner: PoolWorker, message: ToHashWorker): void {
    owner.worker.postMessage(message)
  }

  function retire(owner: PoolWorker): void {
    pool.delete(owner)
    const gone: Promise<unknown> = owner.worker.terminate().finally(() => leaving.delete(gone))
    leaving.add(gone)
  }

  /** The job is over for its worker, which goes when it has no other. */
  function leave(owner: PoolWorker, id: number): Entry | undefined {
    const entry = owner.jobs.get(id)
    owner.jobs.delete(id)
    if (owner.jobs.size === 0 && pool.has(owner)) retire(owner)
    return entry
  }

  function onDeath(owner: PoolWorker, cause?: unknown): void {
    if (!pool.delete(owner)) return
    const orphans = [...owner.jobs.values()]
    owner.jobs.clear()
    for (const entry of orphans) {
      if (entry.starts < MAX_STARTS) place(entry)
      else
        entry.settle(
          new ShoalError('store-failed', `the worker hashing ${entry.request.path} died, twice`, {}, cause),
        )
    }
  }

  function onMessage(owner: PoolWorker, message: FromHashWorker): void {
    const entry = leave(owner, message.id)
    if (entry === undefined) return
    if (message.kind === 'done') {
      entry.settle(message.result)
      return
    }
    const code = ['EMFILE', 'ENFILE', 'ENOMEM'].includes(message.errno) ? 'store-failed' : 'store-corrupt'
    entry.settle(
      new ShoalError(code, `cannot hash ${entry.request.path}: ${message.message}`, { errno: message.errno }),
    )
  }

  function spawn(): PoolWorker {
    // Options of the process (`--input-type`, `--import`) are not meant for this program.
    const worker = new Worker(options.workerFile ?? DEFAULT_WORKER, {
      execArgv: [],
      // It makes few objects and reuses its one buffer; the usual young generation would grow to tens of megabytes.
      resourceLimits: { maxYoungGenerationSizeMb: 4 },
    })
    const owner: PoolWorker = { worker, jobs: new Map() }
    pool.add(owner)
    worker.on('message', (message: FromHashWorker) => onMessage(owner, message))
    worker.on('error', (error) => onDeath(owner, error))
    worker.on('exit', () => onDeath(owner))
    return owner
  }

  function leastBusy(): PoolWorker {
    const [best] = [...pool].sort((a, b) => a.jobs.size - b.jobs.size)
    return best === undefined || (best.jobs.size > 0 && pool.size < maxWorkers) ? spawn() : best
  }

  function place(entry: Entry): void {
    entry.starts++
    const owner = leastBusy()
    owner.jobs.set(entry.id, entry)
    post(owner, { kind: 'start', id: entry.id, request: entry.request })
    post(owner, { kind: 'grow', id: entry.id, bytes: entry.available })
  }

  function ownerOf(id: number): PoolWorker | undefined {
    return [...pool].find((candidate) => candidate.jobs.has(id))
  }

  return {
    start(request) {
      const { promise, resolve, reject } = Promise.withResolvers<HashResult>()
      // Whoever asks for the result learns of a failure; until then it is nobody's unhandled rejection.
      promise.catch(() => {})
      const id = nextId++
      const entry: Entry = {
        id,
        request,
        available: 0,
        starts: 0,
        settle: (outcome) => (outcome instanceof ShoalError ? reject(outcome) : resolve(outcome)),
      }
      place(entry)
      return {
        grow(bytes) {
          if (bytes <= entry.available) return
          entry.available = bytes
          const owner = ownerOf(id)
          if (owner !== undefined) post(owner, { kind: 'grow', id, bytes })
        },
        result: (signal) => withAbort(promise, signal),
        cancel() {
          const owner = ownerOf(id)
          if (owner === undefined) return
          post(owner, { kind: 'cancel', id })
          leave(owner, id)
          reject(new ShoalError('aborted', 'hashing was cancelled'))
        },
      }
    },
    async stop() {
      for (const owner of [...pool]) {
        const entries = [...owner.jobs.values()]
        retire(owner)
        for (const entry of entries) entry.settle(new ShoalError('aborted', 'hashing was stopped'))
      }
      await Promise.all(leaving)
    },
  }
}

function withAbort<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) return Promise.reject(abortError(signal))
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(abortError(signal))
    signal.addEventListener('abort', onAbort, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}
