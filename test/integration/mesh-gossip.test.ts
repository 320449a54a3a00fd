// What hosts tell each other unasked: it arrives fast, once, and only from whom it claims to come from.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { MeshNode } from '@shoal/agent/net/mesh-node.ts'
import { type PeerId, parseBlobId } from '@shoal/protocol/ids.ts'
import {
  encodeMessage,
  GOSSIP_HAVE_TOPIC,
  GOSSIP_MAX_LIFETIME_MS,
  type GossipHave,
  LIMITS,
} from '@shoal/protocol/messages.ts'
import { systemClock } from '@shoal/protocol/time.ts'
import { addressOf, type TestHosts, testHosts, until } from '../support/mesh-host.ts'
import { RawMember } from '../support/raw-member.ts'

const blob = parseBlobId(`sha256:${'ef'.repeat(32)}`)
const entry = { blob, geometry: 'slices:4194304:4194304', state: 'complete' as const, gained: [] }
const never = new AbortController().signal

function hostsOf(t: TestContext): TestHosts {
  const hosts = testHosts()
  t.after(async () => {
    await hosts[Symbol.asyncDispose]()
    assert.deepEqual(hosts.failures, [])
  })
  return hosts
}

interface Heard {
  readonly from: PeerId
  readonly announcement: GossipHave
  readonly at: number
}

function hearingOf(node: MeshNode): Heard[] {
  const heard: Heard[] = []
  node.listen({
    peerUp: () => {},
    peerDown: () => {},
    have: (from, announcement) => heard.push({ from, announcement, at: performance.now() }),
  })
  return heard
}

test('between two hosts the first announcement after connecting arrives, and later ones within moments', async (t) => {
  const hosts = hostsOf(t)
  const [one, two] = await Promise.all([hosts.start(), hosts.start()])
  const heard = hearingOf(two)
  const connected = performance.now()
  await one.dial(addressOf(two), never)
  // Sent before the other host can have told what it listens to.
  await one.announce([entry])
  await until('the first announcement is heard', () => heard.length === 1, 5_000)
  assert.deepEqual(heard[0]?.announcement.blobs, [entry])
  assert.equal(heard[0]?.from, one.self)
  assert.ok((heard[0]?.at ?? 0) - connected < 3_000, 'by the next heartbeat at the latest')
  const delays: number[] = []
  for (let round = 2; round <= 10; round++) {
    const sent = performance.now()
    await one.announce([entry])
    await until(`announcement ${round} is heard`, () => heard.length === round, 3_000)
    delays.push((heard.at(-1)?.at ?? 0) - sent)
  }
  const median = delays.toSorted((a, b) => a - b)[4] ?? 0
  t.diagnostic(`median ${median.toFixed(1)} ms, slowest ${Math.max(...delays).toFixed(1)} ms`)
  assert.ok(median < 300, `${delays.map((delay) => delay.toFixed(0)).join(' ')} ms`)
  const sequences = heard.map(({ announcement }) => announcement.sequence)
  assert.deepEqual(
    sequences,
    sequences.toSorted((a, b) => a - b),
  )
})

test('soon after two hosts are connected an announcement needs no heartbeat', async (t) => {
  const hosts = hostsOf(t)
  const [one, two] = await Promise.all([hosts.start(), hosts.start()])
  const heard = hearingOf(two)
  await one.dial(addressOf(two), never)
  const start = performance.now()
  for (let sent = 0; heard.length === 0 && sent < 100; sent++) {
    await one.announce([entry])
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  const took = performance.now() - start
  t.diagnostic(`heard after ${took.toFixed(0)} ms`)
  assert.ok(took < 1_000, `${took} ms`)
})

test('alone, a host announces to nobody without an error', async (t) => {
  const hosts = hostsOf(t)
  const one = await hosts.start()
  await one.announce([entry])
  await one.announce([])
  await one.stop()
  await assert.rejects(one.announce([entry]), { code: 'not-running' })
})

test('health reports are shown with their peer', async (t) => {
  const hosts = hostsOf(t)
  const [one, two] = await Promise.all([hosts.start(), hosts.start()])
  await one.dial(addressOf(two), never)
  const health = {
    uploadLoad: 0.25,
    cpuLoad: 1,
    diskFreeBytes: 10,
    memoryFreeBytes: 20,
    blobsHeld: 3,
    version: '0.1.0',
  }
  await one.publishHealth(health, 60_000)
  await until('the report is heard', () => two.peers()[0]?.health !== undefined, 5_000)
  const report = two.peers()[0]?.health
  assert.deepEqual(
    { ...report, sequence: 0, at: 0, expires: 0 },
    { ...health, sequence: 0, at: 0, expires: 0 },
  )
})

test('in a mesh of fourteen, each with four to six gossip links, every announcement of each arrives at every other host once', async (t) => {
  const hosts = hostsOf(t)
  const first = await hosts.start()
  const others = await Promise.all(
    Array.from({ length: 13 }, () => hosts.start({ staticPeers: async () => [addressOf(first)] })),
  )
  const all = [first, ...others]
  await until('all are connected', () => all.every((node) => node.peers().length === 13), 90_000)
  const heard = new Map(all.map((node) => [node, hearingOf(node)]))
  const rounds = 10
  const perRound = all.length * (all.length - 1)
  const count = () => [...heard.values()].reduce((sum, list) => sum + list.length, 0)
  const slowest: number[] = []
  for (let round = 1; round <= rounds; round++) {
    const start = systemClock.now()
    await Promise.all(all.map((node) => node.announce([entry])))
    // What no link brought comes with a later heartbeat, by the ids that others tell. Nothing newer of the same author may come
    // meanwhile: it would be taken for overtaken.
    await until(`round ${round} is heard`, () => count() >= round * perRound, 15_000)
    slowest.push(systemClock.now() - start)
  }
  t.diagnostic(`the last of each round came after ${slowest.map((ms) => ms.toFixed(0)).join(' ')} ms`)
  for (const [node, list] of heard) {
    const distinct = new Set(list.map(({ from, announcement }) => `${from} ${announcement.sequence}`))
    assert.equal(list.length, distinct.size, 'each once')
    assert.equal(distinct.size, 13 * rounds, `${node.self} heard ${distinct.size}`)
  }
})

test('a health report is shown until it expires, and makes its author a host that is known', async (t) => {
  const hosts = hostsOf(t)
  const [one, two, three] = await Promise.all([hosts.start(), hosts.start(), hosts.start()])
  assert.equal(one.hostsKnown(), 1)
  await one.dial(addressOf(two), never)
  await two.dial(addressOf(three), never)
  const figures = {
    uploadLoad: 0,
    cpuLoad: 0,
    diskFreeBytes: 0,
    memoryFreeBytes: 0,
    blobsHeld: 0,
    version: '0.1.0',
  }
  await two.publishHealth(figures, 1_500)
  const healthOf = () => one.peers().find(({ peer }) => peer === two.self)?.health
  await until('the report is heard', () => healthOf() !== undefined, 5_000)
  await until('it has expired', () => healthOf() === undefined, 5_000)
  await until('all three know that they are three', () =>
    [one, two, three].every((node) => node.hostsKnown() === 3),
  )
})

/** A member that gossips whatever it is told to, and a host that hears it. */
async function liarAndVictim(t: TestContext) {
  const hosts = hostsOf(t)
  const [liar, victim] = await Promise.all([RawMember.start(), hosts.start()])
  t.after(() => liar[Symbol.asyncDispose]())
  const { pubsub } = liar.node.services
  pubsub.subscribe(GOSSIP_HAVE_TOPIC)
  const heard = hearingOf(victim)
  await liar.dial(addressOf(victim))
  await until(
    'the liar knows that it is heard',
    () => pubsub.getSubscribers(GOSSIP_HAVE_TOPIC).length === 1,
    5_000,
  )
  const publish = (data: Uint8Array) => pubsub.publish(GOSSIP_HAVE_TOPIC, data)
  let sequence = Date.now()
  const message = (fields: object = {}) =>
    encodeMessage(
      { sequence: ++sequence, at: Date.now(), expires: Date.now() + 60_000, blobs: [entry], ...fields },
      1 << 20,
    )
  return { liar, victim, heard, publish, message, hosts }
}

test('what is replayed, expired, oversized, malformed or of no sense is not heard; what is right then still is', async (t) => {
  const { victim, heard, publish, message, liar } = await liarAndVictim(t)
  const first = message()
  await publish(first)
  await until('the honest message is heard', () => heard.length === 1, 5_000)
  assert.equal(heard[0]?.from, liar.peer)
  // In a new envelope of gossipsub the same announcement passes its cache of seen messages.
  await publish(first)
  const hour = 3_600_000
  await publish(message({ at: Date.now() - hour, expires: Date.now() - hour + 1 }))
  await publish(message({ at: Date.now() + hour, expires: Date.now() + hour + 1 }))
  assert.equal(victim.counters().gossipRejected, 0)
  await publish(message({ expires: Date.now() + 2 * GOSSIP_MAX_LIFETIME_MS }))
  await until('one was rejected', () => victim.counters().gossipRejected === 1, 3_000)
  await publish(Buffer.alloc(LIMITS.gossip + 1, 0x61))
  await until('two were rejected', () => victim.counters().gossipRejected === 2, 3_000)
  await publish(message())
  await until('the honest message is heard', () => heard.length === 2, 5_000)
})

test('a liar is not heard any more after a few lies', async (t) => {
  const { victim, heard, publish, message } = await liarAndVictim(t)
  for (let lie = 0; lie < 10; lie++) await publish(Buffer.from(`lie ${lie}`))
  await until('the lies were seen', () => victim.counters().gossipRejected >= 3, 3_000)
  // gossipsub looks at scores once a heartbeat, and trusts for a second whom it trusted then.
  await new Promise((resolve) => setTimeout(resolve, 2_200))
  await publish(message())
  await new Promise((resolve) => setTimeout(resolve, 400))
  assert.equal(heard.length, 0)
})

test('nobody can speak in another’s name', async (t) => {
  const { liar, victim, heard, publish, message, hosts } = await liarAndVictim(t)
  const other = await hosts.start()
  await other.dial(addressOf(victim), never)
  // The liar's own gossip, with the author replaced where it leaves the host: the signature no longer fits.
  const streams: Map<string, { push(bytes: Uint8Array): void }> = Reflect.get(
    liar.node.services.pubsub,
    'streamsOutbound',
  )
  const stream = streams.get(victim.self)
  assert.ok(stream)
  const push = stream.push.bind(stream)
  const own = Buffer.from(liar.node.peerId.toMultihash().bytes)
  const forged = Buffer.from(
    (await import('@libp2p/peer-id')).peerIdFromString(other.self).toMultihash().bytes,
  )
  let replaced = 0
  stream.push = (bytes) => {
    const copy = Buffer.from(bytes)
    const at = copy.indexOf(own)
    if (at !== -1) {
      forged.copy(copy, at)
      replaced++
    }
    push(copy)
  }
  await publish(message())
  stream.push = push
  assert.equal(replaced, 1)
  await publish(message())
  await until('the honest message is heard', () => heard.length === 1, 5_000)
  assert.equal(heard[0]?.from, liar.peer)
})

test('a banned host is not heard, not even through others', async (t) => {
  const hosts = hostsOf(t)
  const relay = await hosts.start()
  const speaker = await hosts.start({ staticPeers: async () => [addressOf(relay)] })
  const listener = await hosts.start()
  listener.ban(speaker.self, 60_000, 'test')
  await listener.dial(addressOf(relay), never)
  const [atRelay, atListener] = [hearingOf(relay), hearingOf(listener)]
  await until('the relay has both', () => relay.peers().length === 2)
  for (let sent = 0; sent < 5; sent++) {
    await speaker.announce([entry])
    await new Promise((resolve) => setTimeout(resolve, 300))
  }
  await relay.announce([entry])
  await until('the relay is heard', () => atListener.some(({ from }) => from === relay.self), 5_000)
  assert.ok(atRelay.length >= 3)
  assert.deepEqual(
    atListener.filter(({ from }) => from === speaker.self),
    [],
  )
  assert.equal(listener.isConnected(speaker.self), false)
})

test('thousands of chunks and hundreds of blobs are announced in as many messages as needed', async (t) => {
  const hosts = hostsOf(t)
  const [one, two] = await Promise.all([hosts.start(), hosts.start()])
  const heard = hearingOf(two)
  await one.dial(addressOf(two), never)
  await one.announce([entry])
  await until('gossip flows', () => heard.length > 0, 5_000)
  heard.length = 0
  const gained = Array.from({ length: 5_000 }, (_, at): [number, number] => [at * 2, 1])
  const many = Array.from({ length: 300 }, () => entry)
  await one.announce([{ ...entry, state: 'wanting', gained }, ...many])
  const told = () => heard.flatMap(({ announcement }) => announcement.blobs)
  await until('all is heard', () => told().length >= 300 + 10, 5_000)
  assert.deepEqual(
    told().flatMap((blobs) => blobs.gained),
    gained,
  )
})
