// Who gets in: proof of the mesh secret before anything else, bans, and at most two connections a peer.
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { type TestContext, test } from 'node:test'
import { multiaddr } from '@multiformats/multiaddr'
import { MeshSecret } from '@shoal/agent/net/mesh-secret.ts'
import { bareNode } from '../canary/bare-nodes.ts'
import { addressOf, type TestHosts, testHosts, until } from '../support/mesh-host.ts'
import { RawMember } from '../support/raw-member.ts'

const never = new AbortController().signal
const otherSecret = new MeshSecret(new Uint8Array(32).fill(8))

test('a host with another secret is refused on both sides, and no muxer is ever built for it', async (t) => {
  const hosts = hostsOf(t)
  const [inside, outside] = await Promise.all([
    hosts.start(),
    hosts.start({ secret: async () => otherSecret }),
  ])
  await assert.rejects(outside.dial(addressOf(inside), never), {
    code: 'peer-unreachable',
    message: /secret/,
  })
  await assert.rejects(inside.dial(addressOf(outside), never), {
    code: 'peer-unreachable',
    message: /secret/,
  })
  for (const node of [inside, outside]) {
    await until('both refusals are counted', () => node.counters().connectionsRefused === 2, 5_000)
    assert.equal(node.counters().connectionsAdmitted, 0)
    assert.deepEqual(node.peers(), [])
  }
})

test('a stock libp2p node, an echo and a scanner get nothing', async (t) => {
  const hosts = hostsOf(t)
  const inside = await hosts.start()
  const stock = await bareNode()
  t.after(() => stock.stop())
  await assert.rejects(stock.dial(multiaddr(addressOf(inside)), { signal: AbortSignal.timeout(5_000) }))
  const openings = [
    'GET / HTTP/1.1\r\nHost: x\r\n\r\n',
    '\x13/multistream/1.0.0\n\x0d/yamux/1.0.0\n',
    '\xff'.repeat(5_000),
  ]
  await Promise.all(
    openings.map(async (text) => {
      const socket = connect(portOf(addressOf(inside)), '127.0.0.1')
      let received = 0
      const closed = new Promise((resolve) => socket.on('error', () => {}).on('close', resolve))
      socket.on('data', (data) => {
        received += data.byteLength
      })
      socket.write(text, 'latin1')
      await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, 4_000))])
      assert.ok(socket.destroyed, 'the socket was not closed')
      assert.ok(received < 200, `${received} bytes were given`)
    }),
  )
  assert.equal(inside.counters().connectionsAdmitted, 0)
  const friend = await hosts.start()
  await friend.dial(addressOf(inside), never)
  assert.equal(inside.counters().connectionsAdmitted, 1)
})

test('of several secrets tried at once none is let in, and who has the right one is', async (t) => {
  const hosts = hostsOf(t)
  const inside = await hosts.start()
  const wrong = await Promise.all(
    Array.from({ length: 5 }, (_, at) => RawMember.start(new MeshSecret(new Uint8Array(32).fill(100 + at)))),
  )
  t.after(() => Promise.all(wrong.map((member) => member[Symbol.asyncDispose]())))
  const right = await hosts.start()
  const dials = await Promise.allSettled([
    ...wrong.map((member) => member.dial(addressOf(inside))),
    right.dial(addressOf(inside), never),
  ])
  assert.deepEqual(
    dials.map(({ status }) => status),
    [...wrong.map(() => 'rejected'), 'fulfilled'],
  )
  assert.equal(inside.counters().connectionsAdmitted, 1)
})

test('a ban cuts at once, holds in both directions, and ends', async (t) => {
  const hosts = hostsOf(t)
  const bad = await hosts.start()
  const good = await hosts.start({ staticPeers: async () => [addressOf(bad)] })
  await until('they are connected', () => good.isConnected(bad.self))
  const downs: string[] = []
  good.listen({ peerUp: () => {}, peerDown: (peer) => downs.push(peer), have: () => {} })
  good.ban(bad.self, 2_500, 'test')
  await until(
    'the connection is cut',
    () => !good.isConnected(bad.self) && !bad.isConnected(good.self),
    1_000,
  )
  assert.deepEqual(downs, [bad.self])
  await assert.rejects(good.dial(addressOf(bad), never), { code: 'peer-unreachable' })
  await assert.rejects(bad.dial(addressOf(good), never), { code: 'peer-unreachable' })
  assert.equal(good.isConnected(bad.self), false)
  await new Promise((resolve) => setTimeout(resolve, 2_500))
  assert.equal(await bad.dial(addressOf(good), never), good.self)
})

test('a peer has at most two connections, however many it makes at once', async (t) => {
  const hosts = hostsOf(t)
  const inside = await hosts.start()
  const greedy = await RawMember.start()
  t.after(() => greedy[Symbol.asyncDispose]())
  const dials = Array.from({ length: 6 }, () =>
    greedy.node.dial(multiaddr(addressOf(inside)), { force: true }),
  )
  await Promise.allSettled(dials)
  await new Promise((resolve) => setTimeout(resolve, 200))
  const open = greedy.node.getConnections().filter(({ status }) => status === 'open').length
  assert.ok(open >= 1 && open <= 2, `${open} are open`)
  assert.ok(inside.isConnected(greedy.peer))
})

test('what a host tells an admitted peer of itself names no software versions, paths or users', async (t) => {
  const hosts = hostsOf(t)
  const inside = await hosts.start()
  const member = await RawMember.start()
  t.after(() => member[Symbol.asyncDispose]())
  const told = new Promise<{ agentVersion?: string; protocolVersion?: string; protocols: string[] }>(
    (resolve) => {
      member.node.addEventListener('peer:identify', ({ detail }) => resolve(detail))
    },
  )
  await member.dial(addressOf(inside))
  const { agentVersion, protocolVersion, protocols } = await told
  assert.equal(agentVersion, 'shoal')
  assert.equal(protocolVersion, 'ipfs/0.1.0')
  for (const protocol of protocols) assert.match(protocol, /^\/(shoal|ipfs|meshsub)\//)
})

function hostsOf(t: TestContext): TestHosts {
  const hosts = testHosts()
  t.after(async () => {
    await hosts[Symbol.asyncDispose]()
    assert.deepEqual(hosts.failures, [])
  })
  return hosts
}

function portOf(address: string): number {
  return Number(
    multiaddr(address)
      .getComponents()
      .find(({ name }) => name === 'tcp')?.value,
  )
}
