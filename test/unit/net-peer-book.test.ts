// Who is due to be dialled and when, who is let in, and which addresses are kept.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addressesOfPeer, parseAddress } from '@shoal/agent/net/addresses.ts'
import { newIdentity } from '@shoal/agent/net/identity.ts'
import { MAX_KNOWN_PEERS, PeerBook, STEADY_MS } from '@shoal/agent/net/peer-book.ts'
import { MAX_CONNECTIONS_PER_PEER, PeerGate } from '@shoal/agent/net/peer-gate.ts'
import { type PeerId, parsePeerId } from '@shoal/protocol/ids.ts'
import { type Random, seededRandom } from '@shoal/protocol/time.ts'

const peers = Array.from({ length: 4 }, () => newIdentity().peer)
const [alice, bob, carol] = peers as [PeerId, PeerId, PeerId]
const nobody = () => false
const almostOne: Random = { next: () => 0.999_999 }

const fake = (number: number) =>
  parsePeerId(`12D3KooW${String(number).padStart(44, 'A').replaceAll('0', 'z')}`)
const at = (host: string, port = 8002) => `/ip4/${host}/tcp/${port}`

// --- the book -------------------------------------------------------------------------------------------------------

test('a host is due at once, then after growing pauses of at most a minute', () => {
  const book = new PeerBook(almostOne)
  book.learn(alice, [at('10.0.0.1')], 'static', 0)
  let now = 0
  const pauses: number[] = []
  for (let failure = 0; failure < 12; failure++) {
    assert.deepEqual(
      book.due(now, nobody).map(({ key }) => key),
      [alice],
    )
    book.failed(alice, now)
    assert.deepEqual(book.due(now, nobody), [])
    const next = book.nextDueAt(now, nobody)
    assert.ok(next !== undefined)
    pauses.push(Math.round((next - now) / 1_000))
    now = next
  }
  assert.deepEqual(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60])
})

test('a host others told of is forgotten after eight failures, one of the operator’s never', () => {
  const book = new PeerBook(seededRandom(1))
  book.learn(alice, [at('10.0.0.1')], 'static', 0)
  book.learn(bob, [at('10.0.0.2')], 'told', 0)
  for (let failure = 0; failure < 8; failure++) {
    book.failed(alice, 0)
    book.failed(bob, 0)
  }
  assert.deepEqual(
    book.known().map(({ peer }) => peer),
    [alice],
  )
})

test('connected and banned hosts are not due', () => {
  const book = new PeerBook(seededRandom(1))
  book.learn(alice, [at('10.0.0.1')], 'told', 0)
  book.learn(bob, [at('10.0.0.2')], 'told', 0)
  const settled = (peer: PeerId) => peer === alice
  assert.deepEqual(
    book.due(0, settled).map(({ key }) => key),
    [bob],
  )
  assert.equal(
    book.nextDueAt(0, () => true),
    undefined,
  )
})

test('a lost host is dialled again within two seconds, both ends at times of their own', () => {
  const times = new Set<number>()
  for (let seed = 0; seed < 20; seed++) {
    const book = new PeerBook(seededRandom(seed))
    book.learn(alice, [at('10.0.0.1')], 'told', 0)
    for (let failure = 0; failure < 7; failure++) book.failed(alice, 0)
    book.lost(alice, 1_000, false)
    const due = book.nextDueAt(0, nobody)
    assert.ok(due !== undefined && due >= 1_000 && due < 3_000, `seed ${seed}: ${due}`)
    times.add(due)
  }
  assert.equal(times.size, 20)
})

test('the operator’s address of a host stays first, whatever others say', () => {
  const book = new PeerBook(seededRandom(1))
  book.learn(alice, [at('203.0.113.9')], 'static', 0)
  for (let round = 0; round < 10; round++)
    book.learn(alice, [at(`10.0.0.${round}`), at(`10.0.1.${round}`)], 'told', 0)
  const addresses = book.addressesOf(alice)
  assert.equal(addresses[0], at('203.0.113.9'))
  assert.deepEqual(addresses.slice(1, 3), [at('10.0.0.9'), at('10.0.1.9')])
  assert.equal(addresses.length, 4)
})

test('a host that moved is dialled at its new address at once', () => {
  const book = new PeerBook(almostOne)
  book.learn(alice, [at('10.0.0.1')], 'told', 0)
  for (let failure = 0; failure < 6; failure++) book.failed(alice, 0)
  assert.deepEqual(book.due(10, nobody), [])
  assert.equal(book.learn(alice, [at('10.0.0.1')], 'told', 10), false)
  assert.deepEqual(book.due(10, nobody), [])
  assert.equal(book.learn(alice, [at('10.0.0.2')], 'told', 10), true)
  assert.deepEqual(
    book.due(10, nobody).map(({ key }) => key),
    [alice],
  )
})

test('an address whose host is known waits until dialling the host fails, and then finds its successor', () => {
  const book = new PeerBook(almostOne)
  book.learnAddress(at('10.0.0.1'), 0)
  book.succeeded(at('10.0.0.1'), alice)
  book.learn(alice, [at('10.0.0.1')], 'told', 0)
  assert.deepEqual(
    book.due(0, nobody).map(({ key }) => key),
    [alice],
  )
  // The host was set up anew: at its address another key answers.
  book.failed(alice, 0)
  assert.deepEqual(
    book.due(0, nobody).map(({ key }) => key),
    [at('10.0.0.1')],
  )
  book.succeeded(at('10.0.0.1'), bob)
  assert.deepEqual(
    book.due(0, (peer) => peer === bob),
    [],
  )
})

test('the book is bounded: a flood of hosts pushes out failing ones, then any, never the operator’s nor connected ones', () => {
  const book = new PeerBook(seededRandom(1))
  book.learn(alice, [at('10.0.0.1')], 'static', 0)
  book.learn(bob, [at('10.0.0.2')], 'told', 0)
  book.connected(bob, 0)
  for (let number = 0; number < MAX_KNOWN_PEERS - 2; number++)
    book.learn(fake(number), [at('10.9.9.9')], 'told', 0)
  book.failed(fake(7), 0)
  assert.equal(book.learn(fake(5_000), [at('10.0.0.3')], 'told', 0), true)
  const first = new Set(book.known().map(({ peer }) => peer))
  assert.equal(first.size, MAX_KNOWN_PEERS)
  assert.ok(!first.has(fake(7)), 'the failing one goes first')
  for (let number = 0; number < MAX_KNOWN_PEERS; number++)
    book.learn(fake(10_000 + number), [at('10.9.9.9')], 'told', 0)
  const known = new Set(book.known().map(({ peer }) => peer))
  assert.equal(known.size, MAX_KNOWN_PEERS)
  for (const peer of [alice, bob]) assert.ok(known.has(peer))
  const old = [...known].filter((peer) => first.has(peer)).length
  assert.ok(
    old > MAX_KNOWN_PEERS / 4 && old < MAX_KNOWN_PEERS / 2,
    `${old} of the old ones: a random choice leaves 37 %`,
  )
})

test('hosts that are connected are known first: they are what the file keeps', () => {
  const book = new PeerBook(seededRandom(1))
  for (const peer of [alice, bob, carol]) book.learn(peer, [at('10.0.0.1')], 'told', 0)
  book.connected(carol, 0)
  assert.equal(book.known()[0]?.peer, carol)
  book.lost(carol, 100_000, false)
  assert.equal(book.known()[0]?.peer, alice)
})

test('a host that lets us in and hangs up at once is tried ever more seldom: up to ten minutes if we have others', () => {
  for (const [isWellConnected, longest] of [
    [false, 60],
    [true, 600],
  ] as const) {
    const book = new PeerBook(almostOne)
    book.learn(alice, [at('10.0.0.1')], 'static', 0)
    let now = 0
    const pauses: number[] = []
    for (let round = 0; round < 14; round++) {
      book.connected(alice, now)
      book.lost(alice, now + 5_000, isWellConnected)
      const next = book.nextDueAt(now + 5_000, nobody) ?? 0
      pauses.push(Math.round((next - now - 5_000) / 1_000))
      now = next
    }
    assert.deepEqual(pauses.slice(0, 6), [1, 1, 2, 4, 8, 16])
    assert.equal(pauses.at(-1), longest)
    book.connected(alice, now)
    book.lost(alice, now + STEADY_MS, isWellConnected)
    const next = book.nextDueAt(now + STEADY_MS, nobody) ?? 0
    assert.ok(next - now - STEADY_MS < 2_000, 'one that lasted is made again at once')
  }
})

// --- the gate -------------------------------------------------------------------------------------------------------

test('a ban ends when its time is over and not before', () => {
  const gate = new PeerGate()
  gate.ban(alice, 1_000)
  assert.equal(gate.admits(alice, 0, 999), false)
  assert.equal(gate.admits(bob, 0, 999), true)
  assert.equal(gate.admits(alice, 0, 1_000), true)
  gate.ban(alice, 5_000)
  gate.ban(alice, 2_000)
  assert.equal(gate.isBanned(alice, 3_000), false, 'the last word counts')
})

test('a peer has at most two connections', () => {
  const gate = new PeerGate()
  assert.equal(gate.admits(alice, MAX_CONNECTIONS_PER_PEER - 1, 0), true)
  assert.equal(gate.admits(alice, MAX_CONNECTIONS_PER_PEER, 0), false)
})

test('bans are bounded, the newest are kept', () => {
  const gate = new PeerGate()
  for (let peer = 0; peer < 5_000; peer++) gate.ban(`peer-${peer}`, 1_000)
  assert.equal(gate.isBanned('peer-0', 0), false)
  assert.equal(gate.isBanned('peer-4999', 0), true)
})

// --- addresses ------------------------------------------------------------------------------------------------------

test('only plain TCP to an address or a name counts as an address', () => {
  const good = [
    at('10.0.0.1'),
    '/ip6/fd00::1/tcp/8002',
    '/dns4/host.example/tcp/8002',
    `${at('10.0.0.1')}/p2p/${alice}`,
  ]
  for (const text of good) assert.ok(parseAddress(text), text)
  const bad = [
    '',
    'not an address',
    '10.0.0.1:8002',
    '/ip4/10.0.0.1',
    '/ip4/10.0.0.1/udp/8002',
    '/ip4/10.0.0.1/udp/8002/quic-v1',
    '/ip4/10.0.0.1/tcp/8002/ws',
    '/ip4/10.0.0.999/tcp/8002',
    '/ip4/10.0.0.1/tcp/65536',
    '/dnsaddr/host.example',
    `/p2p/${alice}`,
    `${at('10.0.0.1')}/p2p/${alice}/p2p-circuit`,
    `${at('10.0.0.1')}/p2p/notapeer`,
    '/unix/tmp%2fsocket',
    `${at('10.0.0.1')}${'/p2p-circuit'.repeat(50)}`,
  ]
  for (const text of bad) assert.equal(parseAddress(text), undefined, text)
})

test('addresses of a peer carry its id, best first, without another’s and without doubles', () => {
  const texts = [at('10.0.0.1'), `${at('10.0.0.2')}/p2p/${bob}`, at('192.168.0.9'), at('10.0.0.1'), '/ip4/x']
  assert.deepEqual(addressesOfPeer(alice, texts, '192.168.0.9', '192.168.0.9'), [
    `${at('192.168.0.9')}/p2p/${alice}`,
    `${at('10.0.0.1')}/p2p/${alice}`,
  ])
})

test('nobody elsewhere can point this host at its own services', () => {
  const own = [
    '/ip4/127.0.0.1/tcp/6379',
    '/ip4/127.9.9.9/tcp/1',
    '/ip6/::1/tcp/6379',
    '/dns4/localhost/tcp/6379',
    '/ip4/0.0.0.0/tcp/6379',
    '/ip6/::/tcp/1',
    '/ip6/::ffff:127.0.0.1/tcp/6379',
    '/ip4/0.0.0.1/tcp/1',
  ]
  for (const text of own) assert.deepEqual(addressesOfPeer(alice, [text], '10.0.0.3', '10.0.0.3'), [], text)
  assert.deepEqual(addressesOfPeer(alice, [at('127.0.0.1')], '127.0.0.1'), [
    `${at('127.0.0.1')}/p2p/${alice}`,
  ])
})
