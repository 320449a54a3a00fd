// A Hub as a source of chunks that is what the test says: honest, broken off, wrong, silent, refusing. Has the bytes in memory.
import type { Hub, HubFile } from '@shoal/agent/sources/hub.ts'
import type { ChunkSource, FetchOptions } from '@shoal/agent/sources/source.ts'
import type { ShoalError } from '@shoal/protocol/errors.ts'
import type { BlobId } from '@shoal/protocol/ids.ts'
import { abortError } from '@shoal/protocol/time.ts'

/** One request for a chunk. */
export interface OriginCall {
  readonly file: HubFile
  readonly index: number
  /** Counts requests for this chunk, from 1. */
  readonly attempt: number
  readonly token: string | undefined
  /** What the chunk is. */
  readonly right: Uint8Array
  readonly options: FetchOptions
  /** Puts `bytes` into the buffer from byte `at` on and tells of it. */
  fill(bytes: Uint8Array, at?: number): void
}

export type OriginManner = (call: OriginCall) => Promise<void>

export const honestly: OriginManner = async ({ right, fill }) => fill(right)

/** Resolves never; rejects when the request is aborted. */
export function silence(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    const onAbort = () => reject(abortError(signal))
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
  })
}

export const silently: OriginManner = ({ options }) => silence(options.signal)

export function failing(error: () => ShoalError): OriginManner {
  return async () => {
    throw error()
  }
}

export class FakeOrigin implements Pick<Hub, 'source'> {
  /** Indices in the order they were asked for. */
  readonly asked: number[] = []
  readonly tokens: (string | undefined)[] = []
  manner: OriginManner = honestly
  readonly #contents = new Map<BlobId, Uint8Array>()
  readonly #attempts = new Map<string, number>()

  add(blob: BlobId, bytes: Uint8Array): void {
    this.#contents.set(blob, bytes)
  }

  source(file: HubFile, token: () => string | undefined): ChunkSource {
    return {
      id: 'origin',
      kind: 'origin',
      fetch: async ({ blob, geometry, index, into }, options) => {
        this.asked.push(index)
        this.tokens.push(token())
        const content = this.#contents.get(blob)
        if (content === undefined) throw new Error(`the fake origin has no ${blob}`)
        const key = `${blob} ${index}`
        const attempt = (this.#attempts.get(key) ?? 0) + 1
        this.#attempts.set(key, attempt)
        const { start, end } = geometry.range(index)
        await this.manner({
          file,
          index,
          attempt,
          token: token(),
          right: content.subarray(start, end),
          options,
          fill(bytes, at = 0) {
            if (options.signal.aborted) throw abortError(options.signal)
            into.set(bytes, at)
            options.onProgress(at + bytes.byteLength)
          },
        })
        return {}
      },
    }
  }
}
