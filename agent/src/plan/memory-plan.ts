// PURE. From what memory there is to how much of it each use may take: chunks that arrive, files on their way to clients, chunks for peers,
// lists of files. Numbers in, numbers out; who holds memory is told by memory-budget.ts.

const MIB = 1024 * 1024

/** Code, heap, threads and connections of an agent that does nothing. Measured: 140 MB; some room for growth. */
export const BASE_BYTES = 200 * MIB
/** Chunks in memory for peers: their number is set in plan/upload-order.ts, 4 of 4 MiB. */
export const UPLOAD_BYTES = 16 * MIB
/** Buffers when nobody says how much memory there may be: what keeps an agent below 350 MB. */
const USUAL_BUFFER_BYTES = 76 * MIB
/** More buffers than this no line needs: 2 GiB is 0.2 s of 100 Gbit/s. */
const MAX_BUFFER_BYTES = 2 * 1024 * MIB
/** With less a pull of one file from one peer is slow: four chunks of 4 MiB on their way. */
const LEAST_ARRIVING_BYTES = 16 * MIB
const LEAST_READING_BYTES = 4 * MIB
const LEAST_LISTS_BYTES = 8 * MIB
/** Text of lists of files kept parsed; a list of 100,000 files has 22 MB. */
const USUAL_LISTS_BYTES = 32 * MIB

/** Bytes; undefined: nobody said, or no limit. */
export interface MemoryFacts {
  readonly hostBytes: number
  /** What the container or service may use. */
  readonly allowedBytes?: number | undefined
  /** `memory_management.max_memory_usage_gb` */
  readonly configuredBytes?: number | undefined
  /** `memory_management.download_buffer_size_mb` */
  readonly downloadBufferBytes?: number | undefined
}

/** In bytes. */
export interface MemoryPlan {
  /** What the process is to stay below. */
  readonly limitBytes: number
  readonly limitFrom: 'settings' | 'container' | 'host'
  /** Chunks on their way, over all downloads. */
  readonly arrivingBytes: number
  /** Files on their way from disk to clients. */
  readonly readingBytes: number
  readonly uploadingBytes: number
  /** Lists of files kept in memory. */
  readonly listsBytes: number
}

/**
 * A configured limit is used: half of what it leaves above the base goes into buffers, for what was in them counts until it is collected.
 * The limit of a container or of the host is stayed below, and is no reason to use more than usual.
 */
export function planMemory(facts: MemoryFacts): MemoryPlan {
  const { hostBytes, allowedBytes = Number.POSITIVE_INFINITY, configuredBytes } = facts
  const outer = Math.min(hostBytes, allowedBytes)
  const limitBytes = Math.min(outer, configuredBytes ?? outer)
  const limitFrom =
    configuredBytes === limitBytes ? 'settings' : allowedBytes === limitBytes ? 'container' : 'host'
  const possible = Math.max(0, (limitBytes - BASE_BYTES) / 2)
  const buffers = Math.min(possible, configuredBytes === undefined ? USUAL_BUFFER_BYTES : MAX_BUFFER_BYTES)
  const shared = Math.max(0, buffers - UPLOAD_BYTES)
  const arriving = facts.downloadBufferBytes ?? shared * 0.8
  return {
    limitBytes,
    limitFrom,
    arrivingBytes: Math.floor(Math.max(LEAST_ARRIVING_BYTES, arriving)),
    readingBytes: Math.floor(Math.max(LEAST_READING_BYTES, shared * 0.2)),
    uploadingBytes: UPLOAD_BYTES,
    listsBytes: Math.floor(Math.max(LEAST_LISTS_BYTES, Math.min(USUAL_LISTS_BYTES, possible / 4))),
  }
}

/** True while buffers should be given back: `usedBytes` is above the share `threshold` of the limit. */
export function isMemoryShort(
  usedBytes: number,
  { limitBytes }: Pick<MemoryPlan, 'limitBytes'>,
  threshold: number,
): boolean {
  return usedBytes > limitBytes * threshold
}
