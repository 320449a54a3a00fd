// The Downloads port: opens files for reading and fetches whole ones, one transfer a blob whoever asks and however many. Starts
// transfers, lets them linger for a client that comes back, rests those that are paused, stops them. What a transfer does is its own.
import { type ByteRange, chunksOf, fixedSlices } from '@shoal/protocol/chunks.ts'
import { messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import { type BlobId, type PeerId, repoKey } from '@shoal/protocol/ids.ts'
import type { ReadGrant } from '@shoal/protocol/messages.ts'
import { createTasks, type Service, type Tasks } from '@shoal/protocol/service.ts'
import { abortError, deadline, throwIfAborted } from '@shoal/protocol/time.ts'
import { type BlobUse, BlobUses } from './blob-uses.ts'
import type { BlobProgress, Downloads, FetchWish, FileReader, WantedFile } from './downloads-port.ts'
import { originsOf, progressOnDisk } from './file-origins.ts'
import { type MemoryUser, roomFor } from './plan/download-queue.ts'
import { ShownFiles } from './shown-files.ts'
import type { Hub } from './sources/hub.ts'
import type { ChunkSource } from './sources/source.ts'
import type { HubView } from './store/view.ts'
import { SuspectPrefixes } from './suspect-prefixes.ts'
import { CallerTokens, withTokens } from './transfer/caller-tokens.ts'
import { Transfer } from './transfer/transfer.ts'
import type { TransferDeps } from './transfer/transfer-deps.ts'
import { newReaderId, PIECE_BYTES, readTransfer } from './transfer/transfer-reader.ts'
import { YieldingBuffers } from './transfer/yielding-buffers.ts'

/** A download whose last reader left goes on for so long: clients come back after a broken connection. */
const LINGER_MS = 10_000
/** Longest wait for a first sign of life of a download before its reader is handed out. */
const FIRST_SIGN_MS = 1_000
/** A range at least this long makes the whole file be fetched. */
const WHOLE_FROM_BYTES = 32 * 1024 * 1024

export interface DownloaderDeps extends Omit<TransferDeps, 'peer' | 'wrongBytes'> {
  /** A peer as a source; `grant` lets it give us files that are not public. */
  readonly peerSource: (peer: PeerId, grant: () => ReadGrant | undefined) => ChunkSource
  readonly hub: Pick<Hub, 'source'>
  readonly view: Pick<HubView, 'link' | 'setRef'>
  /** The host's own Hub token, for what its operator asked for. */
  readonly operatorToken: () => string | undefined
  readonly diskBytesRead: (bytes: number) => void
  /** How blobs are cut. Hosts that cut otherwise have nothing for each other. */
  readonly chunkBytes?: number
  /** Larger files are refused. */
  readonly maxFileBytes?: number | undefined
}

interface Running {
  readonly transfer: Transfer
  readonly tokens: CallerTokens
  readonly uses: BlobUses
  cancelLinger: () => void
}

export class Downloader implements Downloads, Service {
  readonly name = 'downloader'
  readonly #deps: DownloaderDeps
  readonly #running = new Map<BlobId, Running>()
  readonly #suspects: SuspectPrefixes
  readonly #shown: ShownFiles
  #tasks: Tasks | undefined

  constructor(deps: DownloaderDeps) {
    this.#deps = deps
    this.#shown = new ShownFiles(deps.view)
    this.#suspects = new SuspectPrefixes(deps.clock)
  }

  async start(): Promise<void> {
    this.#tasks ??= createTasks(this.#deps.onFailure)
  }

  async stop(): Promise<void> {
    const tasks = this.#tasks
    this.#tasks = undefined
    const running = [...this.#running.values()]
    this.#running.clear()
    for (const { cancelLinger } of running) cancelLinger()
    await Promise.all(running.map(({ transfer }) => transfer.stop()))
    await tasks?.stop()
  }

  async open(file: WantedFile, first?: ByteRange): Promise<FileReader> {
    const { blob, sizeBytes } = file.entry
    if (sizeBytes === 0) await this.#putEmpty(file)
    for (;;) {
      if (this.#deps.store.isComplete(blob)) {
        const reader = await this.#openComplete(file)
        if (reader !== undefined) return reader
      }
      const use = { kind: 'read' as const, whole: first !== undefined && this.#meansWhole(file, first) }
      const running = await this.#join(file, use)
      if (running !== undefined) return this.#openArriving(file, running, use, first)
    }
  }

  async fetch(file: WantedFile, { signal, onProgress, priority = 'pull' }: FetchWish): Promise<BlobProgress> {
    throwIfAborted(signal)
    if (file.entry.sizeBytes === 0) await this.#putEmpty(file)
    const use: BlobUse = { kind: 'fetch', priority }
    const running = await this.#join(file, use)
    if (running === undefined) {
      await this.#shown.show(file)
      return progressOnDisk(file)
    }
    const { transfer } = running
    try {
      await over(transfer, signal, onProgress)
      if (transfer.state !== 'complete')
        throw transfer.error ?? new ShoalError('no-source', 'the download ended without the file')
      await this.#shown.show(file)
      return transfer.progress()
    } finally {
      this.#leave(running, use)
    }
  }

  hold({ entry }: WantedFile): () => void {
    const running = this.#running.get(entry.blob)
    if (running === undefined || running.transfer.over) return () => {}
    const use: BlobUse = { kind: 'hold' }
    running.uses.add(use)
    running.cancelLinger()
    return () => this.#leave(running, use)
  }

  active(): readonly BlobProgress[] {
    return [...this.#running.values()]
      .filter(({ transfer }) => !transfer.over)
      .map(({ transfer, uses }) => {
        const progress = transfer.progress()
        const state = uses.isPaused && progress.state === 'running' ? 'paused' : progress.state
        return { ...progress, state, priority: uses.priority }
      })
  }

  /** The transfer of a blob that is arriving now: what peers are answered from. */
  arriving(blob: BlobId): Transfer | undefined {
    const transfer = this.#running.get(blob)?.transfer
    return transfer === undefined || transfer.over ? undefined : transfer
  }

  // --- transfers ------------------------------------------------------------------------------------------------------

  /** The download of a blob, for one more use. undefined: the blob is complete. */
  async #join(file: WantedFile, use: BlobUse): Promise<Running | undefined> {
    const { blob } = file.entry
    for (;;) {
      const tasks = this.#tasks
      if (tasks === undefined) throw new ShoalError('not-running', 'the agent is stopping')
      const { maxFileBytes } = this.#deps
      if (maxFileBytes !== undefined && file.entry.sizeBytes > maxFileBytes) {
        const { path, sizeBytes } = file.entry
        throw new ShoalError(
          'too-large',
          `${path} has ${sizeBytes} bytes; security.max_file_size_gb allows ${maxFileBytes}`,
        )
      }
      const known = this.#running.get(blob)
      if (known === undefined) {
        if (this.#deps.store.isComplete(blob)) return undefined
        return this.#begin(file, use, tasks)
      }
      if (!known.transfer.over) {
        known.uses.add(use)
        known.cancelLinger()
        this.#lendToken(file, known)
        if (isWhole(use)) known.transfer.fetchWhole()
        return known
      }
      await known.transfer.stop()
      if (this.#running.get(blob) === known) this.#running.delete(blob)
    }
  }

  async #begin(file: WantedFile, use: BlobUse, tasks: Tasks): Promise<Running> {
    const { blob } = file.entry
    const { peerSource, hub, rights } = this.#deps
    const geometry = fixedSlices(file.entry.sizeBytes, this.#deps.chunkBytes)
    const tokens = new CallerTokens(this.#tokenOf(file))
    const origin = hub.source(
      { repo: file.manifest.repo, commit: file.manifest.commit, entry: file.entry },
      () => tokens.current,
    )
    const uses = new BlobUses()
    uses.add(use)
    const transfer = new Transfer(file, geometry, withTokens(origin, tokens), {
      ...this.#deps,
      buffers: new YieldingBuffers(this.#deps.buffers, (room) =>
        roomFor(uses.priority, this.#memoryUsers(blob), room),
      ),
      peer: (peer: PeerId) => peerSource(peer, () => rights.grantFor(file.manifest)),
      wrongBytes: (wrong) => this.#suspects.add(wrong),
    })
    if (isWhole(use)) transfer.fetchWhole()
    const running: Running = { transfer, tokens, uses, cancelLinger: () => {} }
    this.#running.set(blob, running)
    try {
      await transfer.start()
    } catch (error) {
      await transfer.stop()
      if (this.#running.get(blob) === running) this.#running.delete(blob)
      throw error
    }
    tasks.run('finish a download', () => this.#finish(file, running))
    return running
  }

  #tokenOf({ caller }: WantedFile): string | undefined {
    return caller.kind === 'operator' ? this.#deps.operatorToken() : caller.token
  }

  /** Only to a download of the same repo: another repo's callers passed another gate. */
  #lendToken(file: WantedFile, { transfer, tokens }: Running): void {
    if (repoKey(file.manifest.repo) === repoKey(transfer.file.manifest.repo)) tokens.add(this.#tokenOf(file))
  }

  async #finish(file: WantedFile, running: Running): Promise<void> {
    const { transfer } = running
    const startedAt = this.#deps.clock.now()
    await over(transfer, new AbortController().signal)
    if (transfer.state === 'complete' || transfer.state === 'failed')
      this.#deps.counters.download(transfer.state, (this.#deps.clock.now() - startedAt) / 1000)
    if (transfer.state === 'complete')
      await this.#shown.show(file).catch((error: unknown) => this.#notShown(file, error))
    await transfer.stop()
    running.cancelLinger()
    if (this.#running.get(transfer.blob) === running) this.#running.delete(transfer.blob)
  }

  /** Ends the download of a blob that is to be removed, whoever reads it. */
  async abandon(blob: BlobId): Promise<void> {
    await this.#running.get(blob)?.transfer.stop()
  }

  /** The downloads of other blobs. */
  *#memoryUsers(except: BlobId): Generator<MemoryUser> {
    for (const [blob, { transfer, uses }] of this.#running)
      if (blob !== except) yield { priority: uses.priority, busy: !transfer.over && transfer.counts.busy }
  }

  #leave(running: Running, use: BlobUse): void {
    if (!running.uses.delete(use) || running.transfer.over) return
    if (running.uses.isPaused) running.transfer.rest()
    if (running.uses.count > 0) return
    running.cancelLinger()
    running.cancelLinger = this.#deps.clock.after(LINGER_MS, () => {
      if (running.uses.count === 0) this.#tasks?.run('stop a download', () => running.transfer.stop())
    })
  }

  /**
   * A download that cannot give the first byte and whose every source has failed: better an answer than a silent stream.
   * @param index the chunk that is read first
   */
  async #firstSign(transfer: Transfer, index: number): Promise<void> {
    using limit = deadline(this.#deps.clock, FIRST_SIGN_MS, () => new ShoalError('aborted', 'no sign yet'))
    const isSign = () => transfer.over || transfer.isMoving(index) || transfer.stuckBecause !== undefined
    await watched(transfer, limit.signal, isSign)
    if (transfer.state === 'complete') return
    const why = transfer.over
      ? (transfer.error ?? new ShoalError('no-source', 'the download ended without the file'))
      : transfer.stuckBecause
    if (why !== undefined && (transfer.over || !transfer.isMoving(index))) throw why
  }

  // --- readers --------------------------------------------------------------------------------------------------------

  async #openArriving(
    file: WantedFile,
    running: Running,
    use: Extract<BlobUse, { kind: 'read' }>,
    first: ByteRange | undefined,
  ): Promise<FileReader> {
    const { transfer } = running
    const ahead = newReaderId()
    if (first !== undefined && first.end > first.start) {
      const { first: from, afterLast } = chunksOf(transfer.geometry, first)
      transfer.feed.want(ahead, from, afterLast)
      try {
        await this.#firstSign(transfer, from)
      } catch (error) {
        transfer.feed.unwant(ahead)
        this.#leave(running, use)
        throw error
      }
    }
    // Taken together: what goes wrong after the one is noticed by the other.
    const suspectPrefix = this.#suspects.has(transfer.blob)
    const wrongsBefore = transfer.wrong.times
    return {
      sizeBytes: transfer.geometry.sizeBytes,
      suspectPrefix,
      from: originsOf(transfer.progress()),
      bytes: (range, signal) => {
        transfer.feed.unwant(ahead)
        if (this.#meansWhole(file, range)) {
          use.whole = true
          transfer.fetchWhole()
        }
        return readTransfer(transfer, this.#deps.store, range, signal, wrongsBefore, this.#deps.clock)
      },
      close: async () => {
        transfer.feed.unwant(ahead)
        this.#leave(running, use)
      },
    }
  }

  /**
   * Reading this range means that the whole file is worth having: it is long, or it is the rest of what was read here before, and
   * then its end may not be given before the whole is proven.
   */
  #meansWhole({ entry }: WantedFile, { start, end }: ByteRange): boolean {
    const { blob, sizeBytes } = entry
    if (end - start >= Math.min(sizeBytes, WHOLE_FROM_BYTES)) return true
    const stored = start < end ? this.#deps.store.partialChunks(blob) : undefined
    return (
      end === sizeBytes &&
      stored !== undefined &&
      stored.held.firstMissing() >= stored.geometry.indexAt(start)
    )
  }

  async #openComplete(file: WantedFile): Promise<FileReader | undefined> {
    const blob = await this.#deps.store.open(file.entry.blob)
    if (blob === undefined) return undefined
    await this.#shown.show(file).catch((error: unknown) => this.#notShown(file, error))
    const read = async (target: Uint8Array, position: number) => {
      await blob.read(target, position)
      this.#deps.diskBytesRead(target.byteLength)
    }
    return {
      sizeBytes: blob.sizeBytes,
      suspectPrefix: this.#suspects.has(file.entry.blob),
      from: 'disk',
      bytes: async function* (range, signal) {
        for (let position = range.start; position < range.end; ) {
          if (signal.aborted) throw abortError(signal)
          const piece = Buffer.allocUnsafe(Math.min(PIECE_BYTES, range.end - position))
          await read(piece, position)
          position += piece.byteLength
          yield piece
        }
      },
      read,
      close: () => blob.close(),
    }
  }

  async #putEmpty(file: WantedFile): Promise<void> {
    if (!this.#deps.store.isComplete(file.entry.blob))
      await this.#deps.store.put(file.entry.blob, new Uint8Array())
  }

  /** A repo was removed: what is shown of it in the Hub view must be made anew. */
  forgetShown(): void {
    this.#shown.forget()
  }

  /** The bytes are here all the same. */
  #notShown(file: WantedFile, error: unknown): void {
    this.#deps.log.warn({ path: file.entry.path, reason: messageOf(error) }, 'a file is not in the Hub view')
  }
}

function isWhole(use: BlobUse): boolean {
  return use.kind === 'fetch' || (use.kind === 'read' && use.whole)
}

/** Resolves when the transfer has ended, however. @throws the signal's reason */
async function over(
  transfer: Transfer,
  signal: AbortSignal,
  onProgress?: (progress: BlobProgress) => void,
): Promise<void> {
  await watched(transfer, signal, () => {
    onProgress?.(transfer.progress())
    return transfer.over
  })
  if (!transfer.over) throw abortError(signal)
}

/** Resolves as soon as `until` holds after some change, or when the signal fires. */
function watched(transfer: Transfer, signal: AbortSignal, until: () => boolean): Promise<void> {
  if (signal.aborted || until()) return Promise.resolve()
  return new Promise((resolve) => {
    const done = () => {
      stop()
      signal.removeEventListener('abort', done)
      resolve()
    }
    const stop = transfer.watch(() => {
      if (until()) done()
    })
    signal.addEventListener('abort', done, { once: true })
  })
}
