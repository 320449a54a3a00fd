// What net/joined-writes.ts reaches into: the socket and `sendData` of TCP and TLS connections, and that both libraries still need it.
import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { MessageStream, Stream } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { ExactStream } from '@shoal/agent/net/exact-stream.ts'
import { joinWrites } from '@shoal/agent/net/joined-writes.ts'
import { createLibp2p } from 'libp2p'

const PROTOCOL = '/canary/joined/1.0.0'

async function node(found: boolean[]) {
  return createLibp2p({
    privateKey: await generateKeyPair('Ed25519'),
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [
      (components) => {
        const inner = tls()(components)
        const note = <T extends MessageStream>(connection: T): T => {
          found.push(joinWrites(connection))
          return connection
        }
        return {
          protocol: inner.protocol,
          async secureInbound(connection, options) {
            const secured = await inner.secureInbound(note(connection), options)
            note(secured.connection)
            return secured
          },
          async secureOutbound(connection, options) {
            const secured = await inner.secureOutbound(note(connection), options)
            note(secured.connection)
            return secured
          },
        }
      },
    ],
    streamMuxers: [yamux()],
    connectionMonitor: { enabled: false },
  })
}

test('the connections of TCP and of TLS can both be made to join their writes, and carry every byte', async (t) => {
  const found: boolean[] = []
  const [a, b] = [await node(found), await node(found)]
  t.after(() => Promise.all([a.stop(), b.stop()]))
  const arrived = Promise.withResolvers<Stream>()
  await b.handle(PROTOCOL, (stream) => arrived.resolve(stream))
  const out = await a.dialProtocol(b.getMultiaddrs(), PROTOCOL)
  const { signal } = new AbortController()
  const sent = Buffer.alloc(3_000_001)
  for (let at = 0; at < sent.byteLength; at++) sent[at] = (at * 31) & 0xff
  const writing = (async () => {
    const writer = new ExactStream(out, 1)
    for (let at = 0; at < sent.byteLength; at += 65_536)
      await writer.write(sent.subarray(at, at + 65_536), signal)
  })()
  const reader = new ExactStream(await arrived.promise, sent.byteLength)
  const received = Buffer.alloc(sent.byteLength)
  for (let filled = 0; filled < received.byteLength; )
    filled += await reader.readInto(received.subarray(filled), signal)
  await writing
  assert.deepEqual(found, [true, true, true, true])
  assert.equal(Buffer.compare(received, sent), 0)
})

test('a connection of another make is left as it is', () => {
  const other = Object.assign(new EventTarget(), { socket: {}, sendData: () => undefined })
  const before = other.sendData
  assert.equal(joinWrites(other as unknown as MessageStream), false)
  assert.equal(other.sendData, before)
})

test('what is written in one call reaches the socket in one write, and a failure does not leave it held', () => {
  let writes = 0
  const socket = new PassThrough({ highWaterMark: 1024 })
  const writable = Object.assign(socket, {
    _writev: (_chunks: unknown, done: () => void) => {
      writes++
      done()
    },
  })
  let fails = false
  const connection = {
    socket: writable,
    sendData: () => {
      for (const part of ['a', 'b', 'c']) writable.write(part)
      if (fails) throw new Error('no more')
    },
  }
  joinWrites(connection as unknown as MessageStream)
  connection.sendData()
  assert.equal(writes, 1)
  fails = true
  assert.throws(() => connection.sendData(), /no more/)
  assert.equal(writable.writableCorked, 0)
})
