// What a simulated run came to, in numbers: read off the world when it has stopped. Judges nothing.
import { boundSeconds } from './bounds.ts'
import type { SimHost } from './host.ts'
import type { World } from './world.ts'

export interface Limit {
  readonly what: string
  readonly most: number
  readonly measured: number
}

export interface Result {
  readonly scenario: string
  readonly hosts: number
  readonly chunks: number
  readonly seed: number
  /** Simulated seconds until the last host that was to be done was; infinite when one never was. */
  readonly seconds: number
  readonly boundSeconds: number
  /** Times of the last host, of the middle one and of the one after 99 of 100, each divided by the bound. */
  readonly ratio: number
  readonly p50: number
  readonly p99: number
  /** Bytes that the origin gave, divided by the size of the blob. */
  readonly amplification: number
  /** Bytes that came twice or were broken off, divided by all that had to come. */
  readonly duplicates: number
  readonly uploaderMaxOverMean: number
  /** Asks, answers, tells, and all gossip (of hosts' health too). */
  readonly gossipBytesPerSecondPerHost: number
  readonly requestsPerChunk: number
  readonly decisionsPerChunk: number
  readonly unfinished: number
}

export interface Measured {
  readonly scenario: string
  readonly world: World
  /** Hosts that have to be done. */
  readonly counted: readonly SimHost[]
  /** Bytes a second of the origin, or of those that held all at the start. */
  readonly sourceBytesPerSecond: number
  readonly upBytesPerSecond: number
  readonly downBytesPerSecond: number
}

export function resultOf({ scenario, world, counted, ...rates }: Measured): Result {
  const { chunks, chunkBytes, seed } = world.options
  const bound = boundSeconds({ hosts: counted.length, chunks, chunkBytes, ...rates })
  const times = counted
    .map(({ finishedAt, firstJoinedAt }) =>
      finishedAt === undefined ? Number.POSITIVE_INFINITY : (finishedAt - (firstJoinedAt ?? 0)) / 1_000,
    )
    .toSorted((a, b) => a - b)
  const seconds = times.at(-1) ?? Number.POSITIVE_INFINITY
  const ratioAt = (place: number) => (times[Math.min(Math.floor(place), times.length - 1)] ?? 0) / bound
  const sum = (amountOf: (host: SimHost) => number) =>
    world.hosts.reduce((all, host) => all + amountOf(host), 0)
  const uploaded = world.hosts.map((host) => host.uploadedBytes)
  const wanted = counted.length * chunks
  const elapsed = Math.max(world.now / 1_000, 1e-9)
  return {
    scenario,
    hosts: world.hosts.length,
    chunks,
    seed,
    seconds,
    boundSeconds: bound,
    ratio: seconds / bound,
    p50: ratioAt(times.length / 2),
    p99: ratioAt(times.length * 0.99),
    amplification: world.originBytes / (chunks * chunkBytes),
    duplicates: sum((host) => host.duplicateBytes) / (wanted * chunkBytes),
    uploaderMaxOverMean:
      uploaded.reduce((most, one) => Math.max(most, one), 0) /
      (sum((host) => host.uploadedBytes) / uploaded.length || 1),
    gossipBytesPerSecondPerHost:
      (sum((host) => host.messageBytes) / world.hosts.length + world.talk.gossipCostBytes) / elapsed +
      world.talk.healthBytesPerSecond,
    requestsPerChunk: sum((host) => host.requestCount) / wanted,
    decisionsPerChunk: sum((host) => host.decisions) / wanted,
    unfinished: times.filter((time) => time === Number.POSITIVE_INFINITY).length,
  }
}
