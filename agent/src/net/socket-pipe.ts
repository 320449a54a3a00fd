// A TLS socket as a pipe for chunks. What comes is decrypted straight into the reader's buffer where there is one: on a fast link
// the allocation of a buffer for each record of 16 KiB costs as much as the cipher. Owns the socket; knows nothing of who is at its
// other end.
import type { TLSSocket } from 'node:tls'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { abortError, atEndOfTurn, throwIfAborted } from '@shoal/protocol/time.ts'
import type { BytePipe, PipeWatcher } from './byte-pipe.ts'

/** A record of TLS at its largest. */
const SCRATCH_BYTES = 16 * 1024
/** Unread bytes beyond which the socket is left alone, and the sender held back. */
const PAUSE_BYTES = 256 * 1024
/** Writes under way before the next has to wait: while the system takes one, the next is encrypted. */
const MAX_WRITES = 2

/**
 * Where a socket puts what it reads. Made before its socket, whose option `onread` it serves; an accepted socket has no such option
 * and gives its pieces to {@link Inlet.took}.
 */
export class Inlet {
  readonly #scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES)
  readonly #queue: Uint8Array[] = []
  #target: Uint8Array | undefined
  #filled = 0
  /** The part of the target that the socket was given last. */
  #lent: Uint8Array | undefined
  #unreadBytes = 0
  #isHeld = false
  /** Told after each piece. */
  onBytes: () => void = () => {}

  get unreadBytes(): number {
    return this.#unreadBytes
  }

  /** Bytes in the target so far. */
  get filled(): number {
    return this.#filled
  }

  get isFull(): boolean {
    return this.#target !== undefined && this.#filled === this.#target.byteLength
  }

  /** Buffer for the next piece, chosen before anyone could react to the last one. */
  nextBuffer(): Uint8Array {
    this.#lent = undefined
    if (this.#target === undefined || this.isFull) return this.#scratch
    this.#lent = this.#target.subarray(this.#filled)
    return this.#lent
  }

  /** The first `bytes` of `buffer` have come. @returns false when the reader is far behind */
  took(bytes: number, buffer: Uint8Array): boolean {
    if (this.#isInPlace(bytes, buffer)) this.#filled += bytes
    // The buffer was chosen for a reader who has turned away since, or is used again: what is in it has to be copied.
    else this.#put(buffer.subarray(0, bytes), buffer === this.#scratch || buffer === this.#lent)
    this.onBytes()
    this.#isHeld ||= this.#unreadBytes >= PAUSE_BYTES
    return !this.#isHeld
  }

  #isInPlace(bytes: number, buffer: Uint8Array): boolean {
    const target = this.#target
    return (
      target !== undefined &&
      buffer === this.#lent &&
      buffer.buffer === target.buffer &&
      buffer.byteOffset === target.byteOffset + this.#filled &&
      bytes <= target.byteLength - this.#filled
    )
  }

  /** From now on what comes goes into `target`, after what has come before. */
  aim(target: Uint8Array): void {
    this.#target = target
    this.#filled = 0
    while (this.#filled < target.byteLength && this.#unreadBytes > 0) {
      const piece = this.next(target.byteLength - this.#filled)
      target.set(piece, this.#filled)
      this.#filled += piece.byteLength
    }
  }

  /** The target is the caller's again. */
  release(): number {
    const filled = this.#filled
    this.#target = undefined
    this.#filled = 0
    return filled
  }

  /** Whether the socket was told to wait, and need wait no longer. Says so once. */
  mayGoOn(): boolean {
    const mayGoOn = this.#isHeld && this.#unreadBytes < PAUSE_BYTES
    if (mayGoOn) this.#isHeld = false
    return mayGoOn
  }

  /** Forgets what nobody has read. */
  clear(): void {
    this.#queue.length = 0
    this.#unreadBytes = 0
  }

  next(maxBytes: number): Uint8Array {
    const [piece = new Uint8Array()] = this.#queue
    const taken = piece.subarray(0, maxBytes)
    this.#unreadBytes -= taken.byteLength
    if (taken.byteLength === piece.byteLength) this.#queue.shift()
    else this.#queue[0] = piece.subarray(maxBytes)
    return taken
  }

  #put(piece: Uint8Array, isBorrowed: boolean): void {
    let rest = piece
    if (this.#target !== undefined && this.#unreadBytes === 0) {
      const fits = rest.subarray(0, this.#target.byteLength - this.#filled)
      this.#target.set(fits, this.#filled)
      this.#filled += fits.byteLength
      rest = rest.subarray(fits.byteLength)
    }
    if (rest.byteLength === 0) return
    this.#queue.push(isBorrowed ? Uint8Array.from(rest) : rest)
    this.#unreadBytes += rest.byteLength
  }
}

export class SocketPipe implements BytePipe {
  readonly #socket: TLSSocket
  readonly #inlet: Inlet
  readonly #maxUnreadBytes: number
  #watcher: PipeWatcher = {}
  #failure: Error | undefined
  #ended = false
  #writes = 0
  #wakeReader: () => void = () => {}
  #wakeWriter: () => void = () => {}
  #isWaking = false

  /** @param maxUnreadBytes more than this unread ends it; must cover what we ourselves asked for */
  constructor(socket: TLSSocket, inlet: Inlet, maxUnreadBytes: number) {
    this.#socket = socket
    this.#inlet = inlet
    this.#maxUnreadBytes = maxUnreadBytes
    inlet.onBytes = () => this.#came()
    socket.on('end', () => {
      this.#ended = true
      this.#wakeReader()
      this.#watcher.ended?.()
    })
    socket.on('error', (error) => this.#over(error))
    socket.on('close', () => {
      this.#over(new Error('the connection was closed'))
      this.#watcher.closed?.()
    })
    if (socket.destroyed) this.#over(new Error('the connection was closed'))
  }

  get unreadBytes(): number {
    return this.#inlet.unreadBytes
  }

  get usable(): boolean {
    return this.#failure === undefined && !this.#ended && this.#socket.writable
  }

  get ended(): boolean {
    return this.#ended
  }

  watch(watcher: PipeWatcher): void {
    this.#watcher = watcher
  }

  async read(length: number, signal: AbortSignal): Promise<Uint8Array> {
    const whole = new Uint8Array(length)
    for (let filled = 0; filled < length; ) {
      while (this.#inlet.unreadBytes === 0) await this.#more(signal)
      throwIfAborted(signal)
      const piece = this.#inlet.next(length - filled)
      whole.set(piece, filled)
      filled += piece.byteLength
      this.#resume()
    }
    return whole
  }

  async readInto(target: Uint8Array, signal: AbortSignal): Promise<number> {
    throwIfAborted(signal)
    this.#inlet.aim(target)
    this.#resume()
    try {
      while (this.#inlet.filled === 0) await this.#more(signal)
    } catch (error) {
      this.#inlet.release()
      throw error
    }
    return this.#inlet.release()
  }

  async write(bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    throwIfAborted(signal)
    if (this.#failure !== undefined) throw this.#failure
    this.#writes++
    this.#socket.write(bytes, () => {
      this.#writes--
      this.#wakeWriter()
    })
    await this.#untilWritesBelow(MAX_WRITES, signal)
  }

  async flushed(signal: AbortSignal): Promise<void> {
    await this.#untilWritesBelow(1, signal)
  }

  async close(): Promise<void> {
    this.#socket.end()
  }

  abort(reason: Error): void {
    this.#over(reason)
    this.#socket.destroy()
  }

  #came(): void {
    if (this.#inlet.unreadBytes > this.#maxUnreadBytes) {
      this.#inlet.clear()
      this.abort(new ShoalError('bad-message', 'more bytes came than were asked for'))
    }
    this.#watcher.came?.()
    // What is in the target can wait for the end of this turn of the event loop: then there is more of it.
    if (this.#inlet.unreadBytes > 0 || this.#inlet.isFull) this.#wakeReader()
    else if (!this.#isWaking) {
      this.#isWaking = true
      atEndOfTurn(() => {
        this.#isWaking = false
        this.#wakeReader()
      })
    }
  }

  #over(error: Error): void {
    this.#failure ??= error
    this.#wakeReader()
    this.#wakeWriter()
  }

  #resume(): void {
    if (this.#inlet.mayGoOn()) this.#socket.resume()
  }

  /** Resolves when something may have changed for the reader. @throws what ended the pipe; the signal's reason */
  async #more(signal: AbortSignal): Promise<void> {
    throwIfAborted(signal)
    if (this.#failure !== undefined) throw this.#failure
    if (this.#ended) throw new Error('the connection ended')
    await waitFor(signal, (wake) => {
      this.#wakeReader = wake
    })
    this.#wakeReader = () => {}
    if (signal.aborted) throw abortError(signal)
  }

  async #untilWritesBelow(count: number, signal: AbortSignal): Promise<void> {
    while (this.#writes >= count) {
      if (this.#failure !== undefined) throw this.#failure
      await waitFor(signal, (wake) => {
        this.#wakeWriter = wake
      })
      this.#wakeWriter = () => {}
      throwIfAborted(signal)
    }
  }
}

/** Resolves when `wake` is called or the signal fires. */
function waitFor(signal: AbortSignal, give: (wake: () => void) => void): Promise<void> {
  return new Promise((resolve) => {
    const wake = () => {
      signal.removeEventListener('abort', wake)
      resolve()
    }
    give(wake)
    signal.addEventListener('abort', wake, { once: true })
  })
}
