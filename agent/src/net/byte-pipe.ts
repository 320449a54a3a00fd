// What chunks travel on: bytes both ways, in order, with back-pressure. Two things are such a pipe: a stream of a libp2p
// connection (exact-stream.ts) and a data connection (socket-pipe.ts). Shapes only.

/** An end of a pipe proves nothing: reading past it throws, however it came about. */
export interface BytePipe {
  /** Bytes that have come and that nobody has read. */
  readonly unreadBytes: number
  /** Neither side has ended it. */
  readonly usable: boolean
  /** The other side has said in order that nothing more comes. */
  readonly ended: boolean
  /**
   * Exactly `length` bytes.
   * @throws ShoalError `bad-message` for more than was asked for; what ended the pipe; the signal's reason
   */
  read(length: number, signal: AbortSignal): Promise<Uint8Array>
  /**
   * Fills `target` from the front with what has come, at least one byte; waits when there is none. Nothing is written to `target`
   * once it has settled.
   * @returns how many bytes
   * @throws as {@link read}
   */
  readInto(target: Uint8Array, signal: AbortSignal): Promise<number>
  /**
   * Resolves when the connection can take more. It may still refer to `bytes`, so they must not change.
   * @throws what ended the pipe; the signal's reason
   */
  write(bytes: Uint8Array, signal: AbortSignal): Promise<void>
  /**
   * Resolves when the connection refers to nothing of what was written any more. Not there where nobody can tell.
   * @throws as {@link write}
   */
  flushed?(signal: AbortSignal): Promise<void>
  /** Ends it in order. @throws what goes wrong with that */
  close(signal?: AbortSignal): Promise<void>
  /** Ends it at once. */
  abort(reason: Error): void
  /** Who wants to know what happens to it; one at a time. */
  watch(watcher: PipeWatcher): void
}

export interface PipeWatcher {
  /** Bytes have come. */
  came?(): void
  /** The other side sends no more. */
  ended?(): void
  /** It is over, for whatever reason. */
  closed?(): void
}
