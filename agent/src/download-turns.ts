// Whose file is fetched next: waiting for a turn, over all pulls. The order is plan/download-queue.ts; this is the waiting.
import { abortError, throwIfAborted } from '@shoal/protocol/time.ts'
import { DownloadQueue, type Priority, type QueuePlace } from './plan/download-queue.ts'

export class DownloadTurns {
  readonly #queue: DownloadQueue
  readonly #waiting = new Map<string, (() => void)[]>()

  /** @param places files fetched at a time */
  constructor(places: number) {
    this.#queue = new DownloadQueue(places)
  }

  /** Ids in the order in which they go. */
  get order(): readonly string[] {
    return this.#queue.order
  }

  add(id: string, priority: Priority, paused: boolean): void {
    this.#queue.add(id, priority, paused)
  }

  remove(id: string): void {
    this.#queue.remove(id)
    this.#serve()
  }

  isPaused(id: string): boolean {
    return this.#queue.isPaused(id)
  }

  /** False when it was so already. Turns that were given are not taken back. */
  setPaused(id: string, paused: boolean): boolean {
    const changed = this.#queue.setPaused(id, paused)
    this.#serve()
    return changed
  }

  move(ids: readonly string[], place: QueuePlace): void {
    this.#queue.move(ids, place)
    this.#serve()
  }

  /** Files of the download that have a turn. */
  runningOf(id: string): number {
    return this.#queue.runningOf(id)
  }

  /** Waits for the turn of one file of the download. @returns ends the turn @throws the signal's reason */
  async take(id: string, signal: AbortSignal): Promise<() => void> {
    throwIfAborted(signal)
    await new Promise<void>((resolve, reject) => {
      const line = this.#waiting.get(id) ?? []
      this.#waiting.set(id, line)
      const onTurn = () => {
        signal.removeEventListener('abort', onAbort)
        resolve()
      }
      const onAbort = () => {
        line.splice(line.indexOf(onTurn), 1)
        if (line.length === 0) this.#waiting.delete(id)
        this.#queue.waitsNoMore(id)
        reject(abortError(signal))
      }
      line.push(onTurn)
      signal.addEventListener('abort', onAbort, { once: true })
      this.#queue.waits(id)
      this.#serve()
    })
    let over = false
    return () => {
      if (over) return
      over = true
      this.#queue.ended(id)
      this.#serve()
    }
  }

  #serve(): void {
    for (let id = this.#queue.next(); id !== undefined; id = this.#queue.next()) {
      const line = this.#waiting.get(id)
      const begin = line?.shift()
      if (line?.length === 0) this.#waiting.delete(id)
      if (begin === undefined) this.#queue.ended(id)
      else begin()
    }
  }
}
