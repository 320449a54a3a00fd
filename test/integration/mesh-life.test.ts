// Who is found and who stays: discovery, restarts, other meshes, hosts that break, hang, crawl or come back.
import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { type TestContext, test } from 'node:test'
import { multiaddr } from '@multiformats/multiaddr'
import { newIdentity } from '@shoal/agent/net/identity.ts'
import type { MeshNode } from '@shoal/agent/net/mesh-node.ts'
import { MeshSecret } from '@shoal/agent/net/mesh-secret.ts'
import { fixedSlices, MAX_CHUNK_BYTES } from '@shoal/protocol/chunks.ts'
import { parseBlobId } from '@shoal/protocol/ids.ts'
import { faultProxy } from '../support/fault-proxy.ts'
import { freePort } from '../support/free-port.ts'
import { addressOf, type TestHosts, testHosts, testSecret, until } from '../support/mesh-host.ts'

const never = new AbortController().signal
const otherSecret = new MeshSecret(new Uint8Array(32).fill(8))
const blob = parseBlobId(`sha256:${'01'.repeat(32)}`)
const geometry = fixedSlices(2 * MAX_CHUNK_BYTES, MAX_CHUNK_BYTES)

if (process.env.MESH_CHILD !== undefined) await beHost()
else declareTests()

function declareTests(): void {
  test('six hosts that start at once and know one of them find all others', async (t) => {
    const hosts = hostsOf(t)
    const first = await hosts.start()
    const others = await Promise.all(
      Array.from({ length: 5 }, () => hosts.start({ staticPeers: async () => [addressOf(first)] })),
    )
    const all = [first, ...others]
    const start = performance.now()
    await until('everybody knows everybody', () => all.every((node) => node.peers().length === 5), 12_000)
    t.diagnostic(`full mesh after ${(performance.now() - start).toFixed(0)} ms`)
  })

  test('twenty hosts of which each knows only the one before find all others, and so does one that comes later', async (t) => {
    const hosts = hostsOf(t)
    const chain = [await hosts.start()]
    for (let count = 1; count < 20; count++) {
      const [last] = chain.slice(-1)
      chain.push(
        await hosts.start({ staticPeers: async () => (last === undefined ? [] : [addressOf(last)]) }),
      )
    }
    const start = performance.now()
    const isFull = (nodes: readonly MeshNode[]) =>
      nodes.every((node) => node.peers().length === nodes.length - 1)
    await until('everybody knows everybody', () => isFull(chain), 120_000)
    t.diagnostic(`full mesh of twenty after ${(performance.now() - start).toFixed(0)} ms`)
    const [end] = chain.slice(-1)
    const late = await hosts.start({ staticPeers: async () => (end === undefined ? [] : [addressOf(end)]) })
    const cameAt = performance.now()
    await until('it knows all twenty', () => late.peers().length === 20, 60_000)
    t.diagnostic(`the latecomer after ${(performance.now() - cameAt).toFixed(0)} ms`)
  })

  test('a static peer given by address alone, by name, or being this host itself, is handled', async (t) => {
    const hosts = hostsOf(t)
    const first = await hosts.start()
    const port = portOf(addressOf(first))
    const byName = await hosts.start({ staticPeers: async () => [`/dns4/localhost/tcp/${port}`] })
    const byAddress = await hosts.start({ staticPeers: async () => [`/ip4/127.0.0.1/tcp/${port}`] })
    await until(
      'both are connected',
      () => byName.isConnected(first.self) && byAddress.isConnected(first.self),
    )
    await assert.rejects(first.dial(`/ip4/127.0.0.1/tcp/${port}`, never), { message: /is this host itself/ })
    await assert.rejects(first.dial(addressOf(first), never), { message: /is this host itself/ })
    const refused = hosts.start({ staticPeers: async () => ['10.0.0.1:8002'] })
    await assert.rejects(refused, { code: 'bad-config', message: /not a peer address: "10.0.0.1:8002"/ })
  })

  test('with mDNS off no UDP socket is opened, with mDNS on one is', async (t) => {
    const hosts = hostsOf(t)
    const udp = () => process.getActiveResourcesInfo().filter((name) => name.startsWith('UDP')).length
    assert.equal(udp(), 0)
    const quiet = await hosts.start()
    assert.equal(udp(), 0)
    const loud = await hosts.start({ mdns: true })
    assert.ok(udp() > 0)
    await Promise.all([loud.stop(), quiet.stop()])
    await until('the UDP sockets are closed', () => udp() === 0, 3_000)
  })

  test('a host can stop and start, as often as it likes and in any order of calls', async (t) => {
    const hosts = hostsOf(t)
    const one = await hosts.start()
    const two = await hosts.start()
    await one.stop()
    await one.stop()
    assert.deepEqual([one.addresses(), one.peers()], [[], []])
    for (let round = 0; round < 3; round++) {
      await Promise.all([one.start(), one.start()])
      assert.equal(await one.dial(addressOf(two), never), two.self)
      await Promise.all([one.stop(), one.start(), one.stop(), one.start()])
      assert.equal(await two.dial(addressOf(one), never), one.self)
      await until('two sees one once', () => two.peers().length === 1)
      await one.stop()
      await until('two has noticed', () => two.peers().length === 0, 5_000)
    }
  })

  test('a start that fails leaves nothing behind, and the next one works', async (t) => {
    const hosts = hostsOf(t)
    const taken = createServer().listen(0, '127.0.0.1')
    await once(taken, 'listening')
    const port = (taken.address() as AddressInfo).port
    let node: MeshNode | undefined
    await assert.rejects(
      hosts.start({ listen: [`/ip4/127.0.0.1/tcp/${port}`] }, {}, newIdentity(), (made) => {
        node = made
      }),
    )
    assert.ok(node)
    assert.deepEqual(node.addresses(), [])
    taken.close()
    await once(taken, 'close')
    await node.start()
    assert.equal(portOf(addressOf(node)), port)
  })

  test('hosts move to another mesh by stopping and starting with its secret and peers', async (t) => {
    const hosts = hostsOf(t)
    let secret = testSecret
    let peers: string[] = []
    const options = { secret: async () => secret, staticPeers: async () => peers }
    const [stays, first, second] = await Promise.all([
      hosts.start(),
      hosts.start(options),
      hosts.start(options),
    ])
    await first.dial(addressOf(stays), never)
    await second.dial(addressOf(first), never)
    await Promise.all([first.stop(), second.stop()])
    secret = otherSecret
    await first.start()
    peers = [addressOf(first)]
    await second.start()
    await until('the two meet again', () => second.isConnected(first.self))
    await assert.rejects(stays.dial(addressOf(first), never), { message: /secret/ })
    assert.equal(stays.peers().length, 0)
  })

  test('a host that comes back with the same key is connected again within seconds', async (t) => {
    const hosts = hostsOf(t)
    const identity = newIdentity()
    const port = await freePort()
    const listen = [`/ip4/127.0.0.1/tcp/${port}`]
    const first = await hosts.start({ listen }, {}, identity)
    const other = await hosts.start({ staticPeers: async () => [addressOf(first)] })
    await until('they are connected', () => other.isConnected(first.self))
    await first.stop()
    await until('it is missed', () => !other.isConnected(first.self), 3_000)
    const again = await hosts.start({ listen }, {}, identity)
    const start = performance.now()
    await until('it is back', () => other.isConnected(identity.peer) && again.isConnected(other.self), 15_000)
    t.diagnostic(`back after ${(performance.now() - start).toFixed(0)} ms`)
  })

  test('a broken connection is made again within seconds', async (t) => {
    const hosts = hostsOf(t)
    const first = await hosts.start()
    const wire = await faultProxy(t, portOf(addressOf(first)))
    const other = await hosts.start({ staticPeers: async () => [`/ip4/127.0.0.1/tcp/${wire.port}`] })
    await until('they are connected', () => other.isConnected(first.self))
    for (let round = 0; round < 2; round++) {
      const down = new Promise<void>((resolve) => {
        other.listen({ peerUp: () => {}, peerDown: () => resolve(), have: () => {} })
      })
      // Whatever lies between them: also a direct connection that they may have made since.
      wire.reset()
      const direct = new Promise<void>((resolve) => setTimeout(resolve, 300))
      await Promise.race([down, direct])
      await until(
        'they are connected again',
        () => other.isConnected(first.self) && first.isConnected(other.self),
        15_000,
      )
    }
  })

  test('on a slow link eight chunks at once all arrive: nobody takes the queue for silence', async (t) => {
    const hosts = hostsOf(t)
    const MIB = 1024 * 1024
    const small = fixedSlices(8 * MIB, MIB)
    const tuning = { keepAliveMs: 400, noProgressMs: 1_500 }
    const chunk = async () => ({ status: 'ok' as const, bytes: new Uint8Array(MIB) })
    const holder = await hosts.start({ tuning }, { chunk })
    const slow = { bytesPerSecond: 2 * MIB }
    const wire = await faultProxy(t, portOf(addressOf(holder)), { up: slow, down: slow })
    const asker = await hosts.start({ tuning })
    const downs: string[] = []
    asker.listen({ peerUp: () => {}, peerDown: (peer) => downs.push(peer), have: () => {} })
    const peer = await asker.dial(`/ip4/127.0.0.1/tcp/${wire.port}`, never)
    const start = performance.now()
    await Promise.all(
      Array.from({ length: 8 }, (_, index) => {
        const request = { blob, geometry: small, index, into: new Uint8Array(MIB) }
        return asker.fetchChunk(peer, request, { waitMs: 0 }, { signal: never, onProgress: () => {} })
      }),
    )
    const took = performance.now() - start
    t.diagnostic(`8 MiB in ${took.toFixed(0)} ms`)
    assert.ok(took > 3_000, 'the link was not slow at all')
    assert.deepEqual(downs, [])
  })

  test('a host killed in the middle of a chunk is a lost peer within a second or two', async (t) => {
    const hosts = hostsOf(t)
    const asker = await hosts.start()
    const child = await childHost(t)
    const peer = await asker.dial(child.address, never)
    const into = new Uint8Array(MAX_CHUNK_BYTES)
    const killed = Promise.withResolvers<number>()
    const onProgress = () => {
      child.process.kill('SIGKILL')
      killed.resolve(performance.now())
    }
    const fetches = [1, 0].map((index) =>
      asker.fetchChunk(peer, { blob, geometry, index, into }, { waitMs: 0 }, { signal: never, onProgress }),
    )
    const outcome = Promise.allSettled(fetches)
    const killedAt = await killed.promise
    for (const result of await outcome)
      assert.equal(result.status === 'rejected' && result.reason.code, 'peer-unreachable')
    assert.ok(performance.now() - killedAt < 2_000)
    await until('the peer is gone', () => !asker.isConnected(peer), 2_000)
  })

  test('a host that is stopped in its tracks is noticed, and connected again when it goes on', async (t) => {
    const hosts = hostsOf(t)
    const asker = await hosts.start({ tuning: { keepAliveMs: 300 } })
    const child = await childHost(t)
    const peer = await asker.dial(child.address, never)
    child.process.kill('SIGSTOP')
    const stopped = performance.now()
    await until('it is given up', () => !asker.isConnected(peer), 5_000)
    t.diagnostic(`noticed after ${(performance.now() - stopped).toFixed(0)} ms with keep-alive 300 ms`)
    // A stop of ours is not held up by such a peer either.
    child.process.kill('SIGCONT')
    await until('it is back', () => asker.isConnected(peer), 15_000)
    child.process.kill('SIGSTOP')
    const stopping = performance.now()
    await asker.stop()
    assert.ok(performance.now() - stopping < 4_000, 'stopping took too long')
    child.process.kill('SIGCONT')
  })
}

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

async function childHost(
  t: TestContext,
): Promise<{ readonly process: ChildProcess; readonly address: string }> {
  const child = fork(import.meta.filename, { env: { ...process.env, MESH_CHILD: '1' }, execArgv: [] })
  t.after(() => child.kill('SIGKILL'))
  const [address] = await once(child, 'message')
  return { process: child, address: String(address) }
}

/** The other process: a host whose chunk 0 is large and comes at once, and whose chunk 1 never comes. */
async function beHost(): Promise<void> {
  const hosts = testHosts()
  const bytes = new Uint8Array(MAX_CHUNK_BYTES)
  const node = await hosts.start(
    {},
    { chunk: async (_peer, { index }) => (index === 1 ? new Promise(() => {}) : { status: 'ok', bytes }) },
  )
  process.send?.(addressOf(node))
}
