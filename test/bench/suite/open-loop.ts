// Requests at a given rate whatever the server does: an open loop. Latency runs from the time at which a request should have been
// sent, so that a server that stalls is not spared the requests that would have come meanwhile. HTTP/1.1 on kept connections, one
// request at a time on each, parsed no further than needed: the clients of a case share two cores with its servers.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { percentile } from './contest.ts'
import type { Ending } from './scope.ts'

const CONNECTIONS = 32
const TICK_MS = 1
const GIVE_UP_MS = 15_000

export interface Load {
  readonly url: string
  readonly method: 'HEAD' | 'GET'
  readonly perSecond: number
  /** Ends it. Requests that were due before are still waited for. */
  readonly until: AbortSignal
}

export interface Answered {
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  /** How late, at the 99th percentile, the loop itself came: part of every latency. */
  readonly lateP99Ms: number
  readonly count: number
}

/** @throws Error when an answer is not 200, or requests stay unanswered for 15 s */
export async function openLoop(scope: Ending, { url, method, perSecond, until }: Load): Promise<Answered> {
  const { hostname, port, pathname, host } = new URL(url)
  const text = `${method} ${pathname} HTTP/1.1\r\nhost: ${host}\r\naccept-encoding: identity\r\n\r\n`
  const due: number[] = []
  const free: Connection[] = []
  const latencies: number[] = []
  const late: number[] = []
  let failure: unknown
  let busy = 0
  const send = () => {
    while (due.length > 0 && free.length > 0) {
      const connection = free.pop()
      const at = due.shift()
      if (connection === undefined || at === undefined) return
      busy++
      connection.ask(text, method === 'HEAD', (error) => {
        busy--
        failure ??= error
        latencies.push(systemClock.now() - at)
        free.push(connection)
        send()
      })
    }
  }
  for (let count = 0; count < CONNECTIONS; count++)
    free.push(await openConnection(scope, hostname, Number(port)))
  const startedAt = systemClock.now()
  for (let sent = 0; !until.aborted && failure === undefined; ) {
    const now = systemClock.now()
    const wanted = Math.floor(((now - startedAt) * perSecond) / 1000)
    for (; sent < wanted; sent++) {
      const at = startedAt + (sent * 1000) / perSecond
      due.push(at)
      late.push(now - at)
    }
    send()
    await sleep(systemClock, TICK_MS)
  }
  const seconds = (systemClock.now() - startedAt) / 1000
  const answeredInTime = latencies.length
  for (const since = systemClock.now(); (busy > 0 || due.length > 0) && failure === undefined; ) {
    if (systemClock.now() - since > GIVE_UP_MS)
      throw new Error(`${busy + due.length} requests stay unanswered`)
    await sleep(systemClock, TICK_MS)
  }
  if (failure !== undefined) throw failure
  const rising = (values: number[]) => values.sort((a, b) => a - b)
  return {
    perSecond: answeredInTime / seconds,
    p50Ms: percentile(rising(latencies), 0.5),
    p99Ms: percentile(latencies, 0.99),
    lateP99Ms: percentile(rising(late), 0.99),
    count: latencies.length,
  }
}

interface Connection {
  ask(text: string, withoutBody: boolean, done: (error?: Error) => void): void
}

async function openConnection(scope: Ending, host: string, port: number): Promise<Connection> {
  const socket: Socket = connect({ host, port, noDelay: true })
  await once(socket, 'connect')
  scope.after(() => {
    socket.destroy()
  })
  let waiting: { readonly withoutBody: boolean; readonly done: (error?: Error) => void } | undefined
  let received = ''
  const end = (error?: Error) => {
    const done = waiting?.done
    waiting = undefined
    received = ''
    done?.(error)
  }
  socket.setEncoding('latin1')
  socket.on('data', (piece: string) => {
    received += piece
    if (waiting === undefined) return
    const head = received.indexOf('\r\n\r\n')
    if (head < 0) return
    if (!received.startsWith('HTTP/1.1 200')) return end(new Error(received.slice(0, head)))
    const bodyBytes = waiting.withoutBody ? 0 : bodyBytesOf(received.slice(0, head))
    if (received.length >= head + 4 + bodyBytes) end()
  })
  socket.on('error', (error) => end(error))
  socket.on('close', () => end(new Error('the server closed the connection')))
  return {
    ask(text, withoutBody, done) {
      waiting = { withoutBody, done }
      socket.write(text)
    },
  }
}

function bodyBytesOf(head: string): number {
  const length = /^content-length: (\d+)$/im.exec(head)?.[1]
  if (length === undefined) throw new Error(`an answer without its length:\n${head}`)
  return Number(length)
}
