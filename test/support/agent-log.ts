// Reads what an agent logged about its chunks at level debug: which was asked of whom, when. Of agents started by tests only.

export interface ChunkAsked {
  /** Unix milliseconds. */
  readonly at: number
  readonly id: number
  readonly index: number
  /** A peer id, or `origin`. */
  readonly source: string
  readonly why: string
}

/** In the order of asking. @param output what the agent wrote so far */
export function chunksAsked(output: string): readonly ChunkAsked[] {
  return output.split('\n').flatMap((line) => {
    if (!line.includes('"a chunk is asked for"') || !line.endsWith('}')) return []
    const { time, id, index, source, why } = JSON.parse(line) as Omit<ChunkAsked, 'at'> & { time: string }
    return [{ at: Date.parse(time), id, index, source, why }]
  })
}

/** When the agent first gave up a chunk asked of that source after `at`, in Unix milliseconds. */
export function gaveUpAt(output: string, source: string, at: number): number | undefined {
  const ids = new Set(
    chunksAsked(output)
      .filter((one) => one.source === source)
      .map(({ id }) => id),
  )
  for (const line of output.split('\n')) {
    const taken = line.includes('"a chunk is taken from its source"')
    if ((!taken && !line.includes('"a chunk was not brought"')) || !line.endsWith('}')) continue
    const end = JSON.parse(line) as { readonly time: string; readonly source?: string; readonly id?: number }
    const its = taken ? ids.has(end.id ?? Number.NaN) : end.source === source
    if (its && Date.parse(end.time) > at) return Date.parse(end.time)
  }
  return undefined
}

/**
 * Chunks that were asked of `lost` last before `at`, and that had to be asked of others after it.
 * @returns for each, milliseconds from `at` to when another source was asked
 */
export function takenOver(
  asked: readonly ChunkAsked[],
  lost: string,
  at: number,
): ReadonlyMap<number, number> {
  const found = new Map<number, number>()
  const before = asked.filter((one) => one.at <= at)
  for (const index of new Set(before.map((one) => one.index))) {
    if (before.findLast((one) => one.index === index)?.source !== lost) continue
    const next = asked.find((one) => one.index === index && one.at > at && one.source !== lost)
    if (next !== undefined) found.set(index, next.at - at)
  }
  return found
}
