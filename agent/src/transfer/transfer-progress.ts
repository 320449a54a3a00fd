// How far a blob has come, from where, and what is being done for it, as others are told. Counts only.
import { type ChunkGeometry, type ChunkMap, chunkLength } from '@shoal/protocol/chunks.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import type { BlobProgress, WantedFile } from '../downloads-port.ts'
import { ORIGIN } from '../plan/download-plan.ts'
import type { Doing } from '../plan/pull-efficiency.ts'
import type { Flight, FlightHooks } from './chunk-flights.ts'
import { RecentRate } from './recent-rate.ts'

const STILL_BUSY_MS = 250

export class TransferProgress {
  readonly #file: WantedFile
  readonly #geometry: ChunkGeometry
  readonly #clock: Clock
  readonly #moved = { originBytes: 0, peerBytes: 0, diskBytes: 0 }
  readonly #rate = new RecentRate()
  readonly #flights = { origin: 0, peers: 0, writing: 0 }
  #busyUntil = Number.NEGATIVE_INFINITY

  constructor(file: WantedFile, geometry: ChunkGeometry, clock: Clock) {
    this.#file = file
    this.#geometry = geometry
    this.#clock = clock
  }

  /** Chunks are on their way or being written, or were a moment ago: between two chunks it is no less in need of memory. */
  get busy(): boolean {
    const { origin, peers, writing } = this.#flights
    return origin + peers + writing > 0 || this.#clock.now() < this.#busyUntil
  }

  /** The same hooks, counted: what each flight is waited for. */
  counted(hooks: FlightHooks): FlightHooks {
    const flights = this.#flights
    const kindOf = (flight: Flight) => (flight.fromOrigin ? 'origin' : 'peers')
    const landed = new WeakSet<Flight>()
    return {
      ...hooks,
      source: (id) => {
        flights[id === ORIGIN ? 'origin' : 'peers']++
        return hooks.source(id)
      },
      arrived: (flight, voucher) => {
        landed.add(flight)
        flights[kindOf(flight)]--
        flights.writing++
        return hooks.arrived(flight, voucher)
      },
      over: (flight) => {
        if (landed.has(flight)) flights.writing--
        else flights[kindOf(flight)]--
        this.#busyUntil = this.#clock.now() + STILL_BUSY_MS
        hooks.over(flight)
      },
    }
  }

  /** What was on disk before anything was fetched. */
  begins(held: ChunkMap): void {
    this.#moved.diskBytes = heldBytes(held, this.#geometry)
  }

  moved(fromOrigin: boolean, bytes: number): void {
    if (fromOrigin) this.#moved.originBytes += bytes
    else this.#moved.peerBytes += bytes
  }

  /**
   * @param held undefined when the chunks are not known (any more)
   * @param proven the digest of the whole has passed
   */
  report(
    now: Pick<BlobProgress, 'state' | 'peers' | 'error'>,
    held: ChunkMap | undefined,
    proven: boolean,
  ): BlobProgress {
    const { manifest, entry } = this.#file
    const { sizeBytes } = this.#geometry
    const known = held === undefined ? 0 : heldBytes(held, this.#geometry)
    return {
      blob: entry.blob,
      repo: manifest.repo,
      path: entry.path,
      sizeBytes,
      heldBytes: now.state === 'complete' ? sizeBytes : known,
      ...now,
      ...this.#moved,
      priority: undefined,
      bytesPerSecond: this.#rate.at(this.#moved.originBytes + this.#moved.peerBytes, this.#clock.now()),
      doing: this.#doing(now.state, proven),
    }
  }

  #doing(state: BlobProgress['state'], proven: boolean): Doing {
    const { origin, peers, writing } = this.#flights
    const verifying = state === 'verifying'
    return {
      originFlights: origin,
      peerFlights: peers,
      writing,
      verifying: verifying && !proven,
      syncing: verifying && proven,
    }
  }
}

/** In constant time: it is asked for at every step of every download. */
function heldBytes(held: ChunkMap, geometry: ChunkGeometry): number {
  if (geometry.chunkCount === 0) return 0
  const full = chunkLength(geometry, 0)
  const last = geometry.chunkCount - 1
  return held.held * full - (held.has(last) ? full - chunkLength(geometry, last) : 0)
}
