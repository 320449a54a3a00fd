// One blob arriving: asks the plan, flies chunks, proves and stores them, tells readers and peers, checks the whole. The plan
// decides; this file only does. Readers stand in transfer-reader.ts, flights in chunk-flights.ts, blame in suspects.ts.
import { type ChunkGeometry, type ChunkMap, chunkLength } from '@shoal/protocol/chunks.ts'
import { asShoalError, errorRow, isAbort, messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import type { BlobId, PeerId } from '@shoal/protocol/ids.ts'
import type { ChunkVoucher, HaveAnswer, ReadGrant } from '@shoal/protocol/messages.ts'
import { createTasks, type Tasks } from '@shoal/protocol/service.ts'
import type { BlobProgress, WantedFile } from '../downloads-port.ts'
import { DownloadPlan, ORIGIN } from '../plan/download-plan.ts'
import { BAN_MS } from '../plan/source-score.ts'
import type { ChunkSource } from '../sources/source.ts'
import type { PartialBlob } from '../store/blob-store.ts'
import { ChunkFlights, type Flight } from './chunk-flights.ts'
import { EarlyBytes } from './early-bytes.ts'
import { PlanFeed } from './plan-feed.ts'
import { PlanLoop } from './plan-loop.ts'
import type { SwarmMember } from './swarm.ts'
import type { TransferDeps } from './transfer-deps.ts'
import { WholeCheck } from './whole-check.ts'

/** How long peers may take to say what they hold before the origin is asked. */
const PEER_GRACE_MS = 250
/** A download that gained nothing for so long, while its sources fail, is given up. */
export const GIVE_UP_MS = 60_000
/** Most chunks whose claims are told in one answer. */
const MAX_CLAIMS = 256

export type TransferState = 'starting' | 'running' | 'verifying' | 'complete' | 'failed' | 'cancelled'

export class Transfer implements SwarmMember {
  readonly blob: BlobId
  readonly geometry: ChunkGeometry
  readonly file: WantedFile
  readonly feed: PlanFeed
  readonly #deps: TransferDeps
  readonly #origin: ChunkSource
  readonly #tasks: Tasks
  readonly #flights: ChunkFlights
  readonly #check: WholeCheck
  readonly #early = new EarlyBytes()
  readonly #watchers = new Set<() => void>()
  readonly #wrongListeners = new Set<(error: ShoalError) => void>()
  readonly #moved = { originBytes: 0, peerBytes: 0, diskBytes: 0 }
  #plan: DownloadPlan | undefined
  #partial: PartialBlob | undefined
  #state: TransferState = 'starting'
  #whole = false
  #wrongBytesReleased = false
  #error: ShoalError | undefined
  #lastSourceError: ShoalError | undefined
  #lastGainAt = 0
  #loop: PlanLoop | undefined

  /** @param origin the Hub as a source for this file */
  constructor(file: WantedFile, geometry: ChunkGeometry, origin: ChunkSource, deps: TransferDeps) {
    this.file = file
    this.blob = file.entry.blob
    this.geometry = geometry
    this.#origin = origin
    this.#deps = deps
    this.#tasks = createTasks(deps.onFailure)
    this.feed = new PlanFeed(deps.clock, () => this.#loop?.pump())
    this.#check = new WholeCheck(this.blob, file.entry.path, {
      log: deps.log,
      vouchers: deps.vouchers,
      peerOfKey: deps.peerOfKey,
      wrong: (error) => this.#wrong(error),
      liar: (peer) => this.#liar(peer),
      discarded: (indices) => this.#discarded(indices),
    })
    this.#flights = new ChunkFlights(this.blob, geometry, deps.buffers, {
      source: (id) => (id === ORIGIN ? this.#origin : deps.peer(id as PeerId)),
      progressed: (flight, bytes) => this.#progressed(flight, bytes),
      arrived: (flight, voucher) => this.#arrived(flight, voucher),
      failed: (flight, error) => this.#failed(flight, error),
      troubled: () => this.#changed(),
      over: ({ assignment: { index }, buffer }) => this.#early.flightOver(index, buffer, this.has(index)),
    })
  }

  // --- what the downloader uses ---------------------------------------------------------------------------------

  get state(): TransferState {
    return this.#state
  }

  get error(): ShoalError | undefined {
    return this.#error
  }

  get over(): boolean {
    return this.#state === 'complete' || this.#state === 'failed' || this.#state === 'cancelled'
  }

  get whole(): boolean {
    return this.#whole
  }

  /** The digest of the whole failed after readers had been given bytes. */
  get wrongBytesReleased(): boolean {
    return this.#wrongBytesReleased
  }

  /** Some byte of it is here or on its way. */
  get moving(): boolean {
    return (this.#partial?.held.held ?? 0) > 0 || this.#flights.moving
  }

  /** Why nothing arrives: the last failure, when no peer holds anything and nothing that is on its way moves. */
  get stuckBecause(): ShoalError | undefined {
    if ((this.#plan?.peerCount() ?? 0) > 0) return undefined
    return this.#flights.count === 0 ? this.#lastSourceError : this.#flights.trouble
  }

  /** @throws ShoalError `store-full` | `conflict` | `store-*` */
  async start(): Promise<void> {
    try {
      this.#partial = await this.#deps.store.openPartial(this.blob, this.geometry)
    } catch (error) {
      this.#end('failed', asShoalError(error) ?? new ShoalError('store-failed', messageOf(error), {}, error))
      throw error
    }
    this.#moved.diskBytes = heldBytes(this.#partial.held, this.geometry)
    this.#lastGainAt = this.#deps.clock.now()
    this.#tasks.run('download', (signal) => this.#run(signal))
  }

  /** From now on every chunk is wanted, and this host takes its share of the origin's. */
  fetchWhole(): void {
    if (this.#whole) return
    this.#whole = true
    this.#plan?.fetchWhole()
    this.#loop?.pump()
  }

  progress(): BlobProgress {
    const { file, blob, geometry } = this
    const held = this.#partial === undefined ? 0 : heldBytes(this.#partial.held, geometry)
    return {
      blob,
      repo: file.manifest.repo,
      path: file.entry.path,
      sizeBytes: geometry.sizeBytes,
      heldBytes: this.#state === 'complete' ? geometry.sizeBytes : held,
      state: this.#state === 'starting' ? 'running' : this.#state,
      peers: this.#plan?.peerCount() ?? 0,
      error: this.#error?.message,
      ...this.#moved,
    }
  }

  /** Calls `wake` after every change; the returned function stops that. */
  watch(wake: () => void): () => void {
    this.#watchers.add(wake)
    return () => this.#watchers.delete(wake)
  }

  /** Calls `fail` when bytes that readers were given turned out wrong. */
  onWrong(fail: (error: ShoalError) => void): () => void {
    this.#wrongListeners.add(fail)
    return () => this.#wrongListeners.delete(fail)
  }

  /** Ends it. Chunks stay on disk for the next time. */
  async stop(): Promise<void> {
    this.#end('cancelled', new ShoalError('aborted', 'the download was stopped'))
    await this.#tasks.stop()
    const partial = this.#partial
    this.#partial = undefined
    if (partial !== undefined && this.#state !== 'complete') await partial.close()
  }

  // --- what readers and uploads use -------------------------------------------------------------------------------

  /** What may be read from; undefined when the download is over. */
  get partial(): PartialBlob | undefined {
    return this.over ? undefined : this.#partial
  }

  has(index: number): boolean {
    return this.#partial?.held.has(index) === true
  }

  inFlight(index: number): boolean {
    return this.#flights.has(index)
  }

  /** The chunk as it is arriving from the origin. Its buffer is valid only until the caller next awaits. */
  arriving(index: number): Flight | undefined {
    return this.#flights.fromOrigin(index)
  }

  /** A reader was given the first `bytes` of a chunk before it was stored. */
  releasedEarly(index: number, bytes: number): void {
    this.#early.gave(index, bytes)
  }

  answer(): HaveAnswer {
    const held = this.over ? undefined : this.#partial?.held
    const some = held !== undefined && held.held > 0
    return {
      state: some ? 'partial' : 'none',
      wanting: this.#whole && !this.over,
      held: some ? held.encode() : undefined,
      claimed: this.#plan?.originClaims().slice(0, MAX_CLAIMS) ?? [],
    }
  }

  // --- SwarmMember ----------------------------------------------------------------------------------------------------

  get geometryText(): string {
    return this.geometry.text
  }

  get chunkCount(): number {
    return this.geometry.chunkCount
  }

  grant(): ReadGrant | undefined {
    return this.#deps.rights.grantFor(this.file.manifest)
  }

  wantsWhole(): boolean {
    return this.#whole
  }

  // --- the loop ---------------------------------------------------------------------------------------------------------

  async #run(signal: AbortSignal): Promise<void> {
    const partial = this.#partial
    if (partial === undefined) return
    await this.#deps.swarm.join(this, PEER_GRACE_MS, signal)
    if (this.over) return
    const { clock, buffers } = this.#deps
    const plan = new DownloadPlan(
      {
        blob: this.blob,
        self: this.#deps.self,
        held: partial.held,
        whole: this.#whole,
        originDepth: this.#deps.originDepth,
        totalDepth: this.#deps.totalDepth,
        originNotBefore: clock.now(),
      },
      this.#deps.scores,
    )
    this.#plan = plan
    this.#loop = new PlanLoop(plan, clock, buffers, {
      flightCount: () => this.#flights.count,
      start: (assignment) => this.#tasks.run('fetch a chunk', (stop) => this.#fly(assignment, stop)),
      cancel: (id) => this.#flights.cancel(id, 'its source makes no progress'),
      complete: () => this.#verifyOnce(),
      stuck: (hopeless) => this.#stuck(clock.now() - this.#lastGainAt, hopeless),
    })
    this.#state = 'running'
    this.feed.attach(plan)
    this.#changed()
    this.#loop.pump()
  }

  async #fly(assignment: Parameters<ChunkFlights['fly']>[0], signal: AbortSignal): Promise<void> {
    this.#deps.log.debug({ blob: this.blob, ...assignment }, 'a chunk is asked for')
    await this.#flights.fly(assignment, signal)
    this.#changed()
    this.#loop?.pump()
  }

  #stuck(idleMs: number, hopeless: boolean): boolean {
    const idle = this.#lastSourceError !== undefined && idleMs > GIVE_UP_MS
    if (!idle && !hopeless) return false
    const { path } = this.file.entry
    this.#end('failed', this.#lastSourceError ?? new ShoalError('no-source', `nobody has ${path} just now`))
    return true
  }

  // --- what happens to flights ------------------------------------------------------------------------------------------

  #progressed({ assignment, fromOrigin }: Flight, bytes: number): void {
    if (fromOrigin) this.#moved.originBytes += bytes
    else this.#moved.peerBytes += bytes
    this.#deps.counters.bytes(fromOrigin ? 'origin' : 'peer', bytes)
    this.#plan?.progress(assignment.id, this.#deps.clock.now())
    if (fromOrigin) this.#changed()
  }

  async #arrived({ assignment, buffer, fromOrigin }: Flight, given: ChunkVoucher | undefined): Promise<void> {
    const partial = this.#partial
    if (partial === undefined) return
    const { id, index } = assignment
    const { vouchers, counters } = this.#deps
    if (partial.held.has(index)) {
      counters.chunk('duplicate', 1)
      this.#stored(id, index, buffer.byteLength)
      return
    }
    const place = { blob: this.blob, geometry: this.geometry, index }
    const voucher = fromOrigin ? vouchers.make(place, buffer) : vouchers.check(place, buffer, given)
    if (fromOrigin) await this.#check.provenByOrigin(partial, index, voucher)
    else this.#check.checkWord(index, voucher)
    if (!this.#early.agrees(index, buffer))
      this.#wrong(new ShoalError('blob-corrupt', `chunk ${index} is not what was read of it before`))
    await partial.write(index, buffer, voucher)
    counters.chunk('verified', 1)
    this.#lastGainAt = this.#deps.clock.now()
    this.#stored(id, index, buffer.byteLength)
    this.#deps.swarm.gained(this.blob, index)
  }

  #stored(id: number, index: number, bytes: number): void {
    for (const other of this.#plan?.stored(id, bytes, this.#deps.clock.now()) ?? [])
      this.#flights.cancel(other, `another source brought chunk ${index}`)
    this.#changed()
  }

  #failed({ assignment, fromOrigin }: Flight, error: unknown): void {
    const known = asShoalError(error)
    if (known === undefined && !isAbort(error)) throw error
    const failure = known ?? new ShoalError('aborted', messageOf(error), {}, error)
    const { id, index, source } = assignment
    const { log, clock } = this.#deps
    const row = errorRow(failure.code)
    log.debug(
      { blob: this.blob, index, source, code: failure.code, reason: failure.message },
      'a chunk was not brought',
    )
    if (row.blame === 'self') {
      this.#plan?.failed(id, 'aborted', clock.now())
      this.#end('failed', failure)
      return
    }
    this.#lastSourceError = failure
    if (failure.code === 'chunk-corrupt') this.#deps.counters.chunk('corrupt', 1)
    const banned = this.#plan?.failed(id, failure.code, clock.now()) === true
    if (fromOrigin) {
      // It will never give the file (gated, gone): peers may still bring what is missing.
      if (row.retry === 'never' && failure.code !== 'aborted') this.#plan?.setOrigin(false)
    } else if (banned) {
      log.warn(
        { peer: source, blob: this.blob, index, reason: failure.message },
        'a peer broke its word and is banned',
      )
      this.#deps.ban(source as PeerId, BAN_MS, failure.message)
      this.feed.removePeer(source as PeerId)
    }
  }

  // --- the whole ----------------------------------------------------------------------------------------------------------

  #verifyOnce(): void {
    if (this.#state !== 'running') return
    this.#state = 'verifying'
    this.#changed()
    this.#tasks.run('verify', (signal) => this.#verify(signal))
  }

  async #verify(signal: AbortSignal): Promise<void> {
    const partial = this.#partial
    if (partial === undefined) return
    try {
      if ((await this.#check.finish(partial, signal)) === 'complete') this.#end('complete', undefined)
      else if (this.#state === 'verifying') {
        this.#state = 'running'
        this.#loop?.pump()
      }
    } catch (error) {
      if (signal.aborted || isAbort(error)) return
      const failure = asShoalError(error)
      if (failure === undefined) throw error
      this.#end('failed', failure)
    }
  }

  #liar(peer: PeerId): void {
    const { scores, clock, ban } = this.#deps
    scores.failure(peer, 'chunk-corrupt', clock.now())
    ban(peer, BAN_MS, 'it vouched for wrong bytes')
    this.feed.removePeer(peer)
  }

  #discarded(indices: readonly number[]): void {
    this.#deps.counters.chunk('corrupt', indices.length)
    this.#plan?.discarded(indices)
    this.#changed()
    this.#loop?.pump()
  }

  #wrong(error: ShoalError): void {
    this.#wrongBytesReleased = true
    for (const tell of [...this.#wrongListeners]) tell(error)
  }

  #end(state: 'complete' | 'failed' | 'cancelled', error: ShoalError | undefined): void {
    if (this.over) return
    this.#state = state
    this.#error = error
    this.#loop?.stop()
    this.#flights.cancelAll('the download is over')
    this.#deps.swarm.leave(this.blob, state === 'complete')
    if (state === 'failed') {
      const { path } = this.file.entry
      this.#deps.log.warn(
        { blob: this.blob, path, code: error?.code, reason: error?.message },
        'a download failed',
      )
    }
    this.#changed()
  }

  #changed(): void {
    for (const wake of [...this.#watchers]) wake()
  }
}

function heldBytes(held: ChunkMap, geometry: ChunkGeometry): number {
  if (geometry.chunkCount === 0) return 0
  const full = chunkLength(geometry, 0)
  const last = geometry.chunkCount - 1
  return held.held * full - (held.has(last) ? full - chunkLength(geometry, last) : 0)
}
