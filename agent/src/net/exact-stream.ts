// A libp2p stream read and written with back-pressure. libp2p's own ways lose it: its iterator queues without limit, its
// `onDrain()` waits once, and its `byteStream` says that a write is through when a part of it is. An end of a stream proves
// nothing here: reading past it throws, however it came about.
import type { Stream } from '@libp2p/interface'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { abortError, throwIfAborted } from '@shoal/protocol/time.ts'
import type { BytePipe, PipeWatcher } from './byte-pipe.ts'

export class ExactStream implements BytePipe {
  readonly #stream: Stream
  readonly #maxUnreadBytes: number
  readonly #queue: Uint8Array[] = []
  #unreadBytes = 0
  #failure: Error | undefined
  #wakeReader: () => void = () => {}
  #watcher: PipeWatcher = {}

  /** @param maxUnreadBytes more than this unread resets the stream; must cover what we ourselves asked for */
  constructor(stream: Stream, maxUnreadBytes: number) {
    this.#stream = stream
    this.#maxUnreadBytes = maxUnreadBytes
    stream.addEventListener('message', ({ data }) => this.#take(data))
    stream.addEventListener('remoteCloseWrite', () => {
      this.#wakeReader()
      this.#watcher.ended?.()
    })
    stream.addEventListener('close', ({ error }) => {
      this.#failure ??= error
      this.#wakeReader()
      this.#watcher.closed?.()
    })
  }

  /** Bytes that have come and that nobody has read. */
  get unreadBytes(): number {
    return this.#unreadBytes
  }

  get usable(): boolean {
    return this.#stream.status === 'open' && this.#stream.remoteWriteStatus === 'writable'
  }

  get ended(): boolean {
    return this.#stream.remoteWriteStatus !== 'writable'
  }

  async close(signal?: AbortSignal): Promise<void> {
    await this.#stream.close(signal === undefined ? {} : { signal })
  }

  abort(reason: Error): void {
    this.#stream.abort(reason)
  }

  watch(watcher: PipeWatcher): void {
    this.#watcher = watcher
  }

  /**
   * What has come, at least one byte and at most `maxBytes`; waits when there is none.
   * @throws ShoalError `bad-message` for more than was asked for; what ended the stream; the signal's reason
   */
  async readSome(maxBytes: number, signal: AbortSignal): Promise<Uint8Array> {
    for (;;) {
      throwIfAborted(signal)
      if (this.#unreadBytes > 0) return this.#next(maxBytes)
      if (this.#failure !== undefined) throw this.#failure
      if (this.#stream.remoteWriteStatus !== 'writable' && this.#stream.readBufferLength === 0)
        throw new Error('the stream ended')
      await this.#somethingNew(signal)
    }
  }

  /**
   * Fills `target` from the front with what has come, at least one byte; waits when there is none. Takes all that is there: a
   * connection hands over 16 KiB at a time, and a turn of the event loop for each costs more than the copy.
   * @returns how many bytes
   * @throws as {@link readSome}
   */
  async readInto(target: Uint8Array, signal: AbortSignal): Promise<number> {
    let some = await this.readSome(target.byteLength, signal)
    let filled = 0
    for (;;) {
      target.set(some, filled)
      filled += some.byteLength
      if (filled === target.byteLength || this.#unreadBytes === 0) return filled
      some = this.#next(target.byteLength - filled)
    }
  }

  /** Exactly `length` bytes. @throws as {@link readSome} */
  async read(length: number, signal: AbortSignal): Promise<Uint8Array> {
    const first = await this.readSome(length, signal)
    if (first.byteLength === length) return first
    const whole = new Uint8Array(length)
    whole.set(first)
    for (let filled = first.byteLength; filled < length; ) {
      const some = await this.readSome(length - filled, signal)
      whole.set(some, filled)
      filled += some.byteLength
    }
    return whole
  }

  /**
   * Resolves when all of `bytes` has been handed to the connection and it can take more. The connection may still refer
   * to them.
   * @throws what ended the stream; the signal's reason
   */
  async write(bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    throwIfAborted(signal)
    const stream = this.#stream
    if (stream.send(bytes)) return
    await new Promise<void>((resolve, reject) => {
      const end = (settle: () => void) => {
        stream.removeEventListener('drain', onDrain)
        stream.removeEventListener('idle', onDrain)
        stream.removeEventListener('close', onClose)
        signal.removeEventListener('abort', onAbort)
        settle()
      }
      // `drain` also comes when only the next part fits.
      const onDrain = () => {
        if (stream.writeBufferLength === 0) end(resolve)
      }
      const onClose = () => end(() => reject(this.#failure ?? new Error('the stream was closed')))
      const onAbort = () => end(() => reject(abortError(signal)))
      stream.addEventListener('drain', onDrain)
      stream.addEventListener('idle', onDrain)
      stream.addEventListener('close', onClose)
      signal.addEventListener('abort', onAbort)
    })
  }

  #take(data: Uint8Array | Iterable<Uint8Array>): void {
    if (this.#failure !== undefined) return
    for (const piece of data instanceof Uint8Array ? [data] : data) {
      this.#queue.push(piece)
      this.#unreadBytes += piece.byteLength
    }
    if (this.#unreadBytes > this.#maxUnreadBytes) {
      const failure = new ShoalError('bad-message', 'more bytes came than were asked for')
      this.#failure = failure
      this.#queue.length = 0
      this.#unreadBytes = 0
      // Not while libp2p is still handing out this very message.
      queueMicrotask(() => this.#stream.abort(failure))
    }
    this.#wakeReader()
    this.#watcher.came?.()
  }

  #next(maxBytes: number): Uint8Array {
    const [piece = new Uint8Array()] = this.#queue
    const taken = piece.subarray(0, maxBytes)
    this.#unreadBytes -= taken.byteLength
    if (taken.byteLength === piece.byteLength) this.#queue.shift()
    else this.#queue[0] = piece.subarray(maxBytes)
    return taken
  }

  #somethingNew(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#wakeReader = () => {}
        signal.removeEventListener('abort', wake)
        resolve()
      }
      this.#wakeReader = wake
      signal.addEventListener('abort', wake)
    })
  }
}
