// Counts the bytes that this host has taken and given since it started, for its status and its metrics.
import type { Metrics } from './metrics.ts'
import type { TransferCounters } from './transfer/transfer-deps.ts'

export class ByteTotals {
  originBytes = 0
  peerBytes = 0
  diskBytes = 0
  sentToPeersBytes = 0
  /** What downloads count. */
  readonly counters: TransferCounters
  readonly #metrics: Pick<Metrics, 'bytes' | 'chunk' | 'download'>

  /** @param received told of everything that arrives, as it does */
  constructor(
    metrics: Pick<Metrics, 'bytes' | 'chunk' | 'download'>,
    received: (from: 'origin' | 'peer', bytes: number) => void,
  ) {
    this.#metrics = metrics
    this.counters = {
      bytes: (from, bytes) => {
        this[from === 'origin' ? 'originBytes' : 'peerBytes'] += bytes
        metrics.bytes(from, 'disk', bytes)
        received(from, bytes)
      },
      chunk: (result, count) => metrics.chunk(result, count),
      download: (result, seconds) => metrics.download(result, seconds),
    }
  }

  readonly sentToPeer = (bytes: number): void => {
    this.sentToPeersBytes += bytes
    this.#metrics.bytes('disk', 'peer', bytes)
  }

  readonly readFromDisk = (bytes: number): void => {
    this.diskBytes += bytes
  }

  get now(): Record<'originBytes' | 'peerBytes' | 'diskBytes' | 'sentToPeersBytes', number> {
    const { originBytes, peerBytes, diskBytes, sentToPeersBytes } = this
    return { originBytes, peerBytes, diskBytes, sentToPeersBytes }
  }
}
