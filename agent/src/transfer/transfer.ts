// One blob arriving: asks the plan, flies chunks, proves and stores them, tells readers and peers, checks the whole. The plan
// decides; this file only does. Readers stand in transfer-reader.ts, flights in chunk-flights.ts, blame in suspects.ts.
import type { ChunkGeometry } from '@shoal/protocol/chunks.ts'
import { asShoalError, errorRow, isAbort, messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import type { BlobId, PeerId } from '@shoal/protocol/ids.ts'
import type { ReadGrant } from '@shoal/protocol/messages.ts'
import { createTasks, type Tasks } from '@shoal/protocol/service.ts'
import type { BlobProgress, WantedFile } from '../downloads-port.ts'
import { type DownloadPlan, ORIGIN } from '../plan/download-plan.ts'
import { BAN_MS } from '../plan/source-score.ts'
import type { ChunkSource, FetchedChunk } from '../sources/source.ts'
import type { PartialBlob } from '../store/blob-store.ts'
import { Arrivals } from './arrivals.ts'
import { isRefusal } from './caller-tokens.ts'
import { ChunkFlights, type Flight } from './chunk-flights.ts'
import { Failing } from './failing.ts'
import { PlanFeed } from './plan-feed.ts'
import { PlanLoop } from './plan-loop.ts'
import type { SwarmMember } from './swarm.ts'
import type { TransferDeps } from './transfer-deps.ts'
import { TransferProgress } from './transfer-progress.ts'
import { WholeCheck } from './whole-check.ts'
import { WrongBytes } from './wrong-bytes.ts'

/** How long peers may take to say what they hold before the origin is asked. */
const PEER_GRACE_MS = 250

export type TransferState = 'starting' | 'running' | 'verifying' | 'complete' | 'failed' | 'cancelled'

export class Transfer implements SwarmMember {
  readonly blob: BlobId
  readonly geometry: ChunkGeometry
  readonly geometryText: string
  readonly chunkCount: number
  readonly file: WantedFile
  readonly feed: PlanFeed
  readonly wrong = new WrongBytes()
  readonly #deps: TransferDeps
  readonly #origin: ChunkSource
  readonly #tasks: Tasks
  readonly #flights: ChunkFlights
  readonly #check: WholeCheck
  readonly #arrivals: Arrivals
  readonly #watchers = new Set<(arrivingIndex?: number) => void>()
  readonly counts: TransferProgress
  #plan: DownloadPlan | undefined
  #opening: Promise<PartialBlob> | undefined
  #partial: PartialBlob | undefined
  #state: TransferState = 'starting'
  #whole = false
  #error: ShoalError | undefined
  readonly #failing = new Failing()
  #loop: PlanLoop | undefined
  #stopping: Promise<void> | undefined

  /** @param origin the Hub as a source for this file */
  constructor(file: WantedFile, geometry: ChunkGeometry, origin: ChunkSource, deps: TransferDeps) {
    this.file = file
    this.blob = file.entry.blob
    this.geometry = geometry
    this.geometryText = geometry.text
    this.chunkCount = geometry.chunkCount
    this.#origin = origin
    this.#deps = deps
    this.#tasks = createTasks(deps.onFailure)
    this.counts = new TransferProgress(file, geometry, deps.clock)
    this.feed = new PlanFeed(deps.clock, (soon) => (soon ? this.#loop?.pumpSoon() : this.#loop?.pump()))
    this.#check = new WholeCheck(this.blob, file.entry.path, {
      log: deps.log,
      vouchers: deps.vouchers,
      peerOfKey: deps.peerOfKey,
      wrong: (error) => this.#wrong(error),
      proven: () => this.#changed(),
      liar: (peer) => this.#liar(peer),
      discarded: (indices, originOnly) => this.#discarded(indices, originOnly),
    })
    this.#arrivals = new Arrivals(this.blob, geometry, {
      vouchers: deps.vouchers,
      check: this.#check,
      wrong: (error) => this.#wrong(error),
    })
    const flights = this.counts.counted({
      source: (id) => (id === ORIGIN ? this.#origin : deps.peer(id as PeerId)),
      progressed: (flight, bytes) => this.#progressed(flight, bytes),
      rewound: (flight) => this.#arrivals.lost(flight),
      arrived: (flight, fetched) => this.#arrived(flight, fetched),
      failed: (flight, error) => this.#failed(flight, error),
      troubled: () => this.#changed(),
      over: (flight) => this.#arrivals.lost(flight),
    })
    this.#flights = new ChunkFlights(this.blob, geometry, deps, flights)
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

  /** The digest of the whole has passed; what is held may be read to the end. */
  get proven(): boolean {
    return this.#check.proven
  }

  /** The chunk is here, or some byte of the blob is on its way. */
  isMoving(index: number): boolean {
    return this.has(index) || this.#flights.moving
  }

  /** Why nothing arrives: the last failure, when no peer holds anything and nothing that is on its way moves. */
  get stuckBecause(): ShoalError | undefined {
    if ((this.#plan?.peerCount() ?? 0) > 0) return undefined
    return this.#flights.count === 0 ? this.#failing.last : this.#flights.trouble
  }

  /** @throws ShoalError `store-full` | `conflict` | `store-*` | `aborted` when it was stopped meanwhile */
  async start(): Promise<void> {
    try {
      this.#opening = this.#deps.store.openPartial(this.blob, this.geometry)
      this.#partial = await this.#opening
    } catch (error) {
      this.#end('failed', asShoalError(error) ?? new ShoalError('store-failed', messageOf(error), {}, error))
      throw error
    }
    // Whoever stopped it closes what has just been opened.
    if (this.#error !== undefined) throw this.#error
    this.counts.begins(this.#partial.held)
    this.#tasks.run('download', (signal) => this.#run(signal))
  }

  /** From now on every chunk is wanted, and this host takes its share of the origin's. */
  fetchWhole(): void {
    if (this.#whole) return
    this.#whole = true
    this.#plan?.fetchWhole()
    this.#deps.swarm.wants(this.blob)
    this.#loop?.pump()
  }

  /** From now on only what readers want. What is on its way is dropped; what is held stays, for readers and for peers. */
  rest(): void {
    if (!this.#whole || this.over) return
    this.#whole = false
    this.#failing.gained()
    for (const id of this.#plan?.fetchParts() ?? []) this.#flights.cancel(id, 'the download is paused')
    this.#changed()
    this.#loop?.pump()
  }

  progress(): BlobProgress {
    const state = this.#state === 'starting' ? 'running' : this.#state
    const peers = this.#plan?.peerCount() ?? 0
    return this.counts.report({ state, peers, error: this.#error?.message }, this.#partial?.held, this.proven)
  }

  /** Calls `wake` after every change, with the chunk when more of it has come from the origin; the returned function stops that. */
  watch(wake: (arrivingIndex?: number) => void): () => void {
    this.#watchers.add(wake)
    return () => this.#watchers.delete(wake)
  }

  /** Ends it; resolves when nothing of it goes on. Chunks stay on disk for the next time. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  async #stop(): Promise<void> {
    this.#end('cancelled', new ShoalError('aborted', 'the download was stopped'))
    await this.#opening?.catch(() => {})
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

  /** The chunk is here, and nothing speaks against giving it to readers and peers. */
  mayGive(index: number): boolean {
    const partial = this.#partial
    return partial?.held.has(index) === true && this.#check.mayGive(partial, index)
  }

  inFlight(index: number): boolean {
    return this.#flights.has(index)
  }

  /** The chunk as it is arriving from the origin. Its buffer is valid only until the caller next awaits. */
  arriving(index: number): Flight | undefined {
    return this.#flights.fromOrigin(index)
  }

  /** A reader was given the first `bytes` of a chunk that is still arriving. */
  releasedEarly(flight: Flight, bytes: number): void {
    this.#arrivals.releasedEarly(flight, bytes)
  }

  /** Chunks on their way from the origin. */
  originClaims(): readonly number[] {
    return this.over ? [] : (this.#plan?.originClaims() ?? [])
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
    const plan = this.#deps.makePlan(
      {
        blob: this.blob,
        self: this.#deps.self,
        held: partial.held,
        whole: this.#whole,
        originDepth: this.#deps.originDepth,
        totalDepth: this.#deps.totalDepth,
        originFetchers: this.#deps.originFetchers,
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
      stuck: (hopeless) => this.#stuck(hopeless),
    })
    this.#state = 'running'
    this.feed.attach(plan)
    this.#changed()
    this.#loop.pump()
  }

  async #fly(assignment: Parameters<ChunkFlights['fly']>[0], signal: AbortSignal): Promise<void> {
    this.#deps.log.debug({ blob: this.blob, ...assignment }, 'a chunk is asked for')
    if (assignment.source === ORIGIN) this.#deps.swarm.claimed(this.blob)
    await this.#flights.fly(assignment, signal)
    this.#changed()
    this.#loop?.pump()
  }

  #stuck(hopeless: boolean): boolean {
    if (!hopeless && !this.#failing.isTooLong(this.#deps.clock.now())) return false
    const { path } = this.file.entry
    this.#end('failed', this.#failing.last ?? new ShoalError('no-source', `nobody has ${path} just now`))
    return true
  }

  // --- what happens to flights ------------------------------------------------------------------------------------------

  #progressed({ assignment, fromOrigin }: Flight, bytes: number): void {
    this.counts.moved(fromOrigin, bytes)
    this.#deps.counters.bytes(fromOrigin ? 'origin' : 'peer', bytes)
    this.#plan?.progress(assignment.id, this.#deps.clock.now())
    if (fromOrigin) this.#changed(assignment.index)
  }

  async #arrived(flight: Flight, fetched: FetchedChunk): Promise<void> {
    const partial = this.#partial
    if (partial === undefined) return
    const { id, index, source } = flight.assignment
    if (fetched.line !== undefined) this.#plan?.peerLoad(source, fetched.line, true)
    const result = await this.#arrivals.land(partial, flight, fetched)
    this.#deps.counters.chunk(result, 1)
    this.#stored(id, index, flight.buffer.byteLength)
    if (result === 'duplicate') return
    this.#failing.gained()
    this.#deps.swarm.gained(this.blob, index)
  }

  #stored(id: number, index: number, bytes: number): void {
    for (const other of this.#plan?.stored(id, bytes, this.#deps.clock.now()) ?? [])
      this.#flights.cancel(other, `another source brought chunk ${index}`)
    this.#changed()
  }

  #failed({ assignment, fromOrigin }: Flight, failure: ShoalError): void {
    const { id, index, source } = assignment
    const { log, clock } = this.#deps
    log.debug(
      { blob: this.blob, index, source, code: failure.code, reason: failure.message },
      'a chunk was not brought',
    )
    // This host cannot, or its callers may not: what the Hub refuses them they shall not get from peers either.
    if (errorRow(failure.code).blame === 'self' || (fromOrigin && isRefusal(failure))) {
      this.#plan?.failed(id, 'aborted', clock.now())
      this.#end('failed', failure)
      return
    }
    this.#failing.failed(failure, clock.now())
    if (failure.code === 'peer-later') this.#loop?.nextMayWait()
    if (failure.code === 'chunk-corrupt') this.#deps.counters.chunk('corrupt', 1)
    const banned = this.#plan?.failed(id, failure.code, clock.now()) === true
    if (!banned) return
    log.warn({ peer: source, blob: this.blob, index, reason: failure.message }, 'a peer broke its word')
    this.#deps.ban(source as PeerId, BAN_MS, failure.message)
    this.feed.removePeer(source as PeerId)
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
        // Even if only parts were wanted: readers wait until the doubt is settled.
        this.fetchWhole()
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

  #discarded(indices: readonly number[], originOnly: boolean): void {
    this.#deps.counters.chunk('corrupt', indices.length)
    this.#plan?.discarded(indices, originOnly)
    this.#changed()
    this.#loop?.pump()
  }

  #wrong(error: ShoalError): void {
    this.wrong.note(error)
    this.#deps.wrongBytes(this.blob)
    this.#changed()
  }

  #end(state: 'complete' | 'failed' | 'cancelled', error: ShoalError | undefined): void {
    if (this.over) return
    this.#state = state
    this.#error = error
    this.#loop?.stop()
    this.#flights.cancelAll('the download is over')
    this.#deps.swarm.leave(this.blob, state === 'complete')
    if (state === 'failed')
      this.#deps.log.warn(
        { blob: this.blob, path: this.file.entry.path, code: error?.code, reason: error?.message },
        'a download failed',
      )
    this.#changed()
  }

  #changed(arrivingIndex?: number): void {
    for (const wake of [...this.#watchers]) wake(arrivingIndex)
  }
}
