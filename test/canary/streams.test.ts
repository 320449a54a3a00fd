// M2 to M7: how libp2p 3 streams lose back-pressure and hide a dead sender. Our code keeps away from each of these; a test
// that fails here means the library has changed and the rule may be looked at again.
import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { type TestContext, test } from 'node:test'
import { byteStream } from '@libp2p/utils'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { guardedYamux } from '@shoal/agent/net/guarded-yamux.ts'
import { systemClock } from '@shoal/protocol/time.ts'
import { bareNode, ECHOLESS_PROTOCOL, holds, MIB, type StreamPair, streamPair } from './bare-nodes.ts'

if (process.env.CANARY_SENDER !== undefined) await sendForEver()
else declareTests()

function declareTests(): void {
  test('M2: iterating a stream queues without limit while the consumer is slow', async (t) => {
    const { sender, receiver } = await pair(t)
    let consumed = 0
    const enough = Promise.withResolvers<void>()
    t.after(() => enough.resolve())
    void (async () => {
      for await (const piece of receiver) {
        consumed += piece.byteLength
        await enough.promise
      }
    })().catch(() => {})
    const bytes = byteStream(sender)
    const piece = new Uint8Array(256 * 1024)
    // A stream with back-pressure would stop us: window and buffers together are far below 32 MiB.
    const signal = AbortSignal.timeout(10_000)
    for (let sent = 0; sent < 32 * MIB; sent += piece.byteLength) await bytes.write(piece, { signal })
    assert.ok(await holds(() => sender.writeBufferLength === 0, 10_000), 'all of it was taken')
    assert.ok(consumed < 8 * MIB, `consumed ${consumed}`)
  })

  test('M3: a reader that stands still gets its stream reset at 4 MiB on defaults', async (t) => {
    const { sender, receiver } = await pair(t)
    let reason = ''
    receiver.addEventListener('close', ({ error }) => {
      reason = error?.name ?? 'none'
    })
    const bytes = byteStream(receiver)
    await Promise.all([
      bytes.read({ bytes: 1 }),
      byteStream(sender).write(new Uint8Array(6 * MIB), soon()),
    ]).catch(() => {})
    assert.ok(await holds(() => reason !== '', 5_000))
    assert.equal(reason, 'StreamBufferError')
  })

  test('M3: with our windows a reader that pauses holds the sender back, and nothing is reset', async (t) => {
    const { sender, receiver } = await pair(t, guardedYamux({ clock: systemClock }))
    let received = 0
    receiver.addEventListener('message', ({ data }) => {
      received += data.byteLength
      if (received > 8 * MIB) queueMicrotask(() => receiver.status === 'open' && receiver.pause())
    })
    const bytes = byteStream(sender)
    let sent = 0
    const piece = new Uint8Array(512 * 1024)
    await assert.rejects(async () => {
      for (; sent < 64 * MIB; sent += piece.byteLength)
        await bytes.write(piece, { signal: AbortSignal.timeout(1_500) })
    })
    assert.equal(receiver.status, 'open')
    assert.ok(sent < 8 * MIB + 16 * MIB, `${sent / MIB} MiB were taken`)
    assert.ok(receiver.readBufferLength <= 8 * MIB)
    // And it goes on where it stopped.
    const before = received
    receiver.resume()
    assert.ok(await holds(() => received > before, 2_000))
  })

  for (const { where, reset } of [
    { where: 'inside the message handler', reset: true },
    { where: 'in a microtask', reset: false },
  ]) {
    test(`M4: pause() ${where} ${reset ? 'does not stop the sender: the stream is reset' : 'stops the sender'}`, async (t) => {
      const { sender, receiver } = await pair(
        t,
        yamux({ streamOptions: { maxStreamWindowSize: MIB / 4, maxReadBufferLength: MIB } }),
      )
      let reason = ''
      receiver.addEventListener('close', ({ error }) => {
        reason = error?.name ?? 'none'
      })
      receiver.addEventListener('message', () => {
        const pause = () => {
          if (receiver.status === 'open') receiver.pause()
        }
        if (reset) pause()
        else queueMicrotask(pause)
        setTimeout(() => receiver.status === 'open' && receiver.resume(), 400)
      })
      const bytes = byteStream(sender)
      const piece = new Uint8Array(256 * 1024)
      const signal = AbortSignal.timeout(2_000)
      let sent = 0
      try {
        for (; sent < 48 * MIB; sent += piece.byteLength) await bytes.write(piece, { signal })
      } catch {}
      assert.equal(reason, reset ? 'StreamBufferError' : '')
      if (!reset) assert.ok(sent < 48 * MIB)
    })
  }

  test('M5: waiting for onDrain() works once; later the whole file is queued in memory', async (t) => {
    const { sender, receiver } = await pair(t)
    let stalled = false
    let waited = 0
    receiver.addEventListener('message', () => {
      if (stalled) queueMicrotask(() => receiver.status === 'open' && receiver.pause())
    })
    const piece = new Uint8Array(64 * 1024)
    const sendOne = async () => {
      if (sender.send(piece)) return
      waited++
      await sender.onDrain({ signal: AbortSignal.timeout(1_000) })
    }
    while (waited === 0) await sendOne()
    assert.ok(await holds(() => sender.writeBufferLength === 0, 5_000))
    stalled = true
    // With back-pressure this loop would stand still after the window; it must be able to queue 48 MiB.
    for (let queued = 0; queued < 48 * MIB; queued += piece.byteLength) await sendOne()
    assert.ok(sender.writeBufferLength > 24 * MIB, `${sender.writeBufferLength / MIB} MiB are queued`)
    sender.abort(new Error('seen enough'))
  })

  test('M5: writing through byteStream waits each time', async (t) => {
    const { sender, receiver } = await pair(t)
    let stalled = false
    receiver.addEventListener('message', () => {
      if (stalled) queueMicrotask(() => receiver.status === 'open' && receiver.pause())
    })
    const bytes = byteStream(sender)
    const piece = new Uint8Array(64 * 1024)
    for (let sent = 0; sent < 8 * MIB; sent += piece.byteLength) await bytes.write(piece, soon())
    stalled = true
    let queued = 0
    const signal = AbortSignal.timeout(1_000)
    await assert.rejects(async () => {
      for (; queued < 256 * MIB; queued += piece.byteLength) await bytes.write(piece, { signal })
    })
    assert.ok(sender.writeBufferLength <= 2 * piece.byteLength, `${sender.writeBufferLength} are queued`)
  })

  test('M6: when the sender is killed its stream ends without an error; only an exact read notices', async (t) => {
    const child = fork(import.meta.filename, { env: { ...process.env, CANARY_SENDER: '1' }, execArgv: [] })
    t.after(() => child.kill('SIGKILL'))
    const [address] = await once(child, 'message')
    const node = await bareNode()
    t.after(() => node.stop())
    const connection = await node.dial(multiaddr(String(address)))
    const iterated = await connection.newStream(ECHOLESS_PROTOCOL)
    const exact = byteStream(await connection.newStream(ECHOLESS_PROTOCOL))
    let received = 0
    const iteration = (async () => {
      for await (const piece of iterated) received += piece.byteLength
    })()
    assert.ok(await holds(() => received > MIB, 10_000))
    await exact.read({ bytes: 100_000 })
    child.kill('SIGKILL')
    await iteration
    await assert.rejects(exact.read({ bytes: 64 * MIB }), { name: 'UnexpectedEOFError' })
  })

  test('M7: resume() after the connection died throws', async (t) => {
    const { receiver, senderConnection } = await pair(t)
    receiver.pause()
    senderConnection.abort(new Error('gone'))
    assert.ok(await holds(() => receiver.status !== 'open', 5_000))
    assert.throws(() => receiver.resume(), { name: 'StreamStateError' })
  })
}

async function pair(t: TestContext, muxer?: ReturnType<typeof guardedYamux>): Promise<StreamPair> {
  const streams = await streamPair(muxer === undefined ? {} : { muxer })
  t.after(() => streams[Symbol.asyncDispose]())
  return streams
}

function soon(): { readonly signal: AbortSignal } {
  return { signal: AbortSignal.timeout(5_000) }
}

/** The other process of M6: fills every stream that is opened to it. */
async function sendForEver(): Promise<void> {
  const node = await bareNode()
  await node.handle(ECHOLESS_PROTOCOL, async (stream) => {
    const bytes = byteStream(stream)
    for (;;) {
      await bytes.write(new Uint8Array(32 * 1024))
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  })
  process.send?.(String(node.getMultiaddrs()[0]))
}
