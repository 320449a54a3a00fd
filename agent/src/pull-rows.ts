// Pulls that have not ended, as they are kept in the index: what outlives the program. One row a pull, written one change after the other.
import { asShoalError } from '@shoal/protocol/errors.ts'
import { parseRepoKey, parseRevision, repoKey } from '@shoal/protocol/ids.ts'
import { z } from 'zod'
import type { PullOptions, PullRequest } from './models-port.ts'
import { PRIORITIES } from './plan/download-queue.ts'
import type { Index } from './store/index-port.ts'

const KEY = 'pull/'

export interface KeptPull {
  readonly id: string
  readonly request: PullRequest
  readonly priority: NonNullable<PullOptions['priority']>
  readonly paused: boolean
}

const [, ...queued] = PRIORITIES
/** Rows of version 0.1.0 have the first four fields only. */
const rowSchema = z.strictObject({
  repo: z.string(),
  revision: z.string(),
  include: z.array(z.string()),
  exclude: z.array(z.string()),
  priority: z.enum(queued).default('pull'),
  paused: z.boolean().default(false),
  place: z.number().default(0),
})

/** Those on record, in the order in which they go. What cannot be read is removed. */
export async function keptPulls(index: Index): Promise<readonly KeptPull[]> {
  const found: { readonly kept: KeptPull; readonly place: number }[] = []
  for await (const [key, value] of index.entries(KEY)) {
    const read = readRow(key.slice(KEY.length), value)
    if (read === undefined) await index.delete(key)
    else found.push(read)
  }
  return found.toSorted((a, b) => a.place - b.place).map(({ kept }) => kept)
}

export class PullRows {
  readonly #index: Index
  #turn: Promise<void> = Promise.resolve()

  constructor(index: Index) {
    this.#index = index
  }

  /** Writes a row for each. @param alive asked when it is its turn, so that what has ended meanwhile is not written again */
  keep(alive: () => readonly KeptPull[]): Promise<void> {
    return this.#inTurn(async () => {
      const changes = alive().map(({ id, request, priority, paused }, place) => {
        const { repo, revision, include, exclude } = request
        const value = { repo: repoKey(repo), revision, include, exclude, priority, paused, place }
        return { key: KEY + id, value }
      })
      await this.#index.batch(changes)
    })
  }

  forget(id: string): Promise<void> {
    return this.#inTurn(() => this.#index.delete(KEY + id))
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(work)
    this.#turn = done.catch(() => {})
    return done
  }
}

function readRow(
  id: string,
  value: unknown,
): { readonly kept: KeptPull; readonly place: number } | undefined {
  const parsed = rowSchema.safeParse(value)
  if (!parsed.success) return undefined
  const { priority, paused, place, include, exclude } = parsed.data
  try {
    const repo = parseRepoKey(parsed.data.repo)
    const revision = parseRevision(parsed.data.revision)
    return { kept: { id, request: { repo, revision, include, exclude }, priority, paused }, place }
  } catch (error) {
    if (asShoalError(error) === undefined) throw error
    return undefined
  }
}
