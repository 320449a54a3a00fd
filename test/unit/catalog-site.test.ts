// What another host of the site found: believed for a while and for public repos, compared with the Hub's word, and never a key to anything.
import assert from 'node:assert/strict'
import test from 'node:test'
import type { ManifestTurn, RevisionTurn, SiteMetadata } from '@shoal/agent/catalog-peers.ts'
import { withoutHearsay } from '@shoal/agent/hearsay.ts'
import { newIdentity, publicKeyOfPeer, verifyStatement } from '@shoal/agent/net/identity.ts'
import { ReadRights } from '@shoal/agent/read-rights.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { type PeerId, parseBlobId, parseRepoSpec } from '@shoal/protocol/ids.ts'
import {
  ALICE,
  ANON,
  C1,
  C2,
  code,
  FILES,
  MAIN,
  manifestOf,
  REPO,
  setUp,
  signal,
  TTL,
} from '../support/catalog-world.ts'
import { fetchChunk } from '../support/origin-client.ts'
import { BLOB, FILE, GEOMETRY } from '../support/origin-file.ts'
import { virtualClock } from '../support/virtual-clock.ts'

const PEER = newIdentity().peer

function siteThat(says: { revision?: RevisionTurn; manifest?: ManifestTurn }) {
  const notes: string[] = []
  const yours = (name: string) => ({
    state: 'yours' as const,
    told: () => void notes.push(`${name} told`),
    failed: () => void notes.push(`${name} failed`),
  })
  const banned: PeerId[] = []
  const site: SiteMetadata = {
    revision: async () => says.revision ?? yours('revision'),
    manifest: async () => says.manifest ?? yours('manifest'),
    hearsay: () => {},
    confirmAfterMs: () => 60_000,
    lied: (peer) => void banned.push(peer),
  }
  return { site, notes, banned, says }
}

const told = (resolvedAt: number): RevisionTurn => ({ state: 'told', commit: C2, resolvedAt })
const given = { state: 'told' as const, manifest: manifestOf(C2), from: PEER }

test('whose turn it is asks the Hub and tells the others, of public repos only', async () => {
  const { site, notes } = siteThat({})
  const { catalog, asked, wait, world } = setUp({ site })
  await wait(catalog.manifest(REPO, MAIN, ANON, signal))
  assert.deepEqual(notes, ['revision told', 'manifest told'])
  assert.equal(asked.length, 2)
  world.access = 'private'
  const closed = siteThat({})
  const other = setUp({ site: closed.site })
  other.world.access = 'private'
  await other.wait(other.catalog.manifest(REPO, MAIN, ALICE, signal))
  assert.deepEqual(closed.notes, ['revision failed', 'manifest failed'])
})

test('who is told asks the Hub nothing at first, and compares with its word later', async () => {
  const { site, banned } = siteThat({ manifest: given })
  const world = setUp({ site })
  const { catalog, asked, wait, clock } = world
  world.world.commit = C2
  site.revision = async () => told(clock.wallTime())
  const manifest = await wait(catalog.manifest(REPO, MAIN, ANON, signal))
  assert.deepEqual(manifest.files, FILES)
  await wait(catalog.manifest(REPO, MAIN, ANON, signal))
  assert.deepEqual(asked, [])
  await clock.advance(60_001)
  assert.deepEqual(asked, ['revision 222222 -', 'tree 222 -'], 'without a token')
  assert.equal(catalog.isHearsay(REPO), false)
  assert.deepEqual(banned, [])
  await catalog.stop()
})

test('a list of files that is not the Hub’s is replaced, and who gave it is banned', async () => {
  const wrong = [{ ...FILES[0], blob: parseBlobId(`git-sha1:${'b'.repeat(40)}`) }] as typeof FILES
  const { site, banned } = siteThat({ manifest: { ...given, manifest: { ...manifestOf(C2), files: wrong } } })
  const { catalog, wait, clock, world, store } = setUp({ site })
  world.commit = C2
  site.revision = async () => told(clock.wallTime())
  await wait(catalog.manifest(REPO, MAIN, ANON, signal))
  await clock.advance(60_001)
  assert.deepEqual(banned, [PEER])
  assert.deepEqual((await store.records.manifest(REPO, C2))?.files, FILES)
  await catalog.stop()
})

test('a repo that only a peer called public closes as soon as the Hub says so', async () => {
  const { site } = siteThat({ manifest: given })
  const { catalog, wait, clock, world } = setUp({ site })
  world.commit = C2
  world.access = 'private'
  site.revision = async () => told(clock.wallTime())
  await wait(catalog.manifest(REPO, MAIN, ANON, signal))
  assert.equal(catalog.isHearsay(REPO), true)
  await clock.advance(60_001)
  assert.equal(catalog.isHearsay(REPO), false)
  await assert.rejects(wait(catalog.manifest(REPO, MAIN, ANON, signal)), code('repo-not-found'))
  await wait(catalog.manifest(REPO, MAIN, ALICE, signal))
  await catalog.stop()
})

test('a peer opens nothing that the Hub closed before', async () => {
  const { site } = siteThat({ manifest: given })
  const { catalog, wait, clock, world, asked } = setUp({ site, ttl: 1_000 })
  world.access = 'private'
  await wait(catalog.manifest(REPO, MAIN, ALICE, signal))
  await clock.advance(2_000)
  asked.length = 0
  site.revision = async () => told(clock.wallTime())
  await assert.rejects(wait(catalog.manifest(REPO, MAIN, ANON, signal)), code('repo-not-found'))
  assert.ok(asked.length > 0)
})

test('a peer is not believed twice in a row, nor with an old answer', async () => {
  const { site } = siteThat({ manifest: given })
  const { catalog, wait, clock, asked, world } = setUp({ site })
  world.commit = C2
  site.revision = async () => told(clock.wallTime() - TTL - 1)
  await wait(catalog.resolve(REPO, MAIN, ANON, signal))
  assert.equal(asked.length, 1, 'too old')
  const second = setUp({ site })
  second.world.commit = C1
  site.revision = async () => told(second.clock.wallTime())
  assert.equal((await second.wait(second.catalog.resolve(REPO, MAIN, ANON, signal))).commit, C2)
  await second.clock.advance(TTL + 1)
  assert.equal((await second.wait(second.catalog.resolve(REPO, MAIN, ANON, signal))).commit, C1)
  await second.catalog.stop()
})

test('files of a repo that a peer called public are asked for without a token until the origin says so', async () => {
  const tokens: (string | undefined)[] = []
  let hearsay = true
  let settled = 'public' as 'public' | 'private'
  const { source } = withoutHearsay({
    hub: {
      source: (_file, token) => ({
        id: 'origin',
        kind: 'origin',
        fetch: async () => {
          tokens.push(token())
          if (token() === undefined) throw new ShoalError('repo-not-found', 'no')
          return {}
        },
      }),
    },
    isHearsay: () => hearsay,
    settle: async () => {
      hearsay = false
      return settled
    },
  })
  const chunk = () =>
    fetchChunk(
      source(FILE, () => 'hf_alice'),
      BLOB,
      GEOMETRY,
      0,
    )
  await chunk()
  assert.deepEqual(tokens, [undefined, 'hf_alice'], 'a mirror that wants a token for everything')
  hearsay = true
  settled = 'private'
  await assert.rejects(chunk(), code('repo-not-found'))
  assert.equal(tokens.length, 3)
})

test('a peer’s list that names a private file opens it to nobody', () => {
  const identity = newIdentity()
  const rights = new ReadRights({
    self: identity.peer,
    signatures: {
      publicKey: identity.publicKey,
      sign: (bytes) => identity.sign(bytes),
      verify: verifyStatement,
    },
    publicKeyOf: publicKeyOfPeer,
    clock: virtualClock(),
  })
  const blob = FILES[0]?.blob
  assert.ok(blob)
  const closed = parseRepoSpec('org/closed').repo
  rights.learn(manifestOf(C1, 'private', closed))
  rights.hear(REPO)
  rights.learn(manifestOf(C2, 'public'))
  assert.equal(rights.mayHaveBlob(PEER, blob, undefined), false)
  rights.setAccess(REPO, 'public')
  assert.equal(rights.mayHaveBlob(PEER, blob, undefined), true, 'the Hub says so')
})
