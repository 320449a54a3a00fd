// Pulls among each other and beside readers: who goes first, what a pause leaves and takes away, what a plan says before and after. The
// transfer layer below is the real one.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { chunksOf } from '@shoal/protocol/chunks.ts'
import { parseRepoSpec } from '@shoal/protocol/ids.ts'
import type { Manifest } from '@shoal/protocol/manifest.ts'
import { holdsAll, holdsOnly } from '../support/fake-mesh.ts'
import { type OriginCall, silence } from '../support/fake-origin.ts'
import { addRepo, bytesOf, keeperOf, lasting, MAIN } from '../support/keeper-world.ts'
import { makeBlob } from '../support/made-blob.ts'
import { CHUNK, collect, honestPeer, type TransferWorld } from '../support/transfer-world.ts'

const never = new AbortController().signal

/** The origin takes so long for a chunk. */
function slowly(world: TransferWorld, ms: number, started: (call: OriginCall) => void = () => {}) {
  return async (call: OriginCall) => {
    started(call)
    const { signal } = call.options
    let cancel = () => {}
    const waited = new Promise<void>((resolve) => {
      cancel = world.clock.after(ms, resolve)
    })
    try {
      await Promise.race([waited, silence(signal)])
    } finally {
      cancel()
    }
    call.fill(call.right)
  }
}

function fileOf(manifest: Manifest, path: string) {
  const entry = manifest.files.find((file) => file.path === path)
  assert.ok(entry !== undefined)
  return { manifest, entry, caller: { kind: 'client', token: undefined } } as const
}

test('files of all pulls share the places; the first pull goes first, and the others say that they are queued', async (t) => {
  const disk = lasting()
  for (const [at, spec] of ['org/one', 'org/two', 'org/three'].entries())
    await addRepo(disk, spec, { 'a.bin': bytesOf(10 + at, CHUNK), 'b.bin': bytesOf(20 + at, CHUNK) })
  const { world, keeper, pull, ended } = await keeperOf(t, disk, { places: 2 })
  const asked: string[] = []
  world.origin.manner = slowly(world, 1_000, ({ file }) => asked.push(file.repo.id))
  const ids = ['org/one', 'org/two', 'org/three'].map((spec) => pull(spec).id)
  await world.clock.advance(900)
  assert.deepEqual(
    keeper.pulls().map(({ state, place }) => [state, place]),
    [
      ['running', 1],
      ['queued', 2],
      ['queued', 3],
    ],
  )
  keeper.movePulls([ids[2] ?? ''], 1)
  for (const id of ids) assert.equal((await ended(id)).state, 'complete')
  assert.deepEqual([...new Set(asked)], ['org/one', 'org/three', 'org/two'])
  const [one, three, two] = ids
  assert.ok(one !== undefined)
  assert.throws(() => keeper.movePulls([one], 'first'), { code: 'conflict' })
  assert.throws(() => keeper.movePulls(['nobody'], 'first'), { code: 'not-found' })
  assert.deepEqual(
    [one, two, three].map((id) => keeper.pullById(id ?? '')?.place),
    [undefined, undefined, undefined],
  )
})

test('a paused pull drops what is on its way, asks for nothing, keeps what it has, and goes on from there', async (t) => {
  const disk = lasting()
  await addRepo(disk, 'org/model', { 'a.bin': bytesOf(30, 8 * CHUNK) })
  const { world, keeper, pull, ended } = await keeperOf(t, disk)
  let aborted = 0
  world.origin.manner = async (call) => {
    if (call.index < 3) return call.fill(call.right)
    call.options.signal.addEventListener('abort', () => aborted++)
    await silence(call.options.signal)
  }
  const { id } = pull('org/model')
  await world.clock.advance(1_500)
  const before = keeper.pullById(id)
  assert.ok(before !== undefined && before.doneBytes > 0 && before.state === 'running')
  assert.equal(keeper.pausePull(id), true)
  assert.equal(keeper.pausePull(id), true, 'it is paused: nothing more to do')
  await world.clock.advance(100)
  assert.ok(aborted > 0)
  const askedBefore = world.origin.asked.length
  const asks = world.mesh.announced.length
  await world.clock.advance(120_000)
  assert.equal(world.origin.asked.length, askedBefore, 'it went on asking')
  assert.equal(world.mesh.announced.length, asks)
  const [blob] = world.downloader.active()
  assert.deepEqual([keeper.pullById(id)?.state, blob?.state, blob?.priority], ['paused', 'paused', undefined])
  assert.equal(keeper.pullById(id)?.doneBytes, before.doneBytes)
  assert.equal(keeper.pullById(id)?.bytesPerSecond, 0)

  world.origin.manner = async (call) => call.fill(call.right)
  assert.equal(keeper.resumePull(id), true)
  const done = await ended(id)
  assert.deepEqual([done.state, done.doneBytes, done.originBytes], ['complete', 8 * CHUNK, 8 * CHUNK])
  assert.equal(keeper.pausePull(id), false)
  assert.equal(keeper.resumePull('nobody'), false)
})

test('peers hear that a paused host wants the blob no more, and are still given what it holds', async (t) => {
  const disk = lasting()
  const manifest = await addRepo(disk, 'org/model', { 'a.bin': bytesOf(31, 8 * CHUNK) })
  const { world, keeper, pull } = await keeperOf(t, disk)
  world.origin.manner = async (call) =>
    call.index < 2 ? call.fill(call.right) : silence(call.options.signal)
  const { id } = pull('org/model')
  await world.clock.advance(1_500)
  const { entry } = fileOf(manifest, 'a.bin')
  const arriving = () => {
    const transfer = world.downloader.arriving(entry.blob)
    assert.ok(transfer !== undefined)
    return transfer
  }
  assert.equal(arriving().wantsWhole(), true)
  assert.ok(arriving().originClaims().length > 0)
  keeper.pausePull(id)
  await world.clock.advance(0)
  assert.equal(arriving().wantsWhole(), false)
  assert.deepEqual(arriving().originClaims(), [])
  await world.clock.advance(60_000)
  assert.equal(arriving().mayGive(0), true)
  keeper.cancelPull(id)
  await world.clock.advance(11_000)
  assert.equal(world.downloader.arriving(entry.blob), undefined, 'a cancelled download lingers and ends')
})

test('a client reads a paused file to its end, and the pull then finds it complete', async (t) => {
  const disk = lasting()
  const manifest = await addRepo(disk, 'org/model', { 'a.bin': bytesOf(32, 8 * CHUNK) })
  const { world, keeper, pull, ended } = await keeperOf(t, disk)
  world.origin.manner = slowly(world, 300)
  const { id } = pull('org/model')
  await world.clock.advance(1_000)
  keeper.pausePull(id)
  const file = fileOf(manifest, 'a.bin')
  const part = { start: CHUNK, end: 3 * CHUNK }
  const read = await world.read(file, part)
  assert.equal(read.error, undefined)
  assert.equal(Buffer.compare(read.bytes, bytesOf(32, 8 * CHUNK).subarray(part.start, part.end)), 0)
  const askedBefore = new Set(world.origin.asked)
  await world.clock.advance(30_000)
  const { first, afterLast } = chunksOf(
    world.downloader.arriving(file.entry.blob)?.geometry ?? assert.fail(),
    part,
  )
  for (const index of new Set(world.origin.asked))
    assert.ok(
      askedBefore.has(index) || (index >= first && index < afterLast),
      `${index} was fetched for nobody`,
    )
  const whole = await world.read(file)
  assert.deepEqual([whole.error, whole.bytes.byteLength], [undefined, 8 * CHUNK])
  assert.equal(keeper.pullById(id)?.state, 'paused')
  keeper.resumePull(id)
  assert.equal((await ended(id)).state, 'complete')
  assert.equal(world.counts.origin, 8 * CHUNK)
})

test('pauses and the order of pulls outlive the program', async (t) => {
  const disk = lasting()
  for (const [at, spec] of ['org/one', 'org/two', 'org/three'].entries())
    await addRepo(disk, spec, { 'a.bin': bytesOf(40 + at, 2 * CHUNK) })
  const first = await keeperOf(t, disk)
  first.world.origin.manner = (call) => silence(call.options.signal)
  const ids = ['org/one', 'org/two', 'org/three'].map((spec) => first.pull(spec).id)
  const warm = first.pull('org/one', {}, { priority: 'preheat' }).id
  assert.notEqual(warm, ids[0], 'another class is another pull')
  await first.world.clock.advance(500)
  first.keeper.pausePull(ids[1] ?? '')
  first.keeper.movePulls([ids[2] ?? ''], 'first')
  await first.world.pass(first.keeper.stop())
  await first.world.stop()

  const second = await keeperOf(t, disk)
  assert.deepEqual(
    second.keeper.pulls().map(({ id, state, priority }) => [ids.indexOf(id), state === 'paused', priority]),
    [
      [2, false, 'pull'],
      [0, false, 'pull'],
      [1, true, 'pull'],
      [-1, false, 'preheat'],
    ],
  )
  for (const at of [2, 0]) assert.equal((await second.ended(ids[at] ?? '')).state, 'complete')
  assert.equal((await second.ended(warm)).state, 'complete')
  assert.equal(second.keeper.pullById(ids[1] ?? '')?.state, 'paused')
  assert.equal(second.pull('org/two').id, ids[1], 'whoever asks for it again lets it go on')
  assert.equal((await second.ended(ids[1] ?? '')).state, 'complete')
  assert.equal(disk.rows.size, 0)
})

test('rows of pulls that version 0.1.0 wrote are taken up', async (t) => {
  const disk = lasting()
  await addRepo(disk, 'org/model', { 'a.bin': bytesOf(50, CHUNK) })
  disk.rows.set('pull/old', { repo: 'models/org/model', revision: 'main', include: [], exclude: [] })
  const { ended } = await keeperOf(t, disk)
  const done = await ended('old')
  assert.deepEqual([done.state, done.priority], ['complete', 'pull'])
})

test('while a client waits for chunks a pull has one on its way, and the client has the rest of the memory', async (t) => {
  const disk = lasting()
  await addRepo(disk, 'org/big', { 'big.bin': bytesOf(60, 64 * CHUNK) })
  const manifest = await addRepo(disk, 'org/read', { 'read.bin': bytesOf(61, 24 * CHUNK) })
  const { world, pull, keeper, ended } = await keeperOf(t, disk)
  const open = new Map<string, number>()
  let pullsMost = 0
  let reading = false
  const count = (path: string, by: number) => open.set(path, (open.get(path) ?? 0) + by)
  const slow = slowly(world, 400)
  world.origin.manner = async (call) => {
    const { path } = call.file.entry
    count(path, 1)
    if (reading && path === 'big.bin') pullsMost = Math.max(pullsMost, open.get(path) ?? 0)
    try {
      await slow(call)
    } finally {
      count(path, -1)
    }
  }
  const { id } = pull('org/big')
  await world.clock.advance(4_000)
  assert.ok((open.get('big.bin') ?? 0) > 2, 'alone, a pull uses what there is')
  const file = fileOf(manifest, 'read.bin')
  const reader = await world.open(file, { start: 0, end: file.entry.sizeBytes })
  // What was on its way when the client came may end first.
  await world.clock.advance(1_000)
  reading = true
  const outcome = await world.pass(collect(reader, { start: 0, end: file.entry.sizeBytes }))
  reading = false
  await reader.close()
  assert.equal(outcome.error, undefined)
  assert.ok(pullsMost <= 1, `${pullsMost} chunks of the pull were on their way beside the client's`)
  assert.ok(keeper.pullById(id)?.state === 'running')
  assert.equal((await ended(id)).state, 'complete')
})

test('a plan says where each byte would come from and fetches none', async (t) => {
  const disk = lasting()
  await addRepo(disk, 'org/model', { 'a.bin': bytesOf(70, 4 * CHUNK), 'b.bin': bytesOf(71, 2 * CHUNK) })
  const rates = { total: undefined, origin: 2 * CHUNK, peers: CHUNK }
  const { world, keeper, pull, ended } = await keeperOf(t, disk, { rates, site: 'lab' })
  await ended(pull('org/model', { include: ['b.bin'] }).id)
  world.mesh.add({ chunk: async () => undefined, have: () => holdsOnly(4, [0, 1]) })
  world.mesh.add({ chunk: async () => undefined, have: ({ want }) => (want ? holdsAll : holdsOnly(4, [1])) })
  world.mesh.add({ chunk: async () => undefined, have: () => new Promise(() => {}) })
  const before = world.origin.asked.length
  const request = { repo: parseRepoSpec('org/model').repo, revision: MAIN, include: [], exclude: [] }
  const plan = await world.pass(keeper.plan(request, never))
  // Their site is not known here, so they are far.
  assert.deepEqual(plan.bytes, { disk: 2 * CHUNK, near: 0, far: 2 * CHUNK, origin: 2 * CHUNK })
  assert.deepEqual([plan.peersAsked, plan.files, plan.filesHere, plan.notAskedBytes], [3, 2, 1, 0])
  assert.deepEqual(plan.time, { known: true, ms: 2_000 })
  assert.deepEqual([plan.disk.neededBytes, plan.disk.missingBytes], [4 * CHUNK, 0])
  assert.equal(world.origin.asked.length, before)
  assert.deepEqual(
    keeper.pulls().map(({ state }) => state),
    ['complete'],
  )
  const missing = { ...request, include: ['*.gguf'] }
  await assert.rejects(world.pass(keeper.plan(missing, never)), { code: 'file-not-found' })
})

test("a pull tells what it planned and how efficient it was; the time of a pause is nobody's loss", async (t) => {
  const disk = lasting()
  await addRepo(disk, 'org/model', { 'a.bin': bytesOf(80, 8 * CHUNK) })
  const { world, keeper, pull, ended } = await keeperOf(t, disk)
  const made = makeBlob(80, 8 * CHUNK, { chunkBytes: CHUNK })
  const peer = world.mesh.add({
    chunk: async (call) => {
      await new Promise<void>((resolve) => world.clock.after(200, resolve))
      return honestPeer(made, peer.identity)(call)
    },
    have: () => holdsOnly(8, [0, 1, 2, 3, 4, 5]),
  })
  world.origin.manner = slowly(world, 100)
  const { id } = pull('org/model', {}, { plan: true })
  await world.clock.advance(700)
  keeper.pausePull(id)
  await world.clock.advance(3_600_000)
  keeper.resumePull(id)
  const done = await ended(id)
  assert.equal(done.state, 'complete')
  assert.deepEqual(done.planned?.bytes, { disk: 0, near: 6 * CHUNK, far: 0, origin: 2 * CHUNK })
  const { efficiency } = done
  assert.ok(efficiency !== undefined)
  assert.ok(efficiency.actualMs < 30_000, `${efficiency.actualMs} ms: the pause was counted`)
  assert.ok(efficiency.efficiency > 0 && efficiency.efficiency <= 1)
  const lost = Object.values(efficiency.lostMs).reduce((sum, ms) => sum + ms, 0)
  assert.ok(Math.abs(lost - (efficiency.actualMs - efficiency.boundMs)) < 1)
  const again = await ended(pull('org/model').id)
  assert.deepEqual([again.planned, again.efficiency], [undefined, undefined])
})
