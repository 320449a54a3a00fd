// One arriving blob: writes proven chunks, marks them after their bytes, syncs in batches, has the whole digest computed
// behind the arriving prefix. Owns the open files. How it becomes a complete blob is `publish.ts`, called by the store.
import type { FileHandle } from 'node:fs/promises'
import { type ChunkGeometry, ChunkMap, chunkLength, chunksOf } from '@shoal/protocol/chunks.ts'
import { isAbort, ShoalError } from '@shoal/protocol/errors.ts'
import { type BlobId, blobParts } from '@shoal/protocol/ids.ts'
import type { ChunkVoucher } from '@shoal/protocol/messages.ts'
import { type Clock, throwIfAborted } from '@shoal/protocol/time.ts'
import { blobDigest } from '../hashing.ts'
import type { PartialBlob } from './blob-store.ts'
import type { FileHasher, HashJob } from './file-hasher.ts'
import { type JournalFile, openJournal, readJournal, writeJournal } from './journal-file.ts'
import type { PartialPaths, StoreLayout } from './layout.ts'
import type { Reservation } from './space.ts'
import { openForReading, readFully, storeError, writeFully } from './store-files.ts'

/** Unsynced bytes that start a sync, and how long fewer may wait for one: what a power loss can make us check again. */
const SYNC_BYTES = 64 * 1024 * 1024
const SYNC_DELAY_MS = 1000
/** Up to this size a blob is hashed here at once: starting a thread would take longer. */
export const INLINE_HASH_BYTES = 8 * 1024 * 1024

export interface PartialParts {
  readonly layout: StoreLayout
  readonly paths: PartialPaths
  readonly clock: Clock
  readonly hasher: FileHasher
  readonly reservation: Reservation
  readonly data: FileHandle
  readonly journal: JournalFile
  /** Makes the synced data file the complete blob. It is still open for reads. */
  readonly complete: (partial: FilePartial) => Promise<void>
  /** The writer's place is free again. `usable` is false when a sync failed: nothing on disk may be trusted. */
  readonly released: (usable: boolean) => Promise<void>
}

export class FilePartial implements PartialBlob {
  readonly blob: BlobId
  readonly geometry: ChunkGeometry
  readonly held: ChunkMap
  readonly #parts: PartialParts
  readonly #vouchers: Map<number, ChunkVoucher>
  readonly #writes = new Map<number, Promise<void>>()
  #journal: JournalFile
  /** Chunks held without a gap from the start. */
  #prefix = 0
  #job: HashJob | undefined
  #verified = false
  #unsyncedBytes = 0
  #cancelSyncTimer: (() => void) | undefined
  #syncing: Promise<void> | undefined
  /** Chunks are being forgotten: the journal is not there to be appended to. */
  #rewriting: Promise<void> | undefined
  /** Why nothing can be written any more: a failed sync is final, the kernel may have dropped any unsynced page. */
  #broken: ShoalError | undefined
  #closing: Promise<void> | undefined
  /** No more reads from the open file; while it is being published they still work. */
  #closed = false
  #published = false

  constructor(
    blob: BlobId,
    geometry: ChunkGeometry,
    held: ReadonlyMap<number, ChunkVoucher>,
    parts: PartialParts,
  ) {
    this.blob = blob
    this.geometry = geometry
    this.held = new ChunkMap(geometry.chunkCount)
    for (const index of held.keys()) this.held.add(index)
    this.#vouchers = new Map(held)
    this.#parts = parts
    this.#journal = parts.journal
    this.#prefix = this.held.firstMissing()
  }

  voucher(index: number): ChunkVoucher | undefined {
    return this.#vouchers.get(index)
  }

  write(index: number, bytes: Uint8Array, voucher: ChunkVoucher): Promise<void> {
    const running = this.#writes.get(index)
    if (running !== undefined) return running
    if (this.held.has(index)) return Promise.resolve()
    const work = this.#write(index, bytes, voucher).finally(() => this.#writes.delete(index))
    this.#writes.set(index, work)
    return work
  }

  async #write(index: number, bytes: Uint8Array, voucher: ChunkVoucher): Promise<void> {
    while (this.#rewriting !== undefined) await this.#rewriting
    this.#check()
    const length = chunkLength(this.geometry, index)
    if (bytes.byteLength !== length)
      throw new Error(`chunk ${index} has ${length} bytes, not ${bytes.byteLength}`)
    try {
      await writeFully(this.#parts.data, bytes, this.geometry.range(index).start)
      await this.#journal.append(index, voucher)
    } catch (error) {
      throw storeError(`write chunk ${index} of ${this.blob}`, error)
    }
    this.held.add(index)
    this.#vouchers.set(index, ownCopy(voucher))
    this.#parts.reservation.spend(length)
    this.#growPrefix()
    this.#syncSoon(length)
  }

  async read(target: Uint8Array, position: number): Promise<void> {
    const { first, afterLast } = chunksOf(this.geometry, {
      start: position,
      end: position + target.byteLength,
    })
    for (let index = first; index < afterLast; index++) {
      if (!this.held.has(index)) throw new Error(`chunk ${index} of ${this.blob} is not held`)
    }
    if (this.#broken !== undefined) throw this.#broken
    if (this.#closed) return this.#readAfterwards(target, position)
    await readFully(this.#parts.data, target, position, this.#parts.paths.data)
  }

  /** Readers that have not noticed yet that the blob is complete get their bytes from there. */
  async #readAfterwards(target: Uint8Array, position: number): Promise<void> {
    const path = this.#parts.layout.blob(this.blob)
    const handle = this.#published ? await openForReading(path) : undefined
    if (handle === undefined) throw this.#closedError()
    try {
      await readFully(handle, target, position, path)
    } finally {
      await handle.close()
    }
  }

  async discard(indices: readonly number[]): Promise<void> {
    this.#check()
    // Another one may have begun between the end of the wait and here.
    while (this.#isBusy) await this.#settled()
    this.#check()
    const gone = indices.filter((index) => this.held.delete(index))
    if (gone.length === 0) return
    for (const index of gone) {
      this.#vouchers.delete(index)
      this.#parts.reservation.takeBack(chunkLength(this.geometry, index))
    }
    this.#verified = false
    this.#prefix = Math.min(this.#prefix, this.held.firstMissing())
    this.#job?.cancel()
    this.#job = undefined
    this.#rewriting = this.#rewriteJournal().finally(() => {
      this.#rewriting = undefined
    })
    await this.#rewriting
  }

  /** A journal only ever grows; to forget chunks it is written anew, with everything in it synced first. */
  async #rewriteJournal(): Promise<void> {
    const { paths, layout, data } = this.#parts
    await this.#final(() => data.datasync())
    this.#unsyncedBytes = 0
    try {
      await this.#journal.close()
      await writeJournal(paths.journal, this.blob, this.geometry, this.#vouchers, layout.temp)
      const content = await readJournal(paths.journal, this.blob)
      if (content === undefined) throw new ShoalError('store-corrupt', `${paths.journal} is not readable`)
      this.#journal = await openJournal(paths.journal, content)
    } catch (error) {
      // What the old journal still says must not come back: the files are given up.
      this.#broken = storeError(`forget chunks of ${this.blob}`, error)
      throw this.#broken
    }
  }

  async verifyWhole(signal: AbortSignal): Promise<boolean> {
    this.#check()
    throwIfAborted(signal)
    await this.#settled()
    if (!this.held.complete) throw new Error(`${this.blob} is not complete: verifyWhole came too early`)
    const { algorithm, hex } = blobParts(this.blob)
    const { sizeBytes } = this.geometry
    if (sizeBytes <= INLINE_HASH_BYTES) {
      const bytes = Buffer.allocUnsafe(sizeBytes)
      await readFully(this.#parts.data, bytes, 0, this.#parts.paths.data)
      this.#verified = blobDigest(algorithm, bytes) === hex
      return this.#verified
    }
    const job = this.#hashJob()
    job.grow(sizeBytes)
    try {
      const result = await job.result(signal)
      if (result.bytes !== sizeBytes)
        throw new ShoalError('store-corrupt', `${this.#parts.paths.data} ends at byte ${result.bytes}`)
      this.#verified = result.hex === hex
    } catch (error) {
      if (!isAbort(error)) this.#job = undefined
      throw error
    }
    if (!this.#verified) this.#job = undefined
    return this.#verified
  }

  async publish(): Promise<void> {
    this.#check()
    if (!this.#verified) throw new Error(`${this.blob} was not verified: publish came too early`)
    await this.#syncing
    await this.#final(() => this.#parts.data.sync())
    this.#unsyncedBytes = 0
    this.#closing = this.#finish(async () => {
      await this.#parts.complete(this)
      this.#published = true
    })
    await this.#closing
  }

  close(): Promise<void> {
    this.#closing ??= this.#finish(async () => {})
    return this.#closing
  }

  /** Syncs what is written, closes the files, runs `last`, gives up the writer's place. */
  async #finish(last: () => Promise<void>): Promise<void> {
    this.#cancelSyncTimer?.()
    this.#job?.cancel()
    this.#job = undefined
    try {
      await this.#settled()
      if (this.#broken === undefined) await this.#sync().catch(() => {})
      await this.#journal.close().catch(() => {})
      if (this.#broken === undefined) await last()
    } finally {
      this.#closed = true
      await this.#parts.data.close().catch(() => {})
      this.#parts.reservation.release()
      await this.#parts.released(this.#broken === undefined)
    }
  }

  /** Waits for writes and syncs that are under way; their failures reach their own callers. */
  async #settled(): Promise<void> {
    while (this.#isBusy) await Promise.allSettled([...this.#writes.values(), this.#syncing, this.#rewriting])
  }

  get #isBusy(): boolean {
    return this.#writes.size > 0 || this.#syncing !== undefined || this.#rewriting !== undefined
  }

  #check(): void {
    if (this.#broken !== undefined) throw this.#broken
    if (this.#closing !== undefined) throw this.#closedError()
  }

  #closedError(): ShoalError {
    return new ShoalError('not-running', `the partial blob ${this.blob} is closed`)
  }

  #growPrefix(): void {
    const before = this.#prefix
    while (this.held.has(this.#prefix)) this.#prefix++
    if (this.#prefix === before || this.geometry.sizeBytes <= INLINE_HASH_BYTES) return
    this.#hashJob().grow(this.geometry.range(this.#prefix - 1).end)
  }

  #hashJob(): HashJob {
    const { hasher, paths } = this.#parts
    const { algorithm } = blobParts(this.blob)
    this.#job ??= hasher.start({ path: paths.data, algorithm, sizeBytes: this.geometry.sizeBytes })
    return this.#job
  }

  #syncSoon(bytes: number): void {
    this.#unsyncedBytes += bytes
    if (this.#closing !== undefined) return
    if (this.#unsyncedBytes >= SYNC_BYTES) this.#startSync()
    else
      this.#cancelSyncTimer ??= this.#parts.clock.after(SYNC_DELAY_MS, () => {
        this.#cancelSyncTimer = undefined
        this.#startSync()
      })
  }

  /** One sync at a time, in the background; a failure is kept in `#broken` for whoever comes next. */
  #startSync(): void {
    const busy = this.#syncing !== undefined || this.#rewriting !== undefined
    if (busy || this.#broken !== undefined || this.#closing !== undefined) return
    this.#syncing = this.#sync()
      .catch(() => {})
      .finally(() => {
        this.#syncing = undefined
        if (this.#unsyncedBytes >= SYNC_BYTES) this.#startSync()
      })
  }

  async #sync(): Promise<void> {
    if (this.#unsyncedBytes === 0) return
    this.#unsyncedBytes = 0
    await this.#journal.sync(() => this.#final(() => this.#parts.data.datasync()))
  }

  /** Runs a sync whose failure ends this partial blob for good. */
  async #final(sync: () => Promise<void>): Promise<void> {
    try {
      await sync()
    } catch (error) {
      this.#broken = storeError(`sync ${this.blob}`, error)
      throw this.#broken
    }
  }
}

/** A voucher may be a view into a whole chunk's buffer, which must not live as long as it. */
function ownCopy(voucher: ChunkVoucher): ChunkVoucher {
  return {
    digest: Uint8Array.from(voucher.digest),
    author: Uint8Array.from(voucher.author),
    signature: Uint8Array.from(voucher.signature),
  }
}
