// The chunk memory of all downloads as one download may use it: less while a higher one needs it. The rule is plan/download-queue.ts.
import { ChunkBuffers } from './chunk-buffers.ts'

export class YieldingBuffers extends ChunkBuffers {
  readonly #shared: ChunkBuffers
  readonly #roomFor: (room: number) => number

  /** @param roomFor of the room that there is, what this download may use now */
  constructor(shared: ChunkBuffers, roomFor: (room: number) => number) {
    super(0)
    this.#shared = shared
    this.#roomFor = roomFor
  }

  override get lentBytes(): number {
    return this.#shared.lentBytes
  }

  override get room(): number {
    return this.#roomFor(this.#shared.room)
  }

  override take(length: number): Uint8Array {
    return this.#shared.take(length)
  }

  override give(buffer: Uint8Array): void {
    this.#shared.give(buffer)
  }

  override whenGiven(wake: () => void): () => void {
    return this.#shared.whenGiven(wake)
  }
}
