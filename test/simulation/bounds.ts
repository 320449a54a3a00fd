// The time that no scheme can beat, beside which every result is put. Arithmetic only.

export interface Links {
  readonly hosts: number
  readonly chunks: number
  readonly chunkBytes: number
  /** Of the origin, or of those that hold the blob at the start, together. */
  readonly sourceBytesPerSecond: number
  readonly upBytesPerSecond: number
  readonly downBytesPerSecond: number
}

/**
 * Seconds until the last host can hold all of it: the larger of the fluid bound, max(F/u_s, F/d, N*F/(u_s+N*u)) (Kumar & Ross 2006), and of
 * `M + floor(log2 N)` chunk-times, because only whole chunks are passed on (Mundinger, Weber & Weiss 2008).
 */
export function boundSeconds(links: Links): number {
  const { hosts, chunks, chunkBytes, sourceBytesPerSecond: source, upBytesPerSecond: up } = links
  const bytes = chunks * chunkBytes
  const fluid = Math.max(
    bytes / source,
    bytes / links.downBytesPerSecond,
    (hosts * bytes) / (source + hosts * up),
  )
  const chunkSeconds = chunkBytes / Math.min(up, links.downBytesPerSecond)
  return Math.max(fluid, (chunks + Math.floor(Math.log2(hosts))) * chunkSeconds)
}
