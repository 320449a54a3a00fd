// Chunks on their way: a buffer lent, a source asked, progress passed on, the buffer given back. Knows how to fetch, not what
// or from whom (the plan says), nor whether the bytes are right (the transfer proves them in `arrived`).
import { type ChunkGeometry, chunkLength } from '@shoal/protocol/chunks.ts'
import { asShoalError, isAbort, messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import type { BlobId } from '@shoal/protocol/ids.ts'
import type { Pace } from '../limits-port.ts'
import { type Assignment, ORIGIN } from '../plan/download-plan.ts'
import type { ChunkSource, FetchedChunk } from '../sources/source.ts'
import type { ChunkBuffers } from './chunk-buffers.ts'
import type { TransferDeps } from './transfer-deps.ts'

/** A chunk on its way. `buffer` is used for another chunk as soon as the flight is over. */
export interface Flight {
  readonly assignment: Assignment
  readonly buffer: Uint8Array
  readonly filledBytes: number
  readonly fromOrigin: boolean
}

interface OpenFlight extends Flight {
  filledBytes: number
  /** The source is trying again after this; gone with the next byte. */
  trouble: ShoalError | undefined
  readonly abort: AbortController
}

export interface FlightHooks {
  readonly source: (id: string) => ChunkSource
  readonly progressed: (flight: Flight, bytes: number) => void
  /** What came so far was nonsense and is about to be overwritten. `flight` is still as it was. */
  readonly rewound: (flight: Flight) => void
  /** The buffer is full: prove and store it. A rejection goes to `failed`. */
  readonly arrived: (flight: Flight, fetched: FetchedChunk) => Promise<void>
  readonly failed: (flight: Flight, error: ShoalError) => void
  /** Some source has to try again: see {@link ChunkFlights.trouble}. */
  readonly troubled: () => void
  /** Whatever happened: called once for each flight, before its buffer is given back. */
  readonly over: (flight: Flight) => void
}

export class ChunkFlights {
  readonly #blob: BlobId
  readonly #geometry: ChunkGeometry
  readonly #buffers: ChunkBuffers
  /** Limit on this download, whatever the source. */
  readonly #pace: Pace | undefined
  readonly #hooks: FlightHooks
  readonly #open = new Map<number, OpenFlight>()

  constructor(
    blob: BlobId,
    geometry: ChunkGeometry,
    deps: Pick<TransferDeps, 'buffers' | 'downloadPace'>,
    hooks: FlightHooks,
  ) {
    this.#blob = blob
    this.#geometry = geometry
    this.#buffers = deps.buffers
    this.#pace = deps.downloadPace?.()
    this.#hooks = hooks
  }

  get count(): number {
    return this.#open.size
  }

  /** Some byte is on its way. */
  get moving(): boolean {
    for (const { filledBytes } of this.#open.values()) if (filledBytes > 0) return true
    return false
  }

  /** What keeps every flight from moving; undefined when at least one is well, or there is none. */
  get trouble(): ShoalError | undefined {
    let last: ShoalError | undefined
    for (const { trouble } of this.#open.values()) {
      if (trouble === undefined) return undefined
      last = trouble
    }
    return last
  }

  /** Runs one assignment to its end. Rejects only for a programming error. */
  async fly(assignment: Assignment, stop: AbortSignal): Promise<void> {
    const flight: OpenFlight = {
      assignment,
      buffer: this.#buffers.take(chunkLength(this.#geometry, assignment.index)),
      fromOrigin: assignment.source === ORIGIN,
      filledBytes: 0,
      trouble: undefined,
      abort: new AbortController(),
    }
    this.#open.set(assignment.id, flight)
    const onStop = () => flight.abort.abort(stop.reason)
    stop.addEventListener('abort', onStop, { once: true })
    try {
      await this.#fetch(flight)
    } finally {
      stop.removeEventListener('abort', onStop)
      this.#open.delete(assignment.id)
      this.#hooks.over(flight)
      this.#buffers.give(flight.buffer)
    }
  }

  cancel(id: number, reason: string): void {
    this.#open.get(id)?.abort.abort(new ShoalError('aborted', reason))
  }

  cancelAll(reason: string): void {
    for (const id of [...this.#open.keys()]) this.cancel(id, reason)
  }

  has(index: number): boolean {
    for (const { assignment } of this.#open.values()) if (assignment.index === index) return true
    return false
  }

  /** The chunk as it is arriving from the origin; undefined when it is not. */
  fromOrigin(index: number): Flight | undefined {
    for (const flight of this.#open.values())
      if (flight.fromOrigin && flight.assignment.index === index && !flight.abort.signal.aborted)
        return flight
    return undefined
  }

  async #fetch(flight: OpenFlight): Promise<void> {
    const { assignment, buffer, abort } = flight
    try {
      const request = { blob: this.#blob, geometry: this.#geometry, index: assignment.index, into: buffer }
      const fetched = await this.#hooks.source(assignment.source).fetch(request, {
        signal: abort.signal,
        pace: this.#pace,
        onProgress: (filledBytes) => {
          const bytes = filledBytes - flight.filledBytes
          if (bytes < 0) this.#hooks.rewound(flight)
          flight.filledBytes = filledBytes
          flight.trouble = undefined
          if (bytes > 0) this.#hooks.progressed(flight, bytes)
        },
        onTrouble: (error) => {
          flight.trouble = error
          this.#hooks.troubled()
        },
      })
      if (!abort.signal.aborted) await this.#hooks.arrived(flight, fetched)
    } catch (error) {
      if (!abort.signal.aborted) this.#hooks.failed(flight, asFailure(error, flight.fromOrigin))
    }
  }
}

/**
 * An abort that nobody here asked for is a failure like others: it must not be tried again at once and for ever.
 * @throws what is a programming error
 */
function asFailure(error: unknown, fromOrigin: boolean): ShoalError {
  const known = asShoalError(error)
  if (known !== undefined && known.code !== 'aborted') return known
  if (known === undefined && !isAbort(error)) throw error
  const code = fromOrigin ? 'origin-unreachable' : 'peer-unreachable'
  return new ShoalError(code, `the request was given up: ${messageOf(error)}`, {}, error)
}
