// How fast one stream is between two processes on loopback: plain TCP, node:tls, libp2p with TLS or Noise and messages of three
// sizes. Run: node test/bench/decisions/streams.ts [rounds]. With COST=1 it tells milliseconds of processor time a GB, both sides
// together, instead of MB/s: that stays true on a busy machine. What the shipped mesh reaches is test/bench/mesh-exchange.ts.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, connect as connectTcp, createServer as listenTcp, type Socket } from 'node:net'
import { connect as connectTls, createServer as listenTls } from 'node:tls'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { byteStream } from '@libp2p/utils'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { systemClock } from '@shoal/protocol/time.ts'
import { createLibp2p } from 'libp2p'
import { compareInRounds } from './rounds.ts'

const PROTOCOL = '/bench/1'
const KIB = 1024
const FOR_MS = 2_000
/** A shared key instead of a certificate: the bulk cipher is the one that TLS 1.3 chooses too. */
const PSK = { ciphers: 'PSK-AES256-GCM-SHA384', maxVersion: 'TLSv1.2' } as const

interface Result {
  readonly rate: number
  readonly costMs: number
  readonly bytes: number
}

interface Variant {
  readonly carrier: 'tcp' | 'tls' | 'libp2p tls' | 'libp2p noise'
  readonly messageBytes: number
}

const VARIANTS: Record<string, Variant> = {
  'node:net, 64 KiB writes': { carrier: 'tcp', messageBytes: 64 * KIB },
  'node:net, 1 MiB writes': { carrier: 'tcp', messageBytes: KIB * KIB },
  'node:tls, 64 KiB writes': { carrier: 'tls', messageBytes: 64 * KIB },
  'node:tls, 1 MiB writes': { carrier: 'tls', messageBytes: KIB * KIB },
  'libp2p TLS, 64 KiB messages': { carrier: 'libp2p tls', messageBytes: 64 * KIB },
  'libp2p TLS, 256 KiB messages': { carrier: 'libp2p tls', messageBytes: 256 * KIB },
  'libp2p TLS, 1 MiB messages': { carrier: 'libp2p tls', messageBytes: KIB * KIB },
  'libp2p Noise, 64 KiB messages': { carrier: 'libp2p noise', messageBytes: 64 * KIB },
  'libp2p Noise, 1 MiB messages': { carrier: 'libp2p noise', messageBytes: KIB * KIB },
}

const name = process.env.VARIANT
const variant = name === undefined ? undefined : VARIANTS[name]
const inCost = process.env.COST !== undefined
if (variant === undefined)
  await compareInRounds(
    import.meta.filename,
    Object.keys(VARIANTS),
    inCost ? 'ms of processor time a GB' : 'MB/s',
    inCost ? 'least' : 'most',
  )
else if (process.env.ADDRESS !== undefined) {
  await (variant.carrier.startsWith('libp2p') ? receiveLibp2p(variant) : receiveRaw(variant))
  process.exit(0)
} else {
  const address = variant.carrier.startsWith('libp2p') ? await sendLibp2p(variant) : await sendRaw(variant)
  const child = fork(import.meta.filename, [], { env: { ...process.env, ADDRESS: address } })
  const [begun] = await Promise.race([once(child, 'message'), once(child, 'exit').then(() => [undefined])])
  const before = process.cpuUsage()
  const [got] = await Promise.race([once(child, 'message'), once(child, 'exit').then(() => [undefined])])
  const { user, system } = process.cpuUsage(before)
  if (begun !== undefined && got !== undefined) {
    const { rate, costMs, bytes } = got as Result
    process.send?.(inCost ? (costMs + (user + system) / 1e3) / (bytes / 1e9) : rate)
  }
  process.exit(0)
}

/** The receiver tells its parent, the sender, that it begins; what is returned tells what came of it. */
function beginning(): (bytes: number) => Promise<void> {
  process.send?.('begun')
  const from = systemClock.now()
  const before = process.cpuUsage()
  return (bytes) => {
    const { user, system } = process.cpuUsage(before)
    const result: Result = {
      bytes,
      costMs: (user + system) / 1e3,
      rate: bytes / 1e3 / (systemClock.now() - from),
    }
    return new Promise((resolve) => process.send?.(result, () => resolve()))
  }
}

async function sendRaw({ carrier, messageBytes }: Variant): Promise<string> {
  const message = Buffer.alloc(messageBytes, 1)
  const feed = (socket: Socket) => {
    const write = () => {
      while (socket.write(message));
      socket.once('drain', write)
    }
    socket.on('error', () => {})
    write()
  }
  const server =
    carrier === 'tcp' ? listenTcp(feed) : listenTls({ ...PSK, pskCallback: () => Buffer.alloc(32, 7) }, feed)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return String((server.address() as AddressInfo).port)
}

async function receiveRaw({ carrier }: Variant): Promise<void> {
  const port = Number(process.env.ADDRESS)
  const pskCallback = () => ({ psk: Buffer.alloc(32, 7), identity: 'bench' })
  const socket =
    carrier === 'tcp'
      ? connectTcp({ port, host: '127.0.0.1' })
      : connectTls({ ...PSK, port, host: '127.0.0.1', pskCallback, checkServerIdentity: () => undefined })
  const [first] = await once(socket, 'data')
  const tell = beginning()
  let bytes = (first as Uint8Array).byteLength
  socket.on('data', (data: Uint8Array) => {
    bytes += data.byteLength
  })
  await new Promise<void>((resolve) => systemClock.after(FOR_MS, resolve))
  await tell(bytes)
}

function libp2pNode({ carrier }: Variant) {
  return createLibp2p({
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [carrier === 'libp2p tls' ? tls() : noise()],
    streamMuxers: [
      yamux({ streamOptions: { maxStreamWindowSize: 4 * KIB * KIB, maxReadBufferLength: 8 * KIB * KIB } }),
    ],
  })
}

async function sendLibp2p(given: Variant): Promise<string> {
  const node = await libp2pNode(given)
  const message = Buffer.alloc(given.messageBytes, 1)
  await node.handle(PROTOCOL, async (stream) => {
    const bytes = byteStream(stream)
    try {
      for (;;) await bytes.write(message)
    } catch {
      // The receiver has seen enough.
    }
  })
  return node.getMultiaddrs()[0]?.toString() ?? ''
}

async function receiveLibp2p(given: Variant): Promise<void> {
  const node = await libp2pNode(given)
  const stream = await node.dialProtocol(multiaddr(process.env.ADDRESS ?? ''), PROTOCOL)
  // Its own limit, and above the window: else a receiver that is late for a moment loses its stream.
  const reader = byteStream(stream, { maxBufferSize: 16 * KIB * KIB })
  await reader.read({ bytes: given.messageBytes })
  const tell = beginning()
  const from = systemClock.now()
  let bytes = 0
  while (systemClock.now() - from < FOR_MS)
    bytes += (await reader.read({ bytes: given.messageBytes })).byteLength
  await tell(bytes)
}
