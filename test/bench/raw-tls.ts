// The baseline of mesh-exchange.ts: the same chunks over plain `node:tls`, two processes on loopback, and the ratio of the
// shipped mesh to it. Run: node test/bench/raw-tls.ts [seconds] [rounds]
// Each round runs both, one right after the other: on a busy machine only their ratio means something.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { connect, createServer, type TLSSocket } from 'node:tls'
import { systemClock } from '@shoal/protocol/time.ts'

/** A shared key instead of a certificate: the bulk cipher is the one that TLS 1.3 chooses too. */
const PSK = {
  pskCallback: () => ({ psk: Buffer.alloc(32, 7), identity: 'bench' }),
  ciphers: 'PSK-AES256-GCM-SHA384',
  maxVersion: 'TLSv1.2',
  checkServerIdentity: () => undefined,
} as const

const MIB = 1024 * 1024
const CHUNK_BYTES = 4 * MIB
const IN_FLIGHT = 4
const seconds = Number(process.argv[2] ?? 4)
const rounds = Number(process.argv[3] ?? 3)

const role = process.env.ROLE
if (role === 'server') await serve()
else if (role === 'client') await download()
else await compare()

/** One byte asks for a chunk. */
async function serve(): Promise<void> {
  const chunk = Buffer.alloc(CHUNK_BYTES, 1)
  const server = createServer({ ...PSK, pskCallback: () => Buffer.alloc(32, 7) }, (socket) => {
    socket.on('error', () => {})
    socket.on('data', (asked) => {
      for (let count = 0; count < asked.byteLength; count++) socket.write(chunk)
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  process.send?.({ port: (server.address() as AddressInfo).port })
  await once(process, 'message')
  process.exit(0)
}

async function download(): Promise<void> {
  const socket = connect({ ...PSK, port: Number(process.env.PORT), host: '127.0.0.1' })
  await once(socket, 'secureConnect')
  const until = systemClock.now() + seconds * 1_000
  const from = systemClock.now()
  const bytes = await fill(socket, () => systemClock.now() < until)
  process.send?.({ rate: bytes / ((systemClock.now() - from) / 1_000) / 1e6 })
  process.exit(0)
}

/** Reads chunks into buffers as a host does, always so many asked for. */
function fill(socket: TLSSocket, more: () => boolean): Promise<number> {
  const into = Buffer.alloc(CHUNK_BYTES)
  let filled = 0
  let bytes = 0
  return new Promise((resolve) => {
    socket.write(Buffer.alloc(IN_FLIGHT))
    socket.on('data', (data) => {
      bytes += data.byteLength
      const first = Math.min(data.byteLength, CHUNK_BYTES - filled)
      data.copy(into, filled, 0, first)
      filled += first
      if (filled < CHUNK_BYTES) return
      data.copy(into, 0, first)
      filled = data.byteLength - first
      if (more()) socket.write(Buffer.alloc(1))
      else resolve(bytes)
    })
  })
}

async function compare(): Promise<void> {
  console.log(`round   raw TLS MB/s   mesh MB/s   mesh / raw   (4 MiB chunks, ${IN_FLIGHT} at once)`)
  for (let round = 1; round <= rounds; round++) {
    const raw = await pair(import.meta.filename, {})
    const mesh = await pair(new URL('mesh-exchange.ts', import.meta.url).pathname, {
      IN_FLIGHT: String(IN_FLIGHT),
    })
    console.log(
      `${String(round).padEnd(7)} ${raw.toFixed(0).padStart(12)} ${mesh.toFixed(0).padStart(11)} ${(mesh / raw).toFixed(2).padStart(12)}`,
    )
  }
}

/** Rate in MB/s of a fresh server and a fresh client. */
async function pair(file: string, extra: NodeJS.ProcessEnv): Promise<number> {
  const start = (env: NodeJS.ProcessEnv) =>
    fork(file, [String(seconds)], { env: { ...process.env, ...extra, ...env } })
  const server = start({ ROLE: 'server' })
  const [listening] = await once(server, 'message')
  const client = start({
    ROLE: 'client',
    ADDRESS: listening.address ?? '',
    PORT: String(listening.port ?? ''),
  })
  const [{ rate }] = await once(client, 'message')
  server.send('report')
  await Promise.all([once(client, 'exit'), once(server, 'exit')])
  return rate
}
