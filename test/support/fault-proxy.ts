// A TCP connection between two programs that a test can slow down and break: delay, rate, stall and reset at byte k, block of one
// way, on all connections or one, and back to normal. Knows bytes only. It ends both TCP connections itself, so it cannot lose
// single packets, and a connection to it is accepted even while its ways are blocked.
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { TestContext } from 'node:test'
import { systemClock } from '@shoal/protocol/time.ts'
import { atEnd } from './cleanups.ts'

const LOOPBACK = '127.0.0.1'
/** Held back of one way, so that the sender is slowed down and not the memory filled. */
const QUEUE_BYTES = 64 * 1024
/** The same while there is a delay: a long line holds more. */
const LONG_QUEUE_BYTES = 8 * 1024 * 1024
/** A slow rate moves in steps of this part of a second. */
const STEPS_PER_SECOND = 50
/** What a line did not use for so long it may catch up with: timers come late. */
const CATCH_UP_MS = 50

/** What happens to one way of a connection. Empty: everything passes at once. */
export interface WayFaults {
  /** Everything arrives so much later; the rate stays. */
  readonly delayMs?: number
  readonly bytesPerSecond?: number
  /** A rate that ways share, also those of other proxies: the one line of a host with many peers. */
  readonly line?: SharedLine
  /** After so many bytes of this way nothing passes, not even an end; nobody is told. */
  readonly stallAfterBytes?: number
  /** After so many bytes of this way both ends see the connection reset. */
  readonly resetAfterBytes?: number
  /** Nothing passes, not even an end; nobody is told. */
  readonly blocked?: boolean
}

/** Ways take turns on it, in the order in which they had something to send. */
export class SharedLine {
  readonly bytesPerSecond: number
  readonly #turns: Turn[] = []
  #freeAt = 0

  constructor(bytesPerSecond: number) {
    this.bytesPerSecond = bytesPerSecond
  }

  /** Milliseconds until it is this one's turn; it is woken when that may have changed. */
  waitMs(turn: Turn): number {
    if (!this.#turns.includes(turn)) this.#turns.push(turn)
    return this.#turns[0] === turn ? this.#freeAt - systemClock.now() : Number.POSITIVE_INFINITY
  }

  take(turn: Turn, bytes: number): void {
    this.#freeAt =
      Math.max(systemClock.now() - CATCH_UP_MS, this.#freeAt) + (bytes * 1000) / this.bytesPerSecond
    this.leave(turn)
  }

  leave(turn: Turn): void {
    const at = this.#turns.indexOf(turn)
    if (at === -1) return
    this.#turns.splice(at, 1)
    this.#turns[0]?.wake()
  }
}

interface Turn {
  wake(): void
}

export interface Faults {
  /** From whoever connected to whoever listens. */
  readonly up?: WayFaults
  readonly down?: WayFaults
}

export interface ProxiedConnection {
  /** Bytes that passed so far. */
  readonly upBytes: number
  readonly downBytes: number
  readonly open: boolean
  /** In place of those it had. What was held back goes on when nothing holds it any more. */
  set(faults: Faults): void
  clear(): void
  reset(): void
}

export interface FaultProxy {
  /** Connect here, on 127.0.0.1. */
  readonly port: number
  /** All that ever came, in order. */
  readonly connections: readonly ProxiedConnection[]
  /** For all connections, those to come too. */
  set(faults: Faults): void
  /** Back to normal: all connections, and those to come. */
  clear(): void
  /** Resets every open connection. New ones are taken again. */
  reset(): void
}

/** A forwarder to a port of 127.0.0.1 (or of `toHost`), ended with the test. */
export async function faultProxy(
  context: Pick<TestContext, 'after'>,
  toPort: number,
  faults: Faults = {},
  toHost = LOOPBACK,
): Promise<FaultProxy> {
  let current = faults
  const connections: Connection[] = []
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (inbound) => {
    const outbound = connect({ port: toPort, host: toHost, allowHalfOpen: true, noDelay: true })
    connections.push(new Connection(inbound, outbound, current))
  }).listen(0, LOOPBACK)
  await once(server, 'listening')
  const set = (next: Faults) => {
    current = next
    for (const connection of connections) connection.set(next)
  }
  const reset = () => {
    for (const connection of connections) connection.reset()
  }
  atEnd(context, () => {
    reset()
    server.close()
  })
  return {
    port: (server.address() as AddressInfo).port,
    connections,
    set,
    clear: () => set({}),
    reset,
  }
}

class Connection implements ProxiedConnection {
  readonly #sockets: readonly Socket[]
  readonly #up: Way
  readonly #down: Way

  constructor(inbound: Socket, outbound: Socket, faults: Faults) {
    this.#sockets = [inbound, outbound]
    this.#up = new Way(inbound, outbound, () => this.reset())
    this.#down = new Way(outbound, inbound, () => this.reset())
    this.set(faults)
  }

  get upBytes(): number {
    return this.#up.passedBytes
  }

  get downBytes(): number {
    return this.#down.passedBytes
  }

  get open(): boolean {
    return this.#sockets.some((socket) => !socket.destroyed)
  }

  set({ up = {}, down = {} }: Faults): void {
    this.#up.set(up)
    this.#down.set(down)
  }

  clear(): void {
    this.set({})
  }

  reset(): void {
    for (const socket of this.#sockets) if (!socket.destroyed) socket.resetAndDestroy()
    this.#up.stop()
    this.#down.stop()
  }
}

/** An end or a reset waits its turn behind the bytes before it. */
interface Item {
  data: Uint8Array
  readonly then: 'more' | 'end' | 'reset'
  readonly at: number
}

const NO_BYTES = new Uint8Array()

class Way implements Turn {
  passedBytes = 0
  readonly #from: Socket
  readonly #to: Socket
  readonly #onReset: () => void
  readonly #queue: Item[] = []
  #queuedBytes = 0
  #faults: WayFaults = {}
  /** The way's own rate. */
  #own: SharedLine | undefined
  #stopped = false
  #awake: () => void = () => {}

  constructor(from: Socket, to: Socket, onReset: () => void) {
    this.#from = from
    this.#to = to
    this.#onReset = onReset
    from.on('data', (data) => this.#push(data, 'more'))
    from.on('end', () => this.#push(NO_BYTES, 'end'))
    from.on('error', () => this.#push(NO_BYTES, 'reset'))
    this.#run().catch(() => onReset())
  }

  wake(): void {
    this.#awake()
  }

  set(faults: WayFaults): void {
    this.#faults.line?.leave(this)
    this.#faults = faults
    this.#own = faults.bytesPerSecond === undefined ? undefined : new SharedLine(faults.bytesPerSecond)
    this.#flow()
    this.wake()
  }

  stop(): void {
    this.#stopped = true
    this.#faults.line?.leave(this)
    this.wake()
  }

  #push(data: Uint8Array, then: Item['then']): void {
    this.#queue.push({ data, then, at: systemClock.now() })
    this.#queuedBytes += data.byteLength
    this.#flow()
    this.wake()
  }

  #flow(): void {
    const most = (this.#faults.delayMs ?? 0) > 0 ? LONG_QUEUE_BYTES : QUEUE_BYTES
    if (this.#queuedBytes >= most) this.#from.pause()
    else this.#from.resume()
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      const item = this.#queue[0]
      const waitMs = item === undefined ? Number.POSITIVE_INFINITY : this.#waitMs(item)
      if (waitMs > 0) await this.#sleep(waitMs)
      else if (item !== undefined && (await this.#pass(item)) === 'over') return
    }
  }

  /** Until the first of the queue may pass, as things are. */
  #waitMs(item: Item): number {
    const { delayMs = 0, stallAfterBytes = Number.POSITIVE_INFINITY, blocked = false } = this.#faults
    if (blocked || this.passedBytes >= stallAfterBytes) return Number.POSITIVE_INFINITY
    const ownMs = Math.max(item.at + delayMs - systemClock.now(), this.#own?.waitMs(this) ?? 0)
    // A place in the shared line is for who could use it.
    return ownMs > 0 ? ownMs : (this.#faults.line?.waitMs(this) ?? 0)
  }

  async #pass(item: Item): Promise<'goes on' | 'over'> {
    const { stallAfterBytes = Number.POSITIVE_INFINITY, resetAfterBytes = Number.POSITIVE_INFINITY } =
      this.#faults
    const lines = [this.#own, this.#faults.line].filter((line) => line !== undefined)
    const steps = lines.map((line) => Math.ceil(line.bytesPerSecond / STEPS_PER_SECOND))
    const left = Math.min(stallAfterBytes, resetAfterBytes) - this.passedBytes
    const piece = item.data.subarray(0, Math.max(0, Math.min(item.data.byteLength, left, ...steps)))
    item.data = item.data.subarray(piece.byteLength)
    this.passedBytes += piece.byteLength
    this.#queuedBytes -= piece.byteLength
    for (const line of lines) line.take(this, piece.byteLength)
    if (piece.byteLength > 0) await this.#write(piece)
    const reset = this.passedBytes >= resetAfterBytes
    if (reset || (item.then === 'reset' && item.data.byteLength === 0)) {
      this.#onReset()
      return 'over'
    }
    if (item.data.byteLength > 0) return 'goes on'
    this.#queue.shift()
    this.#flow()
    if (item.then === 'more') return 'goes on'
    this.#to.end()
    return 'over'
  }

  /** Resolves when the kernel has it: a reset would throw away what it has not. */
  #write(piece: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#to.write(piece, (error) => (error ? reject(error) : resolve()))
    })
  }

  /** Until then, or until something changes. */
  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = Number.isFinite(ms) ? systemClock.after(ms, () => this.wake()) : () => {}
      this.#awake = () => {
        cancel()
        this.#awake = () => {}
        resolve()
      }
    })
  }
}
