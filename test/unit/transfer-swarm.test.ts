// What hosts tell each other about blobs that are arriving: all of it hints, all of it bounded, and none of it costs a wrong byte.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLog } from '@shoal/agent/log.ts'
import { newIdentity } from '@shoal/agent/net/identity.ts'
import { askPeersForManifest } from '@shoal/agent/peer-manifests.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { type PeerId, parseCommit, parseRepoSpec, parseRevision } from '@shoal/protocol/ids.ts'
import type { Manifest } from '@shoal/protocol/manifest.ts'
import type { HaveAnswer, ManifestAnswer } from '@shoal/protocol/messages.ts'
import { type FakePeer, holdsAll, holdsOnly } from '../support/fake-mesh.ts'
import { failing, silence } from '../support/fake-origin.ts'
import { blobOf, CHUNK, honestPeer, TransferWorld } from '../support/transfer-world.ts'

const never = new AbortController().signal
const nothing: HaveAnswer = { state: 'none', wanting: false, claimed: [] }
const lacks = async () => {
  throw new ShoalError('peer-lacks-chunk', 'not here')
}

test('a pull tells every peer that it wants the whole, with its first question, and a reader of a part does not', async (t) => {
  const world = await TransferWorld.start(t)
  world.origin.manner = async (call) => {
    if (call.index > 0) await silence(call.options.signal)
    call.fill(call.right)
  }
  const peers = [0, 1].map(() => world.mesh.add({ chunk: lacks, have: () => nothing }))
  const made = blobOf(70, 20 * CHUNK)
  const part = await world.open(world.file(made), { start: 0, end: CHUNK })
  for (const { haveAsks } of peers)
    assert.deepEqual(
      haveAsks.map(({ want }) => want),
      [false],
    )
  await world.clock.advance(3_000)
  assert.equal(world.mesh.wanting(made.blob), false, 'nor does it say so with what it has stored')
  const pull = world.downloader.fetch(world.file(made), { signal: never })
  pull.catch(() => {})
  await world.clock.advance(500)
  assert.ok(world.mesh.wanting(made.blob), 'who has been asked already hears of it too')
  await part.close()

  const second = blobOf(71, 3 * CHUNK)
  const other = world.downloader.fetch(world.file(second, { path: 'second' }), { signal: never })
  other.catch(() => {})
  await world.clock.advance(10)
  for (const { haveAsks } of peers)
    assert.deepEqual(
      haveAsks.filter(({ blob }) => blob === second.blob).map(({ want }) => want),
      [true],
    )
})

test('stored chunks are announced in batches, the end once, and ends of many files together', async (t) => {
  const world = await TransferWorld.start(t)
  const made = blobOf(72, 8 * CHUNK)
  await world.fetch(world.file(made))
  await world.clock.advance(500)
  const told = world.mesh.announced.filter(({ blob }) => blob === made.blob)
  assert.deepEqual(
    told.map(({ state }) => state).filter((state) => state !== 'wanting'),
    ['complete'],
  )
  assert.ok(told.length <= 4, `${told.length} announcements of one file`)
  let messages = 0
  const { announce } = world.mesh
  world.mesh.announce = async (blobs) => {
    messages++
    await announce.call(world.mesh, blobs)
  }
  const small = Array.from({ length: 60 }, (_, at) => world.file(blobOf(100 + at, 100), { path: `${at}` }))
  await world.pass(Promise.all(small.map((file) => world.downloader.fetch(file, { signal: never }))))
  await world.clock.advance(1_000)
  assert.ok(messages <= 6, `${messages} messages for 60 small files`)
  const complete = new Set(
    world.mesh.announced.filter(({ state }) => state === 'complete').map(({ blob }) => blob),
  )
  assert.equal(complete.size, 61)
})

test('gossip of a host that is not connected is not acted on, that of a connected one is checked when asked', async (t) => {
  const world = await TransferWorld.start(t)
  const made = blobOf(73, 6 * CHUNK)
  const { blob } = made
  const geometry = made.geometry.text
  world.origin.manner = (call) => silence(call.options.signal)
  const pull = world.downloader.fetch(world.file(made), { signal: never })
  await world.clock.advance(500)
  world.mesh.gossip(newIdentity().peer, [{ blob, geometry, state: 'complete', gained: [] }])
  await world.clock.advance(1_000)
  assert.equal(world.downloader.active()[0]?.peers, 0)
  const liar = world.mesh.add({ chunk: lacks, have: () => nothing })
  for (let turn = 0; turn < 20; turn++) {
    world.mesh.gossip(liar.peer, [{ blob, geometry, state: 'complete', gained: [] }])
    await world.clock.advance(500)
  }
  const perChunk = new Map<number, number>()
  for (const index of liar.asked) perChunk.set(index, (perChunk.get(index) ?? 0) + 1)
  assert.ok(liar.asked.length <= 6, `${liar.asked.length} requests were wasted on it in 10 seconds`)
  world.mesh.gossip(liar.peer, [{ blob, geometry: 'slices:1024:5', state: 'complete', gained: [] }])
  world.mesh.gossip(liar.peer, [{ blob, geometry, state: 'gone', gained: [] }])
  await world.clock.advance(100)
  assert.equal(world.downloader.active()[0]?.peers, 0)
  const honest: FakePeer = world.mesh.add({ chunk: (call) => honestPeer(made, honest.identity)(call) })
  await world.pass(pull)
})

test('what a connected peer tells this host alone counts as gossip does, and the answer says whether it matters', async (t) => {
  const world = await TransferWorld.start(t)
  const made = blobOf(75, 6 * CHUNK)
  const { blob } = made
  const geometry = made.geometry.text
  const entry = { blob, geometry, state: 'wanting' as const, gained: [[2, 1]] as [number, number][] }
  const peer: FakePeer = world.mesh.add({
    chunk: (call) => honestPeer(made, peer.identity)(call),
    have: () => nothing,
  })
  assert.equal(world.swarm.told(peer.peer, { blobs: [entry] }), false, 'nothing of it is arriving')
  world.origin.manner = (call) => silence(call.options.signal)
  const pull = world.downloader.fetch(world.file(made), { signal: never })
  await world.clock.advance(500)
  assert.deepEqual(peer.asked, [])
  assert.equal(world.swarm.told(newIdentity().peer, { blobs: [entry] }), false, 'not connected')
  assert.equal(world.swarm.told(peer.peer, { blobs: [{ ...entry, geometry: 'slices:1024:5' }] }), false)
  assert.equal(world.swarm.told(peer.peer, { blobs: [{ ...entry, gained: [[6, 4]] }] }), true)
  await world.clock.advance(500)
  assert.deepEqual(peer.asked, [], 'nor was any of that acted on')
  assert.equal(world.swarm.told(peer.peer, { blobs: [{ ...entry, blob: blobOf(76, 5).blob }, entry] }), true)
  await world.clock.advance(500)
  assert.deepEqual(peer.asked, [2])
  assert.equal(world.swarm.told(peer.peer, { blobs: [{ ...entry, state: 'complete', gained: [] }] }), true)
  await world.pass(pull)
  assert.equal(world.swarm.told(peer.peer, { blobs: [entry] }), false, 'it has arrived')
})

test('an announcement of overlapping runs costs a bounded time, not their sum', async (t) => {
  const world = await TransferWorld.start(t)
  const made = blobOf(74, 1000 * 1024)
  const geometry = `slices:1024:${1000 * 1024}`
  const big = await TransferWorld.start(t, { chunkBytes: 1024 })
  big.origin.manner = (call) => silence(call.options.signal)
  const pull = big.downloader.fetch(big.file(made), { signal: never })
  pull.catch(() => {})
  const spammer = big.mesh.add({ chunk: lacks, have: () => nothing })
  await big.clock.advance(500)
  const runs = Array.from({ length: 512 }, (): [number, number] => [0, 1_310_720])
  const entry = { blob: made.blob, geometry, state: 'wanting' as const, gained: runs }
  const startedAt = performance.now()
  for (let turn = 0; turn < 20; turn++)
    big.swarm.told(spammer.peer, { blobs: Array.from({ length: 16 }, () => entry) })
  const tookMs = performance.now() - startedAt
  assert.ok(tookMs < 2_000, `${tookMs.toFixed(0)} ms for 20 messages`)
  await big.clock.advance(0)
  assert.equal(world.failures.length, 0)
})

test('a peer that is fetching too is asked again every few seconds, one that comes later at once', async (t) => {
  const world = await TransferWorld.start(t)
  const made = blobOf(75, 4 * CHUNK)
  world.origin.manner = (call) => silence(call.options.signal)
  const wanting = world.mesh.add({ chunk: lacks, have: () => ({ ...nothing, wanting: true }) })
  const idle = world.mesh.add({ chunk: lacks, have: () => nothing })
  const pull = world.downloader.fetch(world.file(made), { signal: never })
  pull.catch(() => {})
  await world.clock.advance(20_500)
  assert.ok(wanting.haveAsks.length >= 4 && wanting.haveAsks.length <= 6, String(wanting.haveAsks.length))
  assert.equal(idle.haveAsks.length, 1)
  const late = world.mesh.add({ chunk: lacks, have: () => nothing })
  await world.clock.advance(10)
  assert.equal(late.haveAsks.length, 1)
  world.swarm.peerAsked(idle.peer, made.blob, true, true)
  await world.clock.advance(6_000)
  assert.ok(idle.haveAsks.length >= 2, 'it said that it fetches too')
})

test('a peer that never says what it holds delays the first request to the origin by a quarter of a second at most', async (t) => {
  const world = await TransferWorld.start(t)
  const made = blobOf(76, CHUNK)
  world.mesh.add({ chunk: lacks, have: () => new Promise(() => {}) })
  let askedAt = 0
  world.origin.manner = async (call) => {
    askedAt = world.clock.now()
    call.fill(call.right)
  }
  await world.fetch(world.file(made))
  assert.ok(askedAt <= 260, `${askedAt} ms`)
})

test('the chunks of a peer that leaves go elsewhere at once', async (t) => {
  const world = await TransferWorld.start(t)
  const made = blobOf(77, 6 * CHUNK)
  const leaving: FakePeer = world.mesh.add({
    chunk: (call) => silence(call.options.signal),
    have: () => holdsAll,
  })
  const pull = world.downloader.fetch(world.file(made), { signal: never })
  await world.clock.advance(400)
  assert.ok(leaving.asked.length > 0)
  world.mesh.drop(leaving.peer)
  const startedAt = world.clock.now()
  await world.pass(pull)
  assert.ok(world.clock.now() - startedAt < 1_500, `${world.clock.now() - startedAt} ms`)
})

test('with no origin and half a file at each of two peers the whole arrives, though one of them announces as it goes', async (t) => {
  const world = await TransferWorld.start(t)
  const made = blobOf(78, 6 * CHUNK)
  world.origin.manner = failing(() => new ShoalError('origin-unreachable', 'down'))
  const first: FakePeer = world.mesh.add({
    chunk: (call) => honestPeer(made, first.identity)(call),
    have: () => holdsOnly(6, [0, 1, 2]),
  })
  const held = [3]
  const second: FakePeer = world.mesh.add({
    chunk: async (call) =>
      held.includes(call.request.index) ? honestPeer(made, second.identity)(call) : lacks(),
    have: () => holdsOnly(6, [3], true),
  })
  // For as long as this one is waited for there is no plan.
  world.mesh.add({ chunk: lacks, have: () => new Promise(() => {}) })
  const pull = world.downloader.fetch(world.file(made), { signal: never })
  await world.clock.advance(50)
  held.push(4)
  const entry = { blob: made.blob, geometry: made.geometry.text, state: 'wanting' as const }
  world.swarm.told(second.peer, { blobs: [{ ...entry, gained: [[4, 1]] }] })
  await world.clock.advance(2_000)
  held.push(5)
  world.swarm.told(second.peer, { blobs: [{ ...entry, gained: [[5, 1]] }] })
  await world.pass(pull)
  assert.equal(world.counts.origin, 0)
})

// --- manifests ----------------------------------------------------------------------------------------------------------

test('of what peers say about a revision the newest is taken; nonsense and stamps from the future are not', async (t) => {
  const world = await TransferWorld.start(t)
  const { repo } = parseRepoSpec('org/model')
  const main = parseRevision('main')
  const now = world.clock.wallTime()
  const commit = (digit: string) => parseCommit(digit.repeat(40))
  const answer = (digit: string, resolvedAt: number, change: Partial<Manifest> = {}): ManifestAnswer => ({
    found: true,
    commit: commit(digit),
    resolvedAt,
    manifest: JSON.stringify({
      repo,
      commit: commit(digit),
      access: 'public',
      files: [],
      directories: [],
      info: {},
      learnedAt: 5,
      ...change,
    }),
  })
  const add = (manifest: () => Promise<ManifestAnswer>): PeerId =>
    world.mesh.add({ chunk: lacks, manifest }).peer
  const ask = (revision = main, signal = never) =>
    world.pass(
      askPeersForManifest({ mesh: world.mesh, clock: world.clock, log: silentLog }, repo, revision, signal),
    )
  assert.equal(await ask(), undefined)
  add(async () => ({ found: false }))
  add(async () => ({ found: true, commit: commit('1'), manifest: '{"repo"' }))
  add(async () => ({ found: true, commit: commit('1'), manifest: '{}' }))
  add(async () => answer('1', now, { repo: parseRepoSpec('org/other').repo }))
  add(async () => answer('1', now, { commit: commit('2') }))
  add(() => new Promise(() => {}))
  assert.equal(await ask(), undefined, 'all of it is nonsense')
  add(async () => answer('3', now - 2_000))
  add(async () => answer('4', now - 1_000))
  const found = await ask()
  assert.deepEqual([found?.commit, found?.resolvedAt], [commit('4'), now - 1_000])

  const others = await TransferWorld.start(t)
  const future = others.clock.wallTime() + 365 * 24 * 3_600_000
  others.mesh.add({ chunk: lacks, manifest: async () => answer('5', future) })
  const deps = { mesh: others.mesh, clock: others.clock, log: silentLog }
  const liar = await others.pass(askPeersForManifest(deps, repo, main, never))
  assert.ok((liar?.resolvedAt ?? Number.POSITIVE_INFINITY) <= others.clock.wallTime())
  assert.equal(
    await others.pass(askPeersForManifest(deps, repo, commit('6'), never)),
    undefined,
    'another commit',
  )
  await assert.rejects(others.pass(askPeersForManifest(deps, repo, main, AbortSignal.abort())), {
    code: 'aborted',
  })
})
