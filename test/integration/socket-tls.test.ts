// TLS on the socket: talks with itself and with stock @libp2p/tls on either side, and refuses what that one refuses.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { ConnectionEncrypter, Libp2p, MessageStream, Stream } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { tcp } from '@libp2p/tcp'
import { type TLSComponents, tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { ExactStream } from '@shoal/agent/net/exact-stream.ts'
import { isTcpConnection, socketTls } from '@shoal/agent/net/socket-tls.ts'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { createLibp2p } from 'libp2p'
import { eventually } from '../support/agent-process.ts'

const PROTOCOL = '/test/socket-tls/1.0.0'
const BYTES = 3_000_001
type Make = () => (components: TLSComponents) => ConnectionEncrypter
const ours = socketTls(systemClock)
const ENDS: readonly (readonly [string, Make])[] = [
  ['ours', () => ours],
  ['stock', tls],
]

/** @param before runs between the choice of the encrypter and its handshake, with the connection it got */
async function node(
  context: TestContext,
  make: Make,
  before: (connection: MessageStream) => Promise<void> = async () => {},
): Promise<Libp2p> {
  const one = await createLibp2p({
    privateKey: await generateKeyPair('Ed25519'),
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [
      (components) => {
        const inner = make()(components)
        return {
          protocol: inner.protocol,
          async secureInbound(connection, options) {
            await before(connection)
            return inner.secureInbound(connection, options)
          },
          async secureOutbound(connection, options) {
            await before(connection)
            return inner.secureOutbound(connection, options)
          },
        }
      },
    ],
    streamMuxers: [yamux()],
    connectionMonitor: { enabled: false },
  })
  context.after(() => one.stop())
  return one
}

/** Both ways at once, written in pieces that fit no record. */
async function carries(from: Libp2p, to: Libp2p): Promise<void> {
  const arrived = Promise.withResolvers<Stream>()
  await to.handle(PROTOCOL, (stream) => arrived.resolve(stream))
  const out = await from.dialProtocol(to.getMultiaddrs(), PROTOCOL)
  const { signal } = new AbortController()
  const write = async (stream: ExactStream, bytes: Uint8Array) => {
    for (let at = 0; at < bytes.byteLength; at += 100_003)
      await stream.write(bytes.subarray(at, at + 100_003), signal)
  }
  const [one, other] = [new ExactStream(out, BYTES), new ExactStream(await arrived.promise, BYTES)]
  const [there, back] = [pattern(31), pattern(17)]
  const [, , got, gotBack] = await Promise.all([
    write(one, there),
    write(other, back),
    other.read(BYTES, signal),
    one.read(BYTES, signal),
  ])
  assert.equal(Buffer.compare(got, there), 0)
  assert.equal(Buffer.compare(gotBack, back), 0)
}

function pattern(step: number): Uint8Array {
  return Uint8Array.from({ length: BYTES }, (_, at) => (at * step) & 0xff)
}

for (const [from, makeFrom] of ENDS)
  for (const [to, makeTo] of ENDS)
    test(`${from} dials ${to}: each learns who the other is, and every byte arrives`, async (t) => {
      const [a, b] = [await node(t, makeFrom), await node(t, makeTo)]
      await carries(a, b)
      assert.equal(a.getConnections()[0]?.remotePeer.toString(), b.peerId.toString())
      assert.equal(b.getConnections()[0]?.remotePeer.toString(), a.peerId.toString())
      assert.equal(a.getConnections()[0]?.encryption, '/tls/1.0.0')
      assert.equal(a.getConnections()[0]?.multiplexer, '/yamux/1.0.0')
    })

test('a certificate serves many connections, and one from a time that the clock has not reached is made anew', async (t) => {
  let wallTime = 5_000_000_000
  const a = await node(t, () => socketTls({ wallTime: () => wallTime }))
  const b = await node(t, () => ours)
  const seen: string[] = []
  const port = Number(/tcp\/(\d+)/.exec(String(a.getMultiaddrs()[0]))?.[1])
  const look = async () => {
    const session = await sessionWith(t, port)
    seen.push(session.getPeerX509Certificate()?.serialNumber ?? '')
    session.destroy()
  }
  await look()
  wallTime += 1_000
  await look()
  wallTime -= 2 * 3_600_000
  await look()
  wallTime += 3_600_000
  await look()
  const [first, second, third, fourth] = seen
  assert.equal(second, first)
  assert.notEqual(third, first)
  assert.notEqual(fourth, third)
  await carries(a, b)
})

test('a first handshake message that is there before the handshake begins is not lost', async (t) => {
  const seen: boolean[] = []
  const late = async (connection: MessageStream) => {
    seen.push(isTcpConnection(connection))
    while (connection.readBufferLength === 0) await sleep(systemClock, 5)
  }
  const [a, b] = [await node(t, () => ours), await node(t, () => ours, late)]
  await carries(a, b)
  assert.deepEqual(seen, [true], '@libp2p/tcp has changed inside: its sockets are no longer found')
})

test('a connection that is no TCP socket is secured all the same', async (t) => {
  const never: Make = () => (components) => {
    const inner = ours(components)
    const bare = (connection: MessageStream): MessageStream =>
      new Proxy(connection, {
        get(target, name) {
          if (name === 'socket') return undefined
          const value: unknown = Reflect.get(target, name, target)
          return typeof value === 'function' && name !== 'log' ? value.bind(target) : value
        },
      })
    return {
      protocol: inner.protocol,
      secureInbound: (connection, options) => inner.secureInbound(bare(connection), options),
      secureOutbound: (connection, options) => inner.secureOutbound(bare(connection), options),
    }
  }
  await carries(await node(t, never), await node(t, () => ours))
})

test('whoever answers with another identity than the one dialled is refused, and the socket is closed', async (t) => {
  const [a, b] = [await node(t, () => ours), await node(t, () => ours)]
  const other = peerIdFromPrivateKey(await generateKeyPair('Ed25519'))
  const [address] = b.getMultiaddrs()
  const wrong = multiaddr(String(address).replace(b.peerId.toString(), other.toString()))
  await assert.rejects(a.dial(wrong))
  assert.equal(a.getConnections().length, 0)
  await eventually('the refused connection is closed', async () => b.getConnections().length === 0)
})

test('a stranger without a certificate, one that speaks no TLS and one that says nothing are cut off', async (t) => {
  const b = await node(t, () => ours)
  const port = Number(/tcp\/(\d+)/.exec(String(b.getMultiaddrs()[0]))?.[1])
  const dial = () => chosenTls(t, port)
  const [bare, rude, silent] = [await dial(), await dial(), await dial()]
  const session = connectTls({ socket: bare, rejectUnauthorized: false, ALPNProtocols: ['libp2p'] })
  session.on('error', () => {})
  rude.write('GET / HTTP/1.1\r\n\r\n')
  const closed = [session, rude, silent.resume()].map(
    (socket) => new Promise<void>((resolve) => socket.once('close', () => resolve())),
  )
  silent.end()
  await Promise.all(closed)
  assert.equal(b.getConnections().length, 0)
  // And it still lets others in.
  await carries(await node(t, () => ours), b)
})

test('a dial is given up when its signal says so, though the other side takes its time over the handshake', async (t) => {
  const a = await node(t, () => ours)
  const stop = new AbortController()
  const never = () => {
    stop.abort(new Error('enough'))
    return new Promise<void>(() => {})
  }
  const b = await node(t, () => ours, never)
  await assert.rejects(a.dial(b.getMultiaddrs(), { signal: stop.signal }))
  assert.ok(stop.signal.aborted)
  assert.equal(a.getConnections().length, 0)
})

test('a connection that is cut in the middle of a transfer ends at both sides', async (t) => {
  const [a, b] = [await node(t, () => ours), await node(t, () => ours)]
  const address = b.getMultiaddrs()[0]
  const port = Number(/tcp\/(\d+)/.exec(String(address))?.[1])
  const through: Socket[] = []
  const proxy = createServer((near) => {
    const far = connect(port, '127.0.0.1')
    through.push(near, far)
    for (const socket of [near, far]) socket.on('error', () => {})
    near.pipe(far)
    far.pipe(near)
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  t.after(() => proxy.close())
  const arrived = Promise.withResolvers<Stream>()
  await b.handle(PROTOCOL, (stream) => arrived.resolve(stream))
  const { port: proxied } = proxy.address() as AddressInfo
  const out = await a.dialProtocol(multiaddr(`/ip4/127.0.0.1/tcp/${proxied}/p2p/${b.peerId}`), PROTOCOL)
  const { signal } = new AbortController()
  const reading = new ExactStream(await arrived.promise, BYTES).read(BYTES, signal)
  await new ExactStream(out, 1).write(pattern(3).subarray(0, 100_000), signal)
  for (const socket of through) socket.resetAndDestroy()
  await assert.rejects(reading)
  await eventually(
    'both sides have ended it',
    async () => a.getConnections().length + b.getConnections().length === 0,
  )
})

/** A plain connection on which both sides have settled on TLS. */
async function chosenTls(t: TestContext, port: number): Promise<Socket> {
  const asks = (id: string) => {
    const line = Buffer.from(`${id}\n`)
    return Buffer.concat([Buffer.of(line.byteLength), line])
  }
  const socket = connect(port, '127.0.0.1')
  t.after(() => socket.destroy())
  socket.on('error', () => {})
  socket.write(Buffer.concat([asks('/multistream/1.0.0'), asks('/tls/1.0.0')]))
  let answer = ''
  while (!answer.includes('/tls/1.0.0\n')) answer += String((await once(socket, 'data'))[0])
  return socket
}

async function sessionWith(t: TestContext, port: number): Promise<TLSSocket> {
  const socket = await chosenTls(t, port)
  const session = connectTls({ socket, rejectUnauthorized: false, ALPNProtocols: ['libp2p'] })
  session.on('error', () => {})
  await once(session, 'secureConnect')
  return session
}
