// The blob store on disk: who may open, write, publish, remove what, and the account of space. The file work is in the files
// around it, the layout in layout.ts. What is here is known from memory, filled by recovery.ts on every start.
import { lstat, open, rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import type { ChunkGeometry, ChunkMap } from '@shoal/protocol/chunks.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { type BlobId, blobParts } from '@shoal/protocol/ids.ts'
import { type Clock, systemClock } from '@shoal/protocol/time.ts'
import { BoundedMap } from '../bounded-map.ts'
import { blobDigest, type Hashing, loadHashing } from '../hashing.ts'
import { openBlobReader, readSidecarHeader } from './blob-reader.ts'
import type {
  BlobReader,
  BlobRecord,
  BlobStore,
  PartialBlob,
  StoreUsage,
  VerifyReport,
} from './blob-store.ts'
import { checkBlob } from './check-blob.ts'
import type { SidecarHeader } from './chunk-codec.ts'
import { createFileHasher, type FileHasher } from './file-hasher.ts'
import type { Index } from './index-port.ts'
import { createKeyedQueue } from './keyed-queue.ts'
import { type StoreLayout, storeLayout } from './layout.ts'
import { OpenBlobs } from './open-blobs.ts'
import { dropPartial, findPartial, openPartialFiles } from './open-partial.ts'
import { FilePartial } from './partial-blob.ts'
import { publishFile, removeFiles, writeSidecar } from './publish.ts'
import { heldBytes, recover, type StoredPartial, sumOf, type UncheckedPartials } from './recovery.ts'
import { dropQuarantined, moveToPartial, setAside } from './repair.ts'
import { createSpaceLedger, type SpaceLedger } from './space.ts'
import { FILE_MODE, type StoreLog, storeError } from './store-files.ts'

/** Sidecar headers kept in memory, a few hundred bytes each. */
const HEADERS_KEPT = 4096
/** Left free on the disk for everyone else unless told otherwise. */
const KEEP_FREE_BYTES = 256 * 1024 * 1024

export interface DiskStoreOptions {
  /** The storage path. `createStorage` has checked it. */
  readonly path: string
  /** Started before: it holds the lock of the storage path. */
  readonly index: Index
  /** Most bytes of blobs; undefined or 0: as much as the disk has. */
  readonly limitBytes?: number | undefined
  readonly keepFreeBytes?: number
  readonly clock?: Clock
  readonly log?: StoreLog
  /** Threads that hash whole files. */
  readonly hashThreads?: number | undefined
}

/** @throws from `start`: ShoalError `not-running` when the index is not open | `store-full` | `store-failed` */
export function createDiskStore(options: DiskStoreOptions): BlobStore {
  return new DiskStore(options)
}

class DiskStore implements BlobStore {
  readonly name = 'store'
  readonly #layout: StoreLayout
  readonly #index: Index
  readonly #clock: Clock
  readonly #log: StoreLog
  readonly #limitBytes: number | undefined
  readonly #keepFreeBytes: number
  readonly #hasher: FileHasher
  readonly #queue = createKeyedQueue<BlobId>()
  readonly #open: OpenBlobs
  readonly #headers = new BoundedMap<BlobId, SidecarHeader>(HEADERS_KEPT)
  /** Writers' places: taken while a partial blob is being opened (undefined) or is open. */
  readonly #writers = new Map<BlobId, FilePartial | undefined>()
  #complete = new Map<BlobId, number>()
  #partials = new Map<BlobId, StoredPartial>()
  #quarantined = new Map<BlobId, number>()
  #unchecked: UncheckedPartials | undefined
  #ledger: SpaceLedger
  #hashing: Hashing | undefined

  constructor(options: DiskStoreOptions) {
    this.#hasher = createFileHasher({ maxWorkers: options.hashThreads })
    this.#layout = storeLayout(options.path)
    this.#index = options.index
    this.#clock = options.clock ?? systemClock
    this.#log = options.log ?? (() => {})
    this.#limitBytes = options.limitBytes === 0 ? undefined : options.limitBytes
    this.#keepFreeBytes = options.keepFreeBytes ?? KEEP_FREE_BYTES
    this.#ledger = this.#newLedger()
    this.#open = new OpenBlobs(this.#clock)
  }

  async start(): Promise<void> {
    if (this.#hashing !== undefined) return
    // An open index means that no other agent works in this directory. Nothing is swept before that is sure.
    await this.#index.get('store')
    const hashing = await loadHashing()
    const startedAt = this.#clock.now()
    const found = await recover(this.#layout, hashing, this.#log)
    this.#complete = found.complete
    this.#partials = found.partials
    this.#quarantined = found.quarantined
    this.#unchecked = found.unchecked
    this.#ledger = this.#newLedger()
    for (const size of [...found.complete.values(), ...found.quarantined.values()]) this.#ledger.adjust(size)
    for (const partial of found.partials.values()) this.#ledger.adjust(heldBytes(partial))
    this.#hashing = hashing
    this.#log('info', 'store open', {
      blobs: this.#complete.size,
      partialBlobs: this.#partials.size,
      recoveryMs: Math.round(this.#clock.now() - startedAt),
      blake3: hashing.kind,
    })
  }

  async stop(): Promise<void> {
    if (this.#hashing === undefined) return
    this.#hashing = undefined
    await this.#queue.idle()
    await Promise.allSettled([...this.#writers.values()].map((writer) => writer?.close()))
    await this.#hasher.stop()
    this.#open.forgetAll()
    this.#headers.deleteWhere(() => true)
    this.#complete = new Map()
    this.#partials = new Map()
    this.#quarantined = new Map()
  }

  isComplete(blob: BlobId): boolean {
    return this.#complete.has(blob)
  }

  partialChunks(blob: BlobId): { readonly geometry: ChunkGeometry; readonly held: ChunkMap } | undefined {
    return this.#partials.get(blob)
  }

  async open(blob: BlobId): Promise<BlobReader | undefined> {
    this.#running()
    const sizeBytes = this.#complete.get(blob)
    if (sizeBytes === undefined) return undefined
    return this.#open.take(blob, async () => {
      const header =
        this.#headers.get(blob) ?? (await this.#queue.run(blob, () => this.#header(blob, sizeBytes)))
      return openBlobReader(this.#layout, blob, header)
    })
  }

  /** The sidecar's header. Where it is lost the file has to prove itself first, and gets a new one without vouchers. */
  async #header(blob: BlobId, sizeBytes: number): Promise<SidecarHeader> {
    const path = this.#layout.sidecar(blob)
    let header = await readSidecarHeader(path, blob)
    if (header === undefined) {
      this.#log('warn', 'record of a blob lost, hashing it again', { blob })
      const report = await this.#check(blob, sizeBytes, undefined, new AbortController().signal)
      if (!report.ok) throw new ShoalError('store-corrupt', `${blob} is not what its name says`)
      await writeSidecar(this.#layout, { blob, sizeBytes, geometry: undefined, voucher: () => undefined })
      header = await readSidecarHeader(path, blob)
      if (header === undefined) throw new ShoalError('store-failed', `the record of ${blob} cannot be read`)
    }
    this.#headers.set(blob, header)
    return header
  }

  async openPartial(blob: BlobId, geometry: ChunkGeometry): Promise<PartialBlob> {
    return this.#claim(blob, () => this.#openWriter(blob, geometry))
  }

  /** Runs `work` with the writer's place of a blob taken; given back if it fails. */
  async #claim(blob: BlobId, work: () => Promise<FilePartial>): Promise<PartialBlob> {
    this.#running()
    if (this.#writers.has(blob)) throw new ShoalError('conflict', `${blob} already has a writer`)
    this.#writers.set(blob, undefined)
    try {
      return await this.#queue.run(blob, work)
    } catch (error) {
      this.#writers.delete(blob)
      throw error
    }
  }

  async #openWriter(blob: BlobId, geometry: ChunkGeometry): Promise<FilePartial> {
    if (this.#complete.has(blob)) throw new ShoalError('conflict', `${blob} is complete already`)
    const layout = this.#layout
    const loaded = await findPartial(layout, blob, geometry, this.#log, this.#unchecked)
    const before = this.#partials.get(blob)
    const held = loaded === undefined ? 0 : sumOf(geometry, loaded.vouchers.keys())
    if (loaded === undefined) this.#forgetPartial(blob)
    else this.#ledger.adjust(held - (before === undefined ? 0 : heldBytes(before)))
    const reservation = await this.#ledger.reserve(geometry.sizeBytes - held)
    try {
      const files = await openPartialFiles(layout, blob, geometry, loaded)
      const writer = new FilePartial(blob, geometry, loaded?.vouchers ?? new Map(), {
        layout,
        paths: layout.partial(blob),
        clock: this.#clock,
        hasher: this.#hasher,
        reservation,
        ...files,
        complete: (partial) => this.#queue.run(blob, () => this.#publish(partial)),
        released: (usable) => this.#queue.run(blob, () => this.#release(blob, usable)),
      })
      this.#partials.set(blob, writer)
      this.#writers.set(blob, writer)
      return writer
    } catch (error) {
      reservation.release()
      throw error
    }
  }

  async #publish(partial: FilePartial): Promise<void> {
    const { blob, geometry } = partial
    const { data } = this.#layout.partial(blob)
    const { sizeBytes } = geometry
    const voucher = (index: number) => partial.voucher(index)
    await publishFile(this.#layout, data, { blob, sizeBytes, geometry, voucher })
    this.#headers.delete(blob)
    this.#complete.set(blob, sizeBytes)
    this.#partials.delete(blob)
    await dropPartial(this.#layout, blob)
  }

  /** A writer is gone: its blob is complete, or partial again, or given up. */
  async #release(blob: BlobId, usable: boolean): Promise<void> {
    this.#writers.delete(blob)
    if (this.#complete.has(blob)) return
    const thereStill = await lstat(this.#layout.partial(blob).data).catch(() => undefined)
    if (usable && thereStill !== undefined) return
    this.#log('error', 'partial blob given up', { blob })
    this.#forgetPartial(blob)
    await dropPartial(this.#layout, blob)
  }

  #forgetPartial(blob: BlobId): void {
    const partial = this.#partials.get(blob)
    if (partial === undefined) return
    this.#ledger.adjust(-heldBytes(partial))
    this.#partials.delete(blob)
  }

  async put(blob: BlobId, bytes: Uint8Array): Promise<void> {
    this.#running()
    const { algorithm, hex } = blobParts(blob)
    if (blobDigest(algorithm, bytes) !== hex)
      throw new ShoalError('blob-corrupt', `${bytes.byteLength} bytes are not ${blob}`)
    await this.#queue.run(blob, async () => {
      if (this.#complete.has(blob)) return
      if (this.#writers.has(blob)) throw new ShoalError('conflict', `${blob} already has a writer`)
      const reservation = await this.#ledger.reserve(bytes.byteLength)
      try {
        await this.#putFile(blob, bytes)
        reservation.spend(bytes.byteLength)
      } finally {
        reservation.release()
      }
      this.#complete.set(blob, bytes.byteLength)
      this.#forgetPartial(blob)
      await dropPartial(this.#layout, blob)
    })
  }

  async #putFile(blob: BlobId, bytes: Uint8Array): Promise<void> {
    const draft = join(this.#layout.temp, crypto.randomUUID())
    try {
      const handle = await open(draft, 'wx', FILE_MODE)
      try {
        await handle.writeFile(bytes)
      } finally {
        await handle.close()
      }
      const facts = { blob, sizeBytes: bytes.byteLength, geometry: undefined, voucher: () => undefined }
      await publishFile(this.#layout, draft, facts)
    } catch (error) {
      await rm(draft, { force: true })
      throw storeError(`write ${blob}`, error)
    }
  }

  async remove(blob: BlobId): Promise<boolean> {
    this.#running()
    return this.#queue.run(blob, async () => {
      if (this.#writers.has(blob)) throw new ShoalError('conflict', `${blob} is being written`)
      const size = this.#complete.get(blob)
      const aside = this.#quarantined.get(blob)
      const partial = this.#partials.get(blob)
      if (size === undefined && aside === undefined && partial === undefined) return false
      if (size !== undefined) await removeFiles(this.#layout, blob)
      this.#forgetComplete(blob)
      await dropPartial(this.#layout, blob)
      this.#forgetPartial(blob)
      await dropQuarantined(this.#layout, blob)
      this.#forgetQuarantined(blob)
      return true
    })
  }

  #forgetComplete(blob: BlobId): void {
    this.#open.forget(blob)
    this.#headers.delete(blob)
    this.#ledger.adjust(-(this.#complete.get(blob) ?? 0))
    this.#complete.delete(blob)
  }

  #forgetQuarantined(blob: BlobId): void {
    this.#ledger.adjust(-(this.#quarantined.get(blob) ?? 0))
    this.#quarantined.delete(blob)
  }

  async verify(blob: BlobId, signal: AbortSignal): Promise<VerifyReport> {
    this.#running()
    const sizeBytes = this.#sizeOf(blob)
    const header = await readSidecarHeader(this.#layout.sidecar(blob), blob)
    const report = await this.#check(blob, header?.sizeBytes ?? sizeBytes, header, signal)
    this.#sizeOf(blob)
    return report
  }

  #check(
    blob: BlobId,
    sizeBytes: number,
    header: SidecarHeader | undefined,
    signal: AbortSignal,
  ): Promise<VerifyReport> {
    return checkBlob(this.#layout, this.#running(), this.#hasher, blob, sizeBytes, header, signal)
  }

  #sizeOf(blob: BlobId): number {
    const sizeBytes = this.#complete.get(blob)
    if (sizeBytes === undefined) throw new ShoalError('not-found', `${blob} is not complete on this host`)
    return sizeBytes
  }

  async quarantine(blob: BlobId, badChunks: readonly number[]): Promise<void> {
    this.#running()
    await this.#queue.run(blob, async () => {
      const sizeBytes = this.#sizeOf(blob)
      await setAside(this.#layout, blob, badChunks)
      this.#log('warn', 'blob set aside', { blob, badChunks: badChunks.length })
      this.#forgetQuarantined(blob)
      this.#forgetComplete(blob)
      this.#quarantined.set(blob, sizeBytes)
      this.#ledger.adjust(sizeBytes)
    })
  }

  async reopenAsPartial(
    blob: BlobId,
    geometry: ChunkGeometry,
    badChunks: readonly number[],
  ): Promise<PartialBlob> {
    return this.#claim(blob, async () => {
      const from = this.#complete.has(blob) ? 'blobs' : 'quarantine'
      if (from === 'quarantine' && !this.#quarantined.has(blob)) this.#sizeOf(blob)
      this.#forgetPartial(blob)
      await moveToPartial(this.#layout, blob, from, geometry, badChunks)
      this.#forgetComplete(blob)
      this.#forgetQuarantined(blob)
      return this.#openWriter(blob, geometry)
    })
  }

  list(): readonly BlobRecord[] {
    const complete = [...this.#complete].map(([blob, sizeBytes]) => ({
      blob,
      sizeBytes,
      heldBytes: sizeBytes,
      complete: true,
    }))
    const partial = [...this.#partials].map(([blob, stored]) => ({
      blob,
      sizeBytes: stored.geometry.sizeBytes,
      heldBytes: heldBytes(stored),
      complete: false,
    }))
    return [...complete, ...partial]
  }

  async usage(): Promise<StoreUsage> {
    this.#running()
    const { usedBytes, reservedBytes } = this.#ledger
    return {
      usedBytes,
      reservedBytes,
      limitBytes: this.#limitBytes,
      freeBytes: await this.#ledger.freeBytes(),
    }
  }

  #newLedger(): SpaceLedger {
    const limits = { limitBytes: this.#limitBytes, keepFreeBytes: this.#keepFreeBytes }
    return createSpaceLedger(limits, async () => {
      const { bavail, bsize } = await statfs(this.#layout.root)
      return bavail * bsize
    })
  }

  #running(): Hashing {
    if (this.#hashing === undefined) throw new ShoalError('not-running', 'the store is not open')
    return this.#hashing
  }
}
