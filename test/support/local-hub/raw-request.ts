// One HTTP/1.1 request over a bare socket: shows exactly what a server sent and how it ended, which no HTTP client would.
import { connect } from 'node:net'
import { systemClock } from '@shoal/protocol/time.ts'

export interface RawAnswer {
  readonly status: number
  /** In order, names in lower case; one entry a line, so duplicates show. */
  readonly headers: readonly (readonly [name: string, value: string])[]
  readonly body: Buffer
  /** `quiet`: nothing came for `quietMs`, and we hung up. */
  readonly end: 'fin' | 'reset' | 'quiet'
  /** Milliseconds from the request to the first byte and to the end. */
  readonly firstByteMs: number
  readonly totalMs: number
  header(name: string): string | undefined
}

export interface RawRequest {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  /** Hangs up when nothing comes for so long; default 5 s. */
  readonly quietMs?: number
}

/** Asks with `Connection: close`. Rejects when the connection is refused. The body is as sent: chunked framing is kept. */
export function rawRequest(url: string, options: RawRequest = {}): Promise<RawAnswer> {
  const { hostname, port, host } = new URL(url)
  const target = url.slice(url.indexOf(host) + host.length) || '/'
  const { method = 'GET', headers = {}, body = '', quietMs = 5000 } = options
  return new Promise((resolve, reject) => {
    const startedAt = systemClock.now()
    const pieces: Buffer[] = []
    let firstByteMs = Number.POSITIVE_INFINITY
    let end: RawAnswer['end'] = 'fin'
    const socket = connect({ host: hostname, port: Number(port) }, () => {
      const all = { Host: host, Connection: 'close', 'Content-Length': String(body.length), ...headers }
      const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`)
      socket.write(`${method} ${target} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n${body}`)
    })
    socket.setTimeout(quietMs, () => {
      end = 'quiet'
      socket.destroy()
    })
    socket.on('data', (piece) => {
      firstByteMs = Math.min(firstByteMs, systemClock.now() - startedAt)
      pieces.push(piece)
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED') reject(error)
      end = 'reset'
    })
    socket.on('close', () => {
      const times = { firstByteMs, totalMs: systemClock.now() - startedAt }
      resolve({ ...parse(Buffer.concat(pieces)), end, ...times })
    })
  })
}

function parse(bytes: Buffer): Pick<RawAnswer, 'status' | 'headers' | 'body' | 'header'> {
  const split = bytes.indexOf('\r\n\r\n')
  if (split === -1) return { status: 0, headers: [], body: bytes, header: () => undefined }
  const [first = '', ...lines] = bytes.subarray(0, split).toString('latin1').split('\r\n')
  const headers = lines.map((line): [string, string] => {
    const colon = line.indexOf(':')
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]
  })
  return {
    status: Number(first.split(' ')[1]),
    headers,
    body: bytes.subarray(split + 4),
    header: (name) => headers.find(([one]) => one === name.toLowerCase())?.[1],
  }
}
