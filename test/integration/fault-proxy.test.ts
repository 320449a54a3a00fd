// The TCP fault proxy does to a connection what it says, and nothing else.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import test, { type TestContext } from 'node:test'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { type FaultProxy, type Faults, faultProxy, SharedLine } from '../support/fault-proxy.ts'
import { until } from '../support/mesh-host.ts'

const MIB = 1024 * 1024
/** Long enough for bytes that nothing holds back to arrive. */
const SETTLE_MS = 150

interface End {
  readonly socket: Socket
  received: Buffer
  ended: boolean
  error: NodeJS.ErrnoException | undefined
}

interface Line {
  readonly proxy: FaultProxy
  readonly client: End
  readonly server: End
}

async function line(t: TestContext, faults: Faults = {}): Promise<Line> {
  const listener = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  t.after(() => listener.close())
  const proxy = await faultProxy(t, (listener.address() as AddressInfo).port, faults)
  return { proxy, ...(await pair(t, listener, proxy)) }
}

async function pair(t: TestContext, listener: ReturnType<typeof createServer>, proxy: FaultProxy) {
  const arrived = once(listener, 'connection')
  const client = endOf(t, connect({ port: proxy.port, host: '127.0.0.1', allowHalfOpen: true }))
  const [socket] = await arrived
  return { client, server: endOf(t, socket as Socket) }
}

function endOf(t: TestContext, socket: Socket): End {
  const end: End = { socket, received: Buffer.alloc(0), ended: false, error: undefined }
  socket.on('data', (data) => {
    end.received = Buffer.concat([end.received, data])
  })
  socket.on('end', () => {
    end.ended = true
  })
  socket.on('error', (error) => {
    end.error = error
  })
  t.after(() => socket.destroy())
  return end
}

test('without faults bytes and the ends of both ways pass, each for itself', async (t) => {
  const { client, server, proxy } = await line(t)
  const sent = Buffer.alloc(3 * MIB, 'abc')
  client.socket.end(sent)
  await until('all arrived', () => server.ended)
  assert.ok(server.received.equals(sent))
  assert.equal(client.ended, false, 'the other way is still open')
  server.socket.end('bye')
  await until('the other way ended', () => client.ended)
  assert.equal(client.received.toString(), 'bye')
  assert.deepEqual([proxy.connections[0]?.upBytes, proxy.connections[0]?.downBytes], [3 * MIB, 3])
})

test('a delay makes everything later and nothing slower', async (t) => {
  const { client, server } = await line(t, { up: { delayMs: 200 } })
  const startedAt = systemClock.now()
  client.socket.write(Buffer.alloc(4 * MIB))
  await until('the first byte', () => server.received.byteLength > 0)
  assert.ok(systemClock.now() - startedAt >= 200)
  await until('all of it', () => server.received.byteLength === 4 * MIB)
  assert.ok(systemClock.now() - startedAt < 1_000, 'one delay, not one for each piece')
})

test('a rate holds in its own way only', async (t) => {
  const { client, server } = await line(t, { down: { bytesPerSecond: MIB } })
  const startedAt = systemClock.now()
  client.socket.write(Buffer.alloc(MIB))
  await until('the fast way', () => server.received.byteLength === MIB)
  assert.ok(systemClock.now() - startedAt < 500)
  const slowAt = systemClock.now()
  server.socket.write(Buffer.alloc(MIB / 2))
  await until('the slow way', () => client.received.byteLength === MIB / 2)
  const tookMs = systemClock.now() - slowAt
  assert.ok(tookMs > 400 && tookMs < 900, `${tookMs} ms`)
})

test('ways that share a line share its rate, each about its half', async (t) => {
  const faults = { up: { line: new SharedLine(MIB) } }
  const lines = [await line(t, faults), await line(t, faults)]
  const startedAt = systemClock.now()
  for (const { client } of lines) client.socket.write(Buffer.alloc(MIB / 2))
  await until('half of it', () => systemClock.now() - startedAt > 500)
  const got = lines.map(({ server }) => server.received.byteLength / MIB)
  assert.ok(Math.min(...got) > 0.15, `${got} MiB`)
  await until('all of it', () => lines.every(({ server }) => server.received.byteLength === MIB / 2))
  const tookMs = systemClock.now() - startedAt
  assert.ok(tookMs > 900 && tookMs < 1_500, `${tookMs} ms`)
})

for (const way of ['up', 'down'] as const) {
  test(`a stall of the way ${way} lets exactly so many bytes pass, tells nobody, and goes on when cleared`, async (t) => {
    const { client, server, proxy } = await line(t, { [way]: { stallAfterBytes: 1_000 } })
    const [from, to] = way === 'up' ? [client, server] : [server, client]
    from.socket.end(Buffer.alloc(5_000, 'x'))
    await until('it stalls', () => to.received.byteLength === 1_000)
    await sleep(systemClock, SETTLE_MS)
    assert.deepEqual([to.received.byteLength, to.ended, to.error], [1_000, false, undefined])
    to.socket.write('still here')
    await until('the other way works', () => from.received.byteLength === 10)
    proxy.clear()
    await until('the rest', () => to.ended)
    assert.equal(to.received.byteLength, 5_000)
  })

  test(`a reset at byte k of the way ${way} gives exactly k bytes, and then both ends an error`, async (t) => {
    const { client, server, proxy } = await line(t, { [way]: { resetAfterBytes: 100_000 } })
    const [from, to] = way === 'up' ? [client, server] : [server, client]
    from.socket.write(Buffer.alloc(MIB))
    await until('both know', () => from.error !== undefined && to.error !== undefined)
    assert.equal(to.error?.code, 'ECONNRESET')
    assert.equal(to.received.byteLength, 100_000)
    assert.equal(proxy.connections[0]?.open, false)
  })

  test(`a block of the way ${way} holds bytes and the end, not the other way, until it is cleared`, async (t) => {
    const { client, server, proxy } = await line(t)
    const [from, to] = way === 'up' ? [client, server] : [server, client]
    from.socket.write('before')
    await until('it is open', () => to.received.byteLength === 6)
    proxy.set({ [way]: { blocked: true } })
    from.socket.end('after')
    to.socket.write('answer')
    await until('the other way works', () => from.received.byteLength === 6)
    await sleep(systemClock, SETTLE_MS)
    assert.deepEqual([to.received.toString(), to.ended], ['before', false])
    proxy.clear()
    await until('it goes on', () => to.ended)
    assert.equal(to.received.toString(), 'beforeafter')
  })
}

test('a blocked way slows its sender down instead of filling memory', async (t) => {
  const { client, proxy } = await line(t, { up: { blocked: true } })
  client.socket.write(Buffer.alloc(64 * MIB))
  await sleep(systemClock, SETTLE_MS)
  assert.ok(client.socket.bytesWritten - client.socket.writableLength < 64 * MIB)
  assert.equal(proxy.connections[0]?.upBytes, 0)
  assert.ok(client.socket.writableLength > 32 * MIB, 'most of it still waits at the sender')
})

test('faults of one connection leave the others alone, and those of all hold for new ones too', async (t) => {
  const listener = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  t.after(() => listener.close())
  const proxy = await faultProxy(t, (listener.address() as AddressInfo).port)
  const one = await pair(t, listener, proxy)
  const two = await pair(t, listener, proxy)
  proxy.connections[0]?.set({ up: { blocked: true } })
  one.client.socket.write('1')
  two.client.socket.write('2')
  await until('the second passes', () => two.server.received.byteLength === 1)
  await sleep(systemClock, SETTLE_MS)
  assert.equal(one.server.received.byteLength, 0)
  proxy.set({ up: { blocked: true } })
  const three = await pair(t, listener, proxy)
  three.client.socket.write('3')
  await sleep(systemClock, SETTLE_MS)
  assert.equal(three.server.received.byteLength, 0)
  proxy.clear()
  await until('all pass', () => [one, three].every(({ server }) => server.received.byteLength === 1))
})

test('resetting it ends every open connection, and new ones are taken', async (t) => {
  const listener = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  t.after(() => listener.close())
  const proxy = await faultProxy(t, (listener.address() as AddressInfo).port)
  const one = await pair(t, listener, proxy)
  proxy.reset()
  await until('both ends know', () => one.client.error !== undefined && one.server.error !== undefined)
  const two = await pair(t, listener, proxy)
  two.client.socket.write('again')
  await until('it works', () => two.server.received.byteLength === 5)
})
