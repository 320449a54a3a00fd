// The memory of this agent: makes the pools that all large buffers come from, looks at what the process uses, has garbage collected before
// it piles up, and has the pools give back what they can when it is too much. Sizes are decided in plan/memory-plan.ts.
import { DEFAULT_CHUNK_BYTES } from '@shoal/protocol/chunks.ts'
import type { Service } from '@shoal/protocol/service.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import { ReadBuffers } from './http/read-buffers.ts'
import type { Log } from './log.ts'
import { isMemoryShort, type MemoryPlan, planMemory } from './plan/memory-plan.ts'
import { UPLOAD_SLOTS } from './plan/upload-order.ts'
import { ChunkBuffers, SpareBuffers } from './transfer/chunk-buffers.ts'

/** While bytes move, and else. */
const BUSY_LOOK_MS = 100
const LOOK_MS = 1_000
/**
 * Buffers of arriving bytes that nobody uses any more and that V8 has not collected. Left to itself it let 300 MB of them pile up, for it
 * looks at its own heap, where they are small; and what the process once had it hardly ever gives back.
 */
const GARBAGE_BYTES = 24 * 1024 * 1024
/** Chunks that are on their way to peers; as many more are kept for the next. */
const UPLOAD_BYTES = UPLOAD_SLOTS * DEFAULT_CHUNK_BYTES
/** A full collection stops everything for tens of milliseconds, one of young objects for one or two. */
const COLLECT_ALL_AGAIN_MS = 2_000
const LOG_AGAIN_MS = 60_000

/** The process as far as its memory goes. */
export interface ProcessMemory {
  readonly hostBytes: number
  /** What the container or service may use; undefined: as much as there is. */
  readonly allowedBytes: number | undefined
  usedBytes(): number
  /** Of buffers outside the heap, garbage included. */
  externalBytes(): number
  /** Frees what nobody uses any more, now: of what is young, or all of it. */
  collect(what: 'young' | 'all'): void
}

export interface MemorySettings {
  readonly maxBytes: number | undefined
  readonly downloadBufferBytes: number | undefined
  /** Share of the limit, above 0 and at most 1. */
  readonly gcThreshold: number
}

export interface MemoryStatus {
  readonly limitBytes: number
  readonly limitFrom: 'settings' | 'container' | 'host'
  readonly usedBytes: number
  readonly arriving: { readonly usedBytes: number; readonly limitBytes: number }
  readonly reading: { readonly usedBytes: number; readonly limitBytes: number }
  /** Above the threshold: downloads get one chunk at a time, clients the smallest pieces. */
  readonly isShort: boolean
}

export class MemoryBudget implements Service {
  readonly name = 'memory'
  readonly plan: MemoryPlan
  readonly arriving: ChunkBuffers
  readonly reading: ReadBuffers
  readonly uploading: SpareBuffers
  readonly #own: ProcessMemory
  readonly #threshold: number
  readonly #clock: Clock
  readonly #log: Log
  #isShort = false
  #collectedAt = Number.NEGATIVE_INFINITY
  #loggedAt = Number.NEGATIVE_INFINITY
  #cancel: (() => void) | undefined

  /** @param isShared worker threads can be given the buffers of chunks */
  constructor(
    settings: MemorySettings,
    own: ProcessMemory,
    deps: { readonly clock: Clock; readonly log: Log },
    isShared = false,
  ) {
    const plan = planMemory({
      hostBytes: own.hostBytes,
      allowedBytes: own.allowedBytes,
      configuredBytes: settings.maxBytes,
      downloadBufferBytes: settings.downloadBufferBytes,
    })
    this.plan = plan
    this.arriving = new ChunkBuffers(plan.arrivingBytes, isShared)
    this.uploading = new SpareBuffers(UPLOAD_BYTES, isShared)
    this.reading = new ReadBuffers(plan.readingBytes)
    this.#own = own
    this.#threshold = settings.gcThreshold
    this.#clock = deps.clock
    this.#log = deps.log
  }

  async start(): Promise<void> {
    this.#cancel ??= this.#clock.after(LOOK_MS, () => this.#look())
  }

  async stop(): Promise<void> {
    this.#cancel?.()
    this.#cancel = undefined
  }

  status(): MemoryStatus {
    const { limitBytes, limitFrom, arrivingBytes, readingBytes } = this.plan
    return {
      limitBytes,
      limitFrom,
      usedBytes: this.#own.usedBytes(),
      arriving: { usedBytes: this.arriving.lentBytes, limitBytes: arrivingBytes },
      reading: { usedBytes: this.reading.lentBytes, limitBytes: readingBytes },
      isShort: this.#isShort,
    }
  }

  #look(): void {
    if (this.#garbageBytes() > GARBAGE_BYTES) {
      this.#own.collect('young')
      if (this.#garbageBytes() > GARBAGE_BYTES) this.#collectAll()
    }
    if (this.#isTooMuch()) {
      this.#tellPools(true)
      this.#collectAll()
    }
    const isShort = this.#isTooMuch()
    if (isShort) this.#report()
    this.#tellPools(isShort)
    const isBusy = this.arriving.lentBytes + this.reading.lentBytes > 0
    this.#cancel = this.#clock.after(isBusy ? BUSY_LOOK_MS : LOOK_MS, () => this.#look())
  }

  #garbageBytes(): number {
    const { arriving, reading, uploading } = this
    const inUse = arriving.lentBytes + arriving.keptBytes + reading.heldBytes
    return this.#own.externalBytes() - inUse - uploading.keptBytes - UPLOAD_BYTES
  }

  #isTooMuch(): boolean {
    return isMemoryShort(this.#own.usedBytes(), this.plan, this.#threshold)
  }

  #tellPools(isShort: boolean): void {
    if (isShort === this.#isShort) return
    this.#isShort = isShort
    this.arriving.beShort(isShort)
    this.reading.beShort(isShort)
    if (isShort) this.uploading.dropBeyond(0)
  }

  #collectAll(): void {
    const now = this.#clock.now()
    if (now - this.#collectedAt < COLLECT_ALL_AGAIN_MS) return
    this.#own.collect('all')
    this.#collectedAt = this.#clock.now()
  }

  #report(): void {
    const now = this.#clock.now()
    if (now - this.#loggedAt < LOG_AGAIN_MS) return
    this.#loggedAt = now
    const { limitBytes, usedBytes } = this.status()
    this.#log.warn({ usedBytes, limitBytes }, 'memory is short; downloads are held back')
  }
}
