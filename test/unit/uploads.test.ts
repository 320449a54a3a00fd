// What this host gives to peers that ask: only what they may have, only what is proven, only so much at once.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLog } from '@shoal/agent/log.ts'
import { newIdentity } from '@shoal/agent/net/identity.ts'
import { TURN_WAIT_MS, UPLOAD_SLOTS } from '@shoal/agent/plan/upload-order.ts'
import { SpareBuffers } from '@shoal/agent/transfer/chunk-buffers.ts'
import { Uploads } from '@shoal/agent/uploads.ts'
import { fixedSlices, MAX_CHUNKS } from '@shoal/protocol/chunks.ts'
import { type PeerId, parseBlobId, parseCommit, parseRepoSpec } from '@shoal/protocol/ids.ts'
import type { ChunkRequestMessage, ReadGrant } from '@shoal/protocol/messages.ts'
import { silence } from '../support/fake-origin.ts'
import { createMemoryStore } from '../support/memory-store.ts'
import { blobOf, CHUNK, rightsOf, TransferWorld, vouchersOf } from '../support/transfer-world.ts'

const never = new AbortController().signal
const asker = newIdentity()
const CHUNKS = 4

async function uploadsOf(t: Parameters<typeof TransferWorld.start>[0]) {
  // Before the world, which then looks whether anything is left.
  t.after(() => uploads.close())
  const store = createMemoryStore()
  const world = await TransferWorld.start(t, { store })
  const wants: string[] = []
  let sentBytes = 0
  const uploads = new Uploads({
    clock: world.clock,
    log: silentLog,
    store,
    records: { manifest: async () => undefined, refs: async () => new Map() },
    rights: world.rights,
    vouchers: world.vouchers,
    arriving: (blob) => world.downloader.arriving(blob),
    peerAsked: (peer, _blob, want) => {
      if (want) wants.push(peer)
      return false
    },
    told: () => false,
    buffers: new SpareBuffers(16 * 1024 * 1024),
    bytesSent: (bytes) => {
      sentBytes += bytes
    },
  })
  const made = blobOf(60, CHUNKS * CHUNK - 5)
  const ask = (fields: Partial<ChunkRequestMessage> = {}, signal = never, peer: PeerId = asker.peer) =>
    uploads.chunk(
      peer,
      { blob: made.blob, geometry: made.geometry.text, index: 0, waitMs: 0, ...fields },
      signal,
    )
  return { world, store, uploads, made, ask, wants, sentBytes: () => sentBytes }
}

test('every chunk of a complete public blob is given with the voucher of whoever brought it', async (t) => {
  const { world, made, ask, sentBytes } = await uploadsOf(t)
  await world.fetch(world.file(made))
  for (let index = 0; index < CHUNKS; index++) {
    const reply = await ask({ index })
    assert.equal(reply.status, 'ok')
    const bytes = reply.bytes ?? Buffer.of()
    assert.equal(Buffer.compare(bytes, made.chunk(index)), 0)
    const place = { blob: made.blob, geometry: made.geometry, index }
    vouchersOf(asker).check(place, bytes, reply.voucher)
    reply.release?.()
  }
  assert.equal(sentBytes(), made.bytes.byteLength)
})

test('a chunk is given only to who may read some repo that has the blob', async (t) => {
  const { world, made, ask, uploads } = await uploadsOf(t)
  const file = world.file(made, { access: 'gated' })
  await world.fetch(file)
  const good = () => {
    const rights = rightsOf(asker, world.clock)
    rights.learn({ ...file.manifest })
    return rights.grantFor(file.manifest)
  }
  const grant = good()
  assert.ok(grant !== undefined)
  const forged: ReadGrant = { ...grant, expires: grant.expires + 1 }
  const elsewhere = rightsOf(asker, world.clock).grantFor({
    ...file.manifest,
    repo: parseRepoSpec('org/other').repo,
  })
  assert.ok(elsewhere !== undefined)
  const other = newIdentity()
  const others = rightsOf(other, world.clock)
  others.learn(file.manifest)
  const rows: Record<string, readonly [ReadGrant | undefined, string]> = {
    'no grant': [undefined, 'refused'],
    'a good grant': [grant, 'ok'],
    'a grant with another expiry than was signed': [forged, 'refused'],
    'the grant of another host': [others.grantFor(file.manifest), 'refused'],
    'a good grant for a repo that does not have the blob': [elsewhere, 'refused'],
    'a grant with another repo than was signed': [{ ...elsewhere, repo: grant.repo }, 'refused'],
    'a signature of zeros': [{ ...grant, signature: new Uint8Array(64) }, 'refused'],
  }
  for (const [name, [shown, status]] of Object.entries(rows)) {
    const reply = await ask({ grant: shown })
    assert.equal(reply.status, status, name)
    assert.equal(reply.bytes === undefined, status !== 'ok', name)
    reply.release?.()
    const have = await uploads.have(asker.peer, {
      blob: made.blob,
      geometry: made.geometry.text,
      want: false,
      grant: shown,
    })
    assert.equal(have.state, status === 'ok' ? 'complete' : 'none', name)
  }
  // Clocks of hosts may differ by 15 minutes, and a grant lasts for 5.
  await world.clock.advance(21 * 60_000)
  assert.equal((await ask({ grant })).status, 'refused', 'expired')
  const fresh = await ask({ grant: good() })
  assert.equal(fresh.status, 'ok')
  fresh.release?.()
  const tooLong = rightsOf(asker, { ...world.clock, wallTime: () => world.clock.wallTime() + 24 * 3_600_000 })
  tooLong.learn(file.manifest)
  assert.equal((await ask({ grant: tooLong.grantFor(file.manifest) })).status, 'refused', 'valid for a day')

  world.rights.setAccess(file.manifest.repo, 'public')
  const opened = await ask()
  assert.equal(opened.status, 'ok', 'the newest word counts')
  opened.release?.()
  world.rights.setAccess(file.manifest.repo, 'private')
  assert.equal((await ask()).status, 'refused')
  world.rights.forget(file.manifest.repo)
  assert.equal((await ask({ grant: good() })).status, 'refused', 'forgotten')
  assert.equal(
    (await ask({ blob: parseBlobId(`sha256:${'0'.repeat(64)}`) })).status,
    'refused',
    'unknown blob',
  )
})

test('requests that make no sense are answered bad or lacks, and never read past the blob', async (t) => {
  const { world, made, ask } = await uploadsOf(t)
  await world.fetch(world.file(made))
  const size = made.bytes.byteLength
  const rows: Record<string, readonly [Partial<ChunkRequestMessage>, string]> = {
    'an index one too far': [{ index: CHUNKS }, 'bad'],
    'the largest index': [{ index: MAX_CHUNKS - 1 }, 'bad'],
    'no geometry': [{ geometry: '' }, 'bad'],
    'a geometry that is none': [{ geometry: 'xet:1:2' }, 'bad'],
    'chunks of 1 byte': [{ geometry: `slices:1:${size}` }, 'bad'],
    'chunks of 9 MiB': [{ geometry: `slices:${9 * 1024 * 1024}:${size}` }, 'bad'],
    'more chunks than there may be': [{ geometry: 'slices:1024:9999999999999999' }, 'bad'],
    'another size': [{ geometry: fixedSlices(size + CHUNK, CHUNK).text, index: CHUNKS }, 'bad'],
    'another cut': [{ geometry: fixedSlices(size, 2 * CHUNK).text }, 'lacks'],
    'another cut, of which no voucher is on record': [
      { geometry: fixedSlices(size, CHUNK / 2).text, index: 2 * CHUNKS - 1 },
      'lacks',
    ],
  }
  for (const [name, [fields, status]] of Object.entries(rows)) {
    const reply = await ask(fields)
    assert.equal(reply.status, status, name)
    assert.equal(reply.bytes, undefined, name)
  }
})

test('bytes that do not match what they were proven to be are never given, whoever vouched', async (t) => {
  const { world, store, made, ask } = await uploadsOf(t)
  await world.fetch(world.file(made))
  store.corrupt(made.blob, CHUNK + 1)
  assert.deepEqual(await ask({ index: 1 }), { status: 'lacks' })
  const fine = await ask({ index: 0 })
  assert.equal(fine.status, 'ok')
  fine.release?.()

  // Nothing on record to compare with: then the whole has to prove itself first.
  const second = blobOf(61, 2 * CHUNK)
  world.file(second, { path: 'second.bin' })
  await store.put(second.blob, second.bytes)
  const fields = { blob: second.blob, geometry: second.geometry.text }
  const vouched = await ask(fields)
  assert.equal(vouched.status, 'ok')
  assert.deepEqual(Buffer.from(vouched.voucher?.author ?? []), Buffer.from(world.identity.publicKey))
  vouched.release?.()
  await world.clock.advance(11_000)
  store.corrupt(second.blob, 5)
  assert.deepEqual(await ask(fields), { status: 'lacks' })
})

test('a chunk that is on its way is waited for, as long as the peer allows and without keeping others from theirs', async (t) => {
  const { world, made, ask } = await uploadsOf(t)
  const file = world.file(made)
  const gate = Promise.withResolvers<void>()
  world.origin.manner = async (call) => {
    if (call.index === 1) await Promise.race([gate.promise, silence(call.options.signal)])
    call.fill(call.right)
  }
  const fetching = world.downloader.fetch(file, { signal: never })
  await world.clock.advance(500)
  assert.deepEqual(await ask({ index: 1 }), { status: 'lacks' }, 'it did not allow for waiting')
  const impatient = ask({ index: 1, waitMs: 300 })
  const waiting = Array.from({ length: 2 * UPLOAD_SLOTS }, () => ask({ index: 1, waitMs: 10_000 }))
  const other = await ask({ index: 0 })
  assert.equal(other.status, 'ok', 'who waits takes no place')
  other.release?.()
  await world.clock.advance(300)
  assert.deepEqual(await impatient, { status: 'lacks' })
  const gone = new AbortController()
  const left = ask({ index: 1, waitMs: 10_000 }, gone.signal)
  gone.abort()
  assert.deepEqual(await left, { status: 'lacks' })
  assert.deepEqual(await ask({ index: 1, waitMs: 10_000 }, AbortSignal.abort()), { status: 'lacks' })
  gate.resolve()
  await world.pass(fetching)
  const replies = await Promise.all(waiting)
  const given = replies.filter(({ status }) => status === 'ok')
  assert.equal(given.length, UPLOAD_SLOTS, 'as many as there are slots')
  assert.ok(replies.every(({ status }) => status === 'ok' || status === 'later'))
  for (const { release } of given) release?.()
})

test('so many chunks are in memory at once; a short line waits a second for its turn, the rest hears busy', async (t) => {
  const { world, made, ask, uploads } = await uploadsOf(t)
  await world.fetch(world.file(made))
  const sending = await Promise.all(Array.from({ length: UPLOAD_SLOTS }, () => ask({ index: 0 })))
  assert.equal(uploads.load, 1)
  assert.equal((await ask({ index: 0 })).status, 'later', 'others are being given this chunk now')
  const line = [1, 2, 3].map((index) => ask({ index }))
  await world.clock.advance(0)
  assert.equal(uploads.line, UPLOAD_SLOTS + 3)
  const [first, second, third] = line
  sending[0]?.release?.()
  const got = await first
  assert.equal(got?.status, 'ok', 'whoever waited longest is next')
  await world.clock.advance(TURN_WAIT_MS)
  assert.equal((await second)?.status, 'busy')
  assert.equal((await third)?.status, 'busy')
  for (const reply of [...sending.slice(1), got]) reply?.release?.()
  assert.equal(uploads.load, 0)
  assert.equal(world.clock.pending, 2, 'the swarm, and the blob that is kept open')
})

test('a waiter that goes away gives its turn to nobody and takes none', async (t) => {
  const { world, made, ask, uploads } = await uploadsOf(t)
  await world.fetch(world.file(made))
  const sending = await Promise.all(Array.from({ length: UPLOAD_SLOTS }, () => ask({ index: 0 })))
  const leaving = new AbortController()
  const waiters = [ask({ index: 1 }), ask({ index: 2 }, leaving.signal), ask({ index: 3 })]
  await world.clock.advance(0)
  leaving.abort()
  assert.equal((await waiters[1])?.status, 'busy')
  assert.equal((await ask({ index: 2 }, AbortSignal.abort())).status, 'busy')
  for (const reply of sending) reply.release?.()
  for (const at of [0, 2]) (await waiters[at])?.release?.()
  assert.equal(uploads.load, 0)
})

test('what has arrived so far is told and given before the whole is there; what is discarded is not', async (t) => {
  const { world, made, ask, uploads, wants } = await uploadsOf(t)
  const file = world.file(made)
  world.origin.manner = async (call) =>
    call.index === 2 ? silence(call.options.signal) : call.fill(call.right)
  const fetching = world.downloader.fetch(file, { signal: never })
  fetching.catch(() => {})
  await world.clock.advance(1_000)
  const question = { blob: made.blob, geometry: made.geometry.text, want: true }
  const have = await uploads.have(asker.peer, question)
  assert.deepEqual(
    [have.state, have.wanting, [...(have.held ?? [])], have.claimed],
    ['partial', true, [0b1011], [2]],
  )
  assert.deepEqual(wants, [asker.peer])
  assert.deepEqual(await uploads.have(asker.peer, { ...question, geometry: 'slices:1024:5' }), {
    state: 'none',
    wanting: false,
    claimed: [],
  })
  const reply = await ask({ index: 3 })
  assert.equal(Buffer.compare(reply.bytes ?? Buffer.of(), made.chunk(3)), 0)
  reply.release?.()
  await world.downloader.arriving(made.blob)?.partial?.discard([3])
  assert.deepEqual(await ask({ index: 3 }), { status: 'lacks' })
  await world.stop()
  assert.deepEqual(await ask({ index: 0 }), { status: 'lacks' }, 'after the end nothing of it is given')
})

test('a manifest is given by name or commit to who may read the repo; nonsense finds nothing', async (t) => {
  const world = await TransferWorld.start(t)
  const made = blobOf(62, 10)
  const open = world.file(made)
  const closed = world.file(made, { repo: 'org/closed', access: 'private' })
  const all = [open.manifest, closed.manifest]
  const uploads = new Uploads({
    clock: world.clock,
    log: silentLog,
    store: world.store,
    records: {
      manifest: async (repo, commit) => all.find((one) => one.repo.id === repo.id && one.commit === commit),
      refs: async () =>
        new Map([
          ['main' as never, { commit: parseCommit('c'.repeat(40)), resolvedAt: 7, from: 'origin' as const }],
        ]),
    },
    rights: world.rights,
    vouchers: world.vouchers,
    arriving: () => undefined,
    peerAsked: () => false,
    told: () => false,
    buffers: new SpareBuffers(16 * 1024 * 1024),
    bytesSent: () => {},
  })
  const ask = (repo: string, revision: string) => uploads.manifest(asker.peer, { repo, revision })
  const found = await ask('models/org/model', 'main')
  assert.deepEqual([found.found, found.commit, found.resolvedAt], [true, 'c'.repeat(40), 7])
  assert.equal((await ask('models/org/model', 'c'.repeat(40))).found, true)
  for (const [repo, revision] of [
    ['models/org/closed', 'main'],
    ['models/org/closed', 'c'.repeat(40)],
    ['models/org/model', 'other'],
    ['models/org/model', '../main'],
    ['models/org/model', ''],
    ['models/org/model', 'a'.repeat(255)],
    ['../etc', 'main'],
    ['', 'main'],
  ] as const)
    assert.deepEqual(await ask(repo, revision), { found: false }, `${repo} ${revision}`)
})
