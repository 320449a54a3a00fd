// How many connections a host comes to have: whom it dials of a thousand it was told of, and whom it lets go when it is full.
// On a virtual clock, with connections that are only counted.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Discovery } from '@shoal/agent/net/discovery.ts'
import { newIdentity } from '@shoal/agent/net/identity.ts'
import { MAX_PEERS_TOLD } from '@shoal/agent/net/questions.ts'
import {
  CHOSEN_CONNECTIONS,
  KEPT_CONNECTIONS,
  NEAR_CONNECTIONS,
  VISIT_MS,
} from '@shoal/agent/plan/connection-choice.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { type PeerId, parsePeerId } from '@shoal/protocol/ids.ts'
import { createTasks } from '@shoal/protocol/service.ts'
import { seededRandom } from '@shoal/protocol/time.ts'
import { tempFolder } from '../support/temp-folder.ts'
import { virtualClock } from '../support/virtual-clock.ts'

const peers = Array.from({ length: 300 }, () => newIdentity().peer)
const address = (at: number) => `/ip4/10.0.${at >> 8}.${at & 255}/tcp/8002`

interface Link {
  readonly isInbound: boolean
  readonly since: number
}

async function world(t: TestContext, staticPeers: readonly string[], isNear: (peer: string) => boolean) {
  const clock = virtualClock()
  const failures: unknown[] = []
  const tasks = createTasks((_name, error) => failures.push(error))
  const links = new Map<PeerId, Link>()
  const dialled: PeerId[] = []
  const cut: PeerId[] = []
  const folder = await tempFolder(t)
  const discovery: Discovery = new Discovery({
    self: newIdentity().peer,
    staticPeers,
    path: join(folder, 'peers.json'),
    clock,
    random: seededRandom(3),
    tasks,
    log: () => {},
    isBanned: () => false,
    isNear,
    askPeers: async () => ({ peers: [] }),
    connections: {
      open: () =>
        [...links].map(([peer, { isInbound, since }]) => ({
          peer,
          isInbound,
          isInUse: false,
          ageMs: clock.now() - since,
        })),
      async dial(addresses) {
        const text = addresses[0]?.split('/p2p/')[1]
        if (text === undefined) throw new ShoalError('peer-unreachable', 'nobody there')
        const peer = parsePeerId(text)
        dialled.push(peer)
        come(peer, false)
        return peer
      },
      hostOf: () => '10.0.0.1',
      cut(peer) {
        cut.push(peer)
        links.delete(peer)
        discovery.disconnected(peer)
      },
    },
  })
  function come(peer: PeerId, isInbound: boolean): void {
    links.set(peer, { isInbound, since: clock.now() })
    discovery.connected(peer)
    discovery.identified(peer, [address(peers.indexOf(peer))], `10.0.0.${peers.indexOf(peer) & 255}`)
  }
  await discovery.start()
  t.after(async () => {
    await tasks.stop()
    assert.deepEqual(failures, [])
  })
  return { clock, discovery, links, dialled, cut, come }
}

test('told of 300 hosts, a host dials 48 of them and no more, and one more when one leaves', async (t) => {
  const { clock, discovery, links, dialled } = await world(t, [], () => false)
  for (const [at, peer] of peers.entries()) discovery.heard(peer, [address(at)], '10.0.0.1')
  await clock.advance(120_000)
  assert.deepEqual([dialled.length, links.size], [CHOSEN_CONNECTIONS, CHOSEN_CONNECTIONS])
  const [gone] = dialled as [PeerId]
  links.delete(gone)
  discovery.disconnected(gone)
  await clock.advance(120_000)
  assert.equal(links.size, CHOSEN_CONNECTIONS)
})

test('hosts whose labels turn out to be near are dialled although there are connections enough', async (t) => {
  const near = new Set<string>()
  const { clock, discovery, links } = await world(t, [], (peer) => near.has(peer))
  for (const [at, peer] of peers.entries()) discovery.heard(peer, [address(at)], '10.0.0.1')
  await clock.advance(10_000)
  for (const peer of peers.slice(0, 100)) if (!links.has(peer)) near.add(peer)
  await clock.advance(60_000)
  assert.equal(links.size, CHOSEN_CONNECTIONS + NEAR_CONNECTIONS)
  assert.equal([...links.keys()].filter((peer) => near.has(peer)).length, NEAR_CONNECTIONS)
})

test('the operator’s host is dialled again by a host that has connections enough', async (t) => {
  const seat = peers[299] as PeerId
  const { clock, come, discovery, links } = await world(t, [`${address(299)}/p2p/${seat}`], () => false)
  await clock.advance(1_000)
  assert.ok(links.has(seat))
  for (const peer of peers.slice(0, CHOSEN_CONNECTIONS + 10)) come(peer, true)
  await clock.advance(60_000)
  links.delete(seat)
  discovery.disconnected(seat)
  await clock.advance(10_000)
  assert.ok(links.has(seat))
})

test('a full host lets one more in, tells it whom it knows, and after a moment lets go whom it is least bound to', async (t) => {
  const { clock, come, cut, discovery, links } = await world(t, [], () => false)
  for (const peer of peers.slice(0, KEPT_CONNECTIONS)) come(peer, true)
  await clock.advance(60_000)
  assert.deepEqual(cut, [])
  const newcomer = peers[200] as PeerId
  come(newcomer, true)
  assert.equal(discovery.tell(newcomer).peers.length, MAX_PEERS_TOLD)
  await clock.advance(VISIT_MS - 100)
  assert.deepEqual([cut.length, links.size], [0, KEPT_CONNECTIONS + 1])
  await clock.advance(200)
  assert.deepEqual([cut.length, links.size], [1, KEPT_CONNECTIONS])
})
