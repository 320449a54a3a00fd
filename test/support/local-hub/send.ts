// Puts an answer on the wire, at the pace and with the faults it was given, and tells what was handed to the socket.
// Decides nothing about what is answered.
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import { type Clock, sleep } from '@shoal/protocol/time.ts'
import type { Answer, Body } from './answer.ts'
import type { FaultEffect } from './faults.ts'
import { Pace } from './pace.ts'

export interface Sending {
  readonly clock: Clock
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** Fires when the connection is gone. */
  readonly signal: AbortSignal
  /** Shared by all connections. */
  readonly pace: Pace
  readonly effect: FaultEffect
  /** Told of bytes of a file when they are handed to the socket. */
  readonly onFileBytes: (bytes: number) => void
  readonly onExpire: () => void
}

/** Resolves when the answer is out, or cut as told. Rejects when the connection goes. */
export async function sendAnswer(answer: Answer, sending: Sending): Promise<void> {
  const sink =
    sending.effect.contentLength === undefined
      ? nodeSink(sending)
      : rawSink(sending, sending.effect.contentLength)
  sink.head(answer)
  const bodiless = sending.request.method === 'HEAD' || answer.status === 304 || answer.body.type === 'none'
  if (bodiless) return sink.end()
  const whole = await sendBody(answer.body, sending, sink)
  if (whole) sink.end()
}

/** @returns false when a fault ended the connection */
async function sendBody(body: Body, sending: Sending, sink: Sink): Promise<boolean> {
  const { effect, signal } = sending
  const isFile = body.type === 'file' || body.type === 'gzip'
  const drip = new Pace(sending.clock, effect.bytesPerSecond)
  let sent = 0
  let stalled = false
  for await (const piece of piecesOf(body, effect)) {
    let rest = piece
    while (rest.byteLength > 0) {
      if (sent === effect.stallAfterBytes && !stalled) {
        stalled = true
        await stall(sending, sink)
      }
      if (endsHere(sent, sending, sink)) return false
      const most = Math.min(rest.byteLength, untilNextEvent(sent, effect, stalled))
      const size = drip.pieceBytes(isFile ? sending.pace.pieceBytes(most) : most)
      await drip.take(size, signal)
      if (isFile) await sending.pace.take(size, signal)
      if (signal.aborted) throw signal.reason
      if (isFile) sending.onFileBytes(size)
      await sink.write(rest.subarray(0, size))
      rest = rest.subarray(size)
      sent += size
    }
  }
  if (sent === effect.stallAfterBytes && !stalled) await stall(sending, sink)
  return !endsHere(sent, sending, sink)
}

function endsHere(sent: number, { effect, response, onExpire }: Sending, sink: Sink): boolean {
  const socket = response.socket
  if (sent === effect.expireAfterBytes) onExpire()
  if (sent === effect.expireAfterBytes || sent === effect.resetAfterBytes) {
    socket?.resetAndDestroy()
    return true
  }
  if (sent !== effect.cutAfterBytes) return false
  sink.flush()
  socket?.end()
  return true
}

function untilNextEvent(sent: number, effect: FaultEffect, stalled: boolean): number {
  const events = [
    effect.expireAfterBytes,
    effect.resetAfterBytes,
    effect.cutAfterBytes,
    stalled ? undefined : effect.stallAfterBytes,
  ]
  return Math.min(
    ...events.map((at) => (at === undefined || at <= sent ? Number.POSITIVE_INFINITY : at - sent)),
  )
}

async function stall({ clock, effect, signal }: Sending, sink: Sink): Promise<void> {
  sink.flush()
  if (effect.stallMs !== undefined) return sleep(clock, effect.stallMs, signal)
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

async function* piecesOf(body: Body, effect: FaultEffect): AsyncIterable<Uint8Array> {
  if (body.type === 'none') return
  if (body.type !== 'file') {
    yield body.bytes
    return
  }
  let at = body.start
  for await (const piece of body.file.content.read(body.start, body.end)) {
    yield spoil(piece, at, effect)
    at += piece.byteLength
  }
}

function spoil(piece: Uint8Array, at: number, effect: FaultEffect): Uint8Array {
  if (effect.wrongBytesAt === undefined) return piece
  const from = Math.max(effect.wrongBytesAt, at)
  const to = Math.min(effect.wrongBytesAt + (effect.wrongBytes ?? 1), at + piece.byteLength)
  if (from >= to) return piece
  const copy = Uint8Array.from(piece)
  for (let index = from - at; index < to - at; index += 1) copy[index] = (copy[index] ?? 0) ^ 0xff
  return copy
}

interface Sink {
  head(answer: Answer): void
  /** Lets the head leave though no body follows yet. */
  flush(): void
  /** Resolves when the socket takes more. */
  write(bytes: Uint8Array): Promise<void>
  end(): void
}

function nodeSink({ response, signal }: Sending): Sink {
  return {
    head(answer) {
      response.writeHead(answer.status, { ...answer.headers })
    },
    flush: () => response.flushHeaders(),
    write: (bytes) => writeTo(response, bytes, signal),
    end: () => response.end(),
  }
}

/** Writes to the socket itself, for what node:http would not send. The connection ends with the answer. */
function rawSink({ request, signal }: Sending, lie: NonNullable<FaultEffect['contentLength']>): Sink {
  const socket: Socket = request.socket
  const chunked = lie === 'chunked'
  return {
    head(answer) {
      const lines = Object.entries(answer.headers)
        .filter(([name]) => name.toLowerCase() !== 'content-length')
        .map(([name, value]) => `${name}: ${value}`)
      const told = Number(answer.headers['Content-Length'] ?? '0')
      socket.write(
        [
          `HTTP/1.1 ${answer.status} ${STATUS_CODES[answer.status] ?? ''}`,
          ...lines,
          ...lengthLines(lie, told),
          'Connection: close',
          '',
          '',
        ].join('\r\n'),
      )
    },
    flush: () => {},
    async write(bytes) {
      if (chunked) socket.write(`${bytes.byteLength.toString(16)}\r\n`)
      await writeTo(socket, bytes, signal)
      if (chunked) socket.write('\r\n')
    },
    end() {
      if (chunked) socket.write('0\r\n\r\n')
      socket.end()
    },
  }
}

function lengthLines(lie: NonNullable<FaultEffect['contentLength']>, right: number): readonly string[] {
  if (lie === 'absent') return []
  if (lie === 'chunked') return ['Transfer-Encoding: chunked']
  if (lie === 'short') return [`Content-Length: ${Math.max(0, right - 1)}`]
  if (lie === 'long') return [`Content-Length: ${right + 1}`]
  if (lie === 'negative') return [`Content-Length: -${right}`]
  return [`Content-Length: ${right}`, `Content-Length: ${right + 1}`]
}

function writeTo(target: ServerResponse | Socket, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.reject(signal.reason)
  if (target.write(bytes)) return Promise.resolve()
  return new Promise((resolve, reject) => {
    const onDrain = () => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    }
    const onAbort = () => {
      target.off('drain', onDrain)
      reject(signal.reason)
    }
    target.once('drain', onDrain)
    signal.addEventListener('abort', onAbort, { once: true })
  })
}
