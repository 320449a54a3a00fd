// Whose Hub token a download uses. Its readers may be several callers with a token each, all of whom passed the gate: when the
// Hub refuses one of them, the next is tried, so that one caller's bad token does not end the others' download.
import { asShoalError, type ErrorCode } from '@shoal/protocol/errors.ts'
import type { ChunkSource } from '../sources/source.ts'

/** Callers remembered for one download. */
const MAX_TOKENS = 8
/** The Hub says that the caller may not have the file. */
const REFUSALS: ReadonlySet<ErrorCode> = new Set([
  'unauthorized',
  'forbidden',
  'repo-gated',
  'repo-disabled',
  'repo-not-found',
])

export function isRefusal(error: unknown): boolean {
  const code = asShoalError(error)?.code
  return code !== undefined && REFUSALS.has(code)
}

export class CallerTokens {
  /** Never empty; undefined is a caller without a token. */
  readonly #tokens: (string | undefined)[]

  constructor(first: string | undefined) {
    this.#tokens = [first]
  }

  get current(): string | undefined {
    return this.#tokens[0]
  }

  add(token: string | undefined): void {
    if (!this.#tokens.includes(token) && this.#tokens.length < MAX_TOKENS) this.#tokens.push(token)
  }

  /** The Hub refused `token`. @returns true when there is another one to try */
  refused(token: string | undefined): boolean {
    if (token === this.current && this.#tokens.length > 1) this.#tokens.shift()
    return token !== this.current
  }
}

/** @param source asks with the current token */
export function withTokens(source: ChunkSource, tokens: CallerTokens): ChunkSource {
  return {
    id: source.id,
    kind: source.kind,
    async fetch(request, options) {
      for (;;) {
        const token = tokens.current
        try {
          return await source.fetch(request, options)
        } catch (error) {
          if (!isRefusal(error) || !tokens.refused(token)) throw error
        }
      }
    },
  }
}
