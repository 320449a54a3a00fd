// Data connections: chunks of two hosts that can reach each other directly come over them, of others over streams as before; who is
// not known gets nothing; and no byte lands where it does not belong.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type TestContext, test } from 'node:test'
import { connect } from 'node:tls'
import { generateCertificate } from '@libp2p/tls/utils'
import { isNoWay } from '@shoal/agent/net/data-carrier.ts'
import {
  connectData,
  type DataCertificate,
  dataCertificate,
  digestKey,
  listenForData,
} from '@shoal/agent/net/data-socket.ts'
import { newIdentity } from '@shoal/agent/net/identity.ts'
import { LocalCarrier } from '@shoal/agent/net/local-carrier.ts'
import type { MeshNode } from '@shoal/agent/net/mesh-node.ts'
import type { SocketPipe } from '@shoal/agent/net/socket-pipe.ts'
import { Traffic } from '@shoal/agent/net/traffic.ts'
import { fixedSlices } from '@shoal/protocol/chunks.ts'
import { type PeerId, parseBlobId } from '@shoal/protocol/ids.ts'
import { systemClock } from '@shoal/protocol/time.ts'
import { atEnd } from '../support/cleanups.ts'
import { faultProxy } from '../support/fault-proxy.ts'
import { addressOf, testHosts, until } from '../support/mesh-host.ts'

const blob = parseBlobId(`sha256:${'ab'.repeat(32)}`)
const MIB = 1024 * 1024
const geometry = fixedSlices(64 * MIB + 12_345, 4 * MIB)
const never = new AbortController().signal

function bodyOf(index: number): Buffer {
  const { start, end } = geometry.range(index)
  const bytes = Buffer.alloc(end - start)
  for (let at = 0; at < bytes.byteLength; at += 4)
    bytes.writeUInt32LE(start + at, Math.min(at, bytes.byteLength - 4))
  return bytes
}

async function fetchOf(node: MeshNode, peer: PeerId, index: number, signal = never): Promise<Buffer> {
  const { start, end } = geometry.range(index)
  const into = Buffer.alloc(end - start)
  await node.fetchChunk(
    peer,
    { blob, geometry, index, into },
    { waitMs: 0 },
    { signal, onProgress: () => {} },
  )
  return into
}

async function pair(
  t: TestContext,
  dialled: (address: string) => Promise<string> = async (address) => address,
) {
  const hosts = testHosts()
  atEnd(t, async () => {
    await hosts[Symbol.asyncDispose]()
    assert.deepEqual(hosts.failures, [])
  })
  const holder = await hosts.start(
    {},
    { chunk: async (_peer, { index }) => ({ status: 'ok', bytes: bodyOf(index) }) },
  )
  const asker = await hosts.start()
  const peer = await asker.dial(await dialled(addressOf(holder)), AbortSignal.timeout(10_000))
  return { holder, asker, peer }
}

/** Fetches until a chunk came over a data connection. */
async function overData(asker: MeshNode, peer: PeerId): Promise<void> {
  const giveUpAt = systemClock.now() + 10_000
  while (asker.counters().chunksByData === 0) {
    assert.ok(systemClock.now() < giveUpAt, 'no chunk came over a data connection')
    await fetchOf(asker, peer, 0)
  }
}

test('hosts that reach each other directly soon move chunks over data connections, each byte in its place', async (t) => {
  const { asker, peer } = await pair(t)
  await overData(asker, peer)
  const before = asker.counters().chunksByData
  const got = await Promise.all(
    Array.from({ length: geometry.chunkCount }, (_, index) => fetchOf(asker, peer, index)),
  )
  for (const [index, bytes] of got.entries())
    assert.equal(Buffer.compare(bytes, bodyOf(index)), 0, `chunk ${index}`)
  assert.equal(asker.counters().chunksByData - before, geometry.chunkCount)
})

test('a peer that was dialled through something else is sent chunks over streams only', async (t) => {
  const { asker, peer } = await pair(t, async (address) => {
    const [, port, id] = /tcp\/(\d+)\/p2p\/(.+)$/.exec(address) ?? []
    const proxy = await faultProxy(t, Number(port))
    return `/ip4/127.0.0.1/tcp/${proxy.port}/p2p/${id}`
  })
  for (let index = 0; index < 8; index++)
    assert.equal(Buffer.compare(await fetchOf(asker, peer, index), bodyOf(index)), 0)
  assert.equal(asker.counters().chunksByData, 0)
})

test('a fetch that is cancelled in the middle leaves the buffer alone, and the next one is right', async (t) => {
  const { asker, peer } = await pair(t)
  await overData(asker, peer)
  for (let round = 0; round < 5; round++) {
    const stop = new AbortController()
    const into = Buffer.alloc(4 * MIB)
    const options = {
      signal: stop.signal,
      onProgress: (bytes: number) => bytes > round * 500_000 && stop.abort(),
    }
    await assert.rejects(asker.fetchChunk(peer, { blob, geometry, index: 1, into }, { waitMs: 0 }, options), {
      code: 'aborted',
    })
    into.fill(0xee)
    assert.equal(Buffer.compare(await fetchOf(asker, peer, 2), bodyOf(2)), 0)
    assert.ok(
      into.every((byte) => byte === 0xee),
      'a late byte was written',
    )
  }
})

test('a banned peer loses its data connections with all others', async (t) => {
  const { holder, asker, peer } = await pair(t)
  await overData(asker, peer)
  const running = fetchOf(asker, peer, 3)
  holder.ban(asker.self, 60_000, 'for the test')
  await running.catch(() => {})
  await until('the connection is gone', () => !asker.isConnected(peer))
  await assert.rejects(fetchOf(asker, peer, 4), { code: 'peer-unreachable' })
})

async function certificateOf(): Promise<DataCertificate> {
  return dataCertificate(await generateCertificate(newIdentity().nodeKey()))
}

async function listener(t: TestContext, own: DataCertificate, admitted: () => Uint8Array) {
  const pipes: SocketPipe[] = []
  const place = { host: '127.0.0.1', port: 0 }
  const made = await listenForData(place, own, 4096, systemClock, (digest, pipe) => {
    if (digest !== digestKey(admitted())) return false
    pipes.push(pipe)
    return true
  })
  atEnd(t, () => made.close())
  return { port: made.port, pipes }
}

test('a certificate that nobody told of, and none at all, get nothing', async (t) => {
  const [own, known, stranger] = await Promise.all([certificateOf(), certificateOf(), certificateOf()])
  const { port, pipes } = await listener(t, own, () => known.digest)
  const to = { host: '127.0.0.1', port, expected: own.digest }
  const pipe = await connectData(to, known, MIB, systemClock, never)
  atEnd(t, () => pipe.abort(new Error('over')))
  await until('the known one is in', () => pipes.length === 1)
  const refused = await connectData(to, stranger, MIB, systemClock, never)
  await assert.rejects(refused.read(1, AbortSignal.timeout(5_000)), /closed|ended|reset/i)
  const nameless = connect({
    host: '127.0.0.1',
    port,
    rejectUnauthorized: false,
    ALPNProtocols: ['shoal-data/1'],
  })
  nameless.on('error', () => {})
  nameless.resume()
  await once(nameless, 'close')
  assert.equal(pipes.length, 1)
})

test('another host at the port of a peer is not spoken to', async (t) => {
  const [own, other, client] = await Promise.all([certificateOf(), certificateOf(), certificateOf()])
  const { port } = await listener(t, own, () => client.digest)
  const to = { host: '127.0.0.1', port, expected: other.digest }
  await assert.rejects(connectData(to, client, MIB, systemClock, never), { code: 'peer-unreachable' })
})

test('a port where nobody answers is no way, and says so', async (t) => {
  const certificate = await certificateOf()
  const carrier = new LocalCarrier({
    clock: systemClock,
    log: () => {},
    traffic: new Traffic(),
    certificate,
    serve: () => {},
    pace: undefined,
    noProgressMs: undefined,
  })
  atEnd(t, () => carrier.stop())
  const peer = newIdentity().peer
  const target = { host: '127.0.0.1', ports: [1], certificate: certificate.digest }
  await assert.rejects(carrier.probe(peer, target, never), isNoWay)
})

test('more bytes than were asked for end the connection', async (t) => {
  const [own, client] = await Promise.all([certificateOf(), certificateOf()])
  const { port, pipes } = await listener(t, own, () => client.digest)
  const to = { host: '127.0.0.1', port, expected: own.digest }
  const pipe = await connectData(to, client, 1000, systemClock, never)
  await until('it is in', () => pipes.length === 1)
  await pipes[0]?.write(Buffer.alloc(5000), never)
  await until('it is cut', () => !pipe.usable)
  await assert.rejects(pipe.read(1001, never), { code: 'bad-message' })
})

test('a reader that is not there holds the sender back', async (t) => {
  const [own, client] = await Promise.all([certificateOf(), certificateOf()])
  const { port, pipes } = await listener(t, own, () => client.digest)
  const to = { host: '127.0.0.1', port, expected: own.digest }
  const pipe = await connectData(to, client, 64 * MIB, systemClock, never)
  atEnd(t, () => pipe.abort(new Error('over')))
  await until('it is in', () => pipes.length === 1)
  const piece = Buffer.alloc(MIB, 7)
  const sent = (async () => {
    for (let count = 0; count < 64; count++) await pipes[0]?.write(piece, never)
  })()
  await until('some of it has come', () => pipe.unreadBytes > 0)
  const target = Buffer.alloc(MIB)
  let most = 0
  for (let left = 64 * MIB; left > 0; ) {
    most = Math.max(most, pipe.unreadBytes)
    const got = await pipe.readInto(target.subarray(0, Math.min(left, MIB)), never)
    assert.ok(target.subarray(0, got).every((byte) => byte === 7))
    left -= got
  }
  await sent
  assert.ok(most < 2 * MIB, `${most} bytes lay unread`)
})
