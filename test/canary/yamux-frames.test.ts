// M8: yamux buffers a whole data frame before it looks at the window, so one header of 4 GiB makes it hold what follows.
// Our guard reaches into the decoder; if these tests fail, an upgrade has moved it or made it needless.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { MultiaddrConnection, StreamMuxerFactory } from '@libp2p/interface'
import { multiaddrConnectionPair } from '@libp2p/utils'
import { yamux } from '@libp2p/yamux'
import { guardedYamux, STREAM_WINDOW_BYTES } from '@shoal/agent/net/guarded-yamux.ts'
import { virtualClock } from '../support/virtual-clock.ts'
import { holds, MIB } from './bare-nodes.ts'

const DATA = 0
const WINDOW_UPDATE = 1
const PING = 2
const SYN = 1

function header(type: number, flags: number, streamId: number, length: number): Uint8Array {
  const bytes = Buffer.alloc(12)
  bytes[1] = type
  bytes.writeUInt16BE(flags, 2)
  bytes.writeUInt32BE(streamId, 4)
  bytes.writeUInt32BE(length, 8)
  return bytes
}

/** The victim's muxer, and the attacker's end of the connection under it. */
function victim(factory: StreamMuxerFactory): {
  readonly attacker: MultiaddrConnection
  readonly connection: MultiaddrConnection
  readonly held: () => number
} {
  const [attacker, connection] = multiaddrConnectionPair()
  const muxer = factory.createStreamMuxer(connection)
  return {
    attacker,
    connection,
    held: () => Reflect.get(Reflect.get(muxer, 'decoder'), 'buffer').byteLength,
  }
}

test('stock yamux holds all that follows a header of 4 GiB', async () => {
  const { attacker, connection, held } = victim(yamux({ enableKeepAlive: false })())
  attacker.send(header(WINDOW_UPDATE, SYN, 1, 0))
  attacker.send(header(DATA, 0, 1, 0xffff_ffff))
  for (let sent = 0; sent < 16 * MIB; sent += MIB) attacker.send(new Uint8Array(MIB))
  assert.ok(await holds(() => held() >= 16 * MIB, 5_000), `holds ${held()}`)
  assert.equal(connection.status, 'open')
  attacker.abort(new Error('seen enough'))
})

test('our guard cuts the connection at such a header and holds nothing', async () => {
  const clock = virtualClock()
  for (const length of [0xffff_ffff, 0x8000_0000, STREAM_WINDOW_BYTES + 1]) {
    const { attacker, connection, held } = victim(guardedYamux({ clock })())
    attacker.send(header(WINDOW_UPDATE, SYN, 1, 0))
    attacker.send(header(DATA, 0, 1, length))
    assert.ok(await holds(() => connection.status !== 'open', 2_000), `length ${length}`)
    assert.ok(held() <= 24)
  }
  assert.equal(clock.pending, 0)
})

test('the guard lets frames of the largest window pass, one byte at a time too', async () => {
  const { attacker, connection, held } = victim(guardedYamux({ clock: virtualClock() })())
  for (const byte of header(DATA, 0, 99, 5)) attacker.send(Uint8Array.of(byte))
  attacker.send(Buffer.from('hello'))
  // To a stream that does not exist: read to its end and dropped.
  attacker.send(header(DATA, 0, 99, STREAM_WINDOW_BYTES))
  for (let sent = 0; sent < STREAM_WINDOW_BYTES; sent += MIB) attacker.send(new Uint8Array(MIB))
  assert.ok(await holds(() => held() === 0, 5_000))
  assert.equal(connection.status, 'open')
  attacker.abort(new Error('seen enough'))
})

test('frames that make no sense end the connection', async () => {
  const senseless: Record<string, Uint8Array> = {
    'wrong version': Buffer.concat([Uint8Array.of(9), header(PING, SYN, 0, 1).subarray(1)]),
    'unknown type': header(7, 0, 1, 0),
    'data on stream 0': header(DATA, 0, 0, 0),
    'an answer to no ping': header(PING, 2, 0, 77),
    'a ping with other flags': header(PING, 8, 0, 1),
    'a stream id of our own side': header(WINDOW_UPDATE, SYN, 2, 0),
  }
  for (const [name, frame] of Object.entries(senseless)) {
    const { attacker, connection } = victim(guardedYamux({ clock: virtualClock() })())
    attacker.send(frame)
    assert.ok(await holds(() => connection.status !== 'open', 2_000), name)
  }
})

test('a peer that pings without reading the answers is cut, with a bounded amount kept for it', async () => {
  const { attacker, connection } = victim(guardedYamux({ clock: virtualClock() })())
  // The attacker's end takes nothing: what the victim answers stays with the victim.
  let kept = 0
  Object.defineProperty(connection, 'sendData', { value: () => ({ sentBytes: 0, canSendMore: false }) })
  const pings = Buffer.concat(Array.from({ length: 50_000 }, () => header(PING, SYN, 0, 1)))
  for (let round = 0; round < 60 && connection.status === 'open'; round++) {
    attacker.send(pings)
    await new Promise((resolve) => setTimeout(resolve, 1))
    kept = Math.max(kept, connection.writeBufferLength)
  }
  assert.notEqual(connection.status, 'open')
  assert.ok(kept <= 9 * MIB, `${kept} bytes were kept`)
})

test('a peer that falls silent is cut after three keep-alive times; one byte within them is enough to stay', async () => {
  const clock = virtualClock()
  const { attacker, connection } = victim(guardedYamux({ clock, keepAliveMs: 1_000 })())
  for (let second = 0; second < 20; second += 2) {
    attacker.send(header(WINDOW_UPDATE, 0, 99, 1))
    assert.ok(await holds(() => attacker.writeBufferLength === 0, 1_000))
    await clock.advance(2_000)
    assert.equal(connection.status, 'open', `after ${second} s`)
  }
  attacker.pause()
  await clock.advance(4_000)
  assert.notEqual(connection.status, 'open')
  assert.equal(clock.pending, 0)
})
