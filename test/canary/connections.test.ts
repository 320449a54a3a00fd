// M10 and M11: libp2p's defaults let a few silent sockets keep everyone out, and count streams per connection only. Each
// trap is shown on a stock node and then on ours.
import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import type { Connection, Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { addressOf, testHosts } from '../support/mesh-host.ts'
import { bareNode, ECHOLESS_PROTOCOL, holds } from './bare-nodes.ts'

const SILENT = 12

test('M10: ten silent sockets keep honest hosts out of a stock node for as long as they like', async (t) => {
  const [victim, honest] = await Promise.all([bareNode(), bareNode()])
  t.after(() => Promise.all([victim.stop(), honest.stop()]))
  await openSilent(t, String(victim.getMultiaddrs()[0]))
  await assert.rejects(honest.dial(victim.getMultiaddrs(), { signal: AbortSignal.timeout(2_000) }))
})

test('M10: the same sockets do not keep anybody out of our mesh', async (t) => {
  const hosts = testHosts()
  t.after(() => hosts[Symbol.asyncDispose]())
  const [victim, honest] = await Promise.all([hosts.start(), hosts.start()])
  await openSilent(t, addressOf(victim))
  assert.equal(await honest.dial(addressOf(victim), AbortSignal.timeout(5_000)), victim.self)
  assert.deepEqual(hosts.failures, [])
})

test('M11: a limit of four inbound streams is one for each connection, not for each peer', async (t) => {
  const [victim, greedy] = await Promise.all([bareNode(), bareNode()])
  t.after(() => Promise.all([victim.stop(), greedy.stop()]))
  const live = new Set<Stream>()
  await victim.handle(
    ECHOLESS_PROTOCOL,
    (stream) => {
      live.add(stream)
      stream.addEventListener('close', () => live.delete(stream))
    },
    { maxInboundStreams: 4 },
  )
  for (let connection = 0; connection < 3; connection++) {
    const forced: Connection = await greedy.dial(victim.getMultiaddrs(), { force: true })
    await Promise.allSettled(Array.from({ length: 6 }, () => forced.newStream(ECHOLESS_PROTOCOL)))
  }
  assert.ok(await holds(() => live.size >= 12, 3_000), `${live.size} streams are live`)
})

/** So many connected sockets that never say a word, as fast as a stock node takes them from one address. */
async function openSilent(t: TestContext, address: string): Promise<void> {
  const port = Number(
    multiaddr(address)
      .getComponents()
      .find(({ name }) => name === 'tcp')?.value,
  )
  const sockets: Socket[] = []
  t.after(() => {
    for (const socket of sockets) socket.destroy()
  })
  for (let opened = 0; opened < SILENT; opened++) {
    if (opened % 5 === 0 && opened > 0) await new Promise((resolve) => setTimeout(resolve, 1_050))
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => {})
    sockets.push(socket)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  // The threshold for one address starts anew.
  await new Promise((resolve) => setTimeout(resolve, 1_050))
}
