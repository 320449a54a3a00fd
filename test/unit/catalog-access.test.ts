// Who may know what: the Hub's verdict per repo and token, and what holds while it is away.
import assert from 'node:assert/strict'
import test, { describe } from 'node:test'
import { hasCode } from '@shoal/protocol/errors.ts'
import { parseRevision } from '@shoal/protocol/ids.ts'
import {
  ALICE,
  ANON,
  BOB,
  C1,
  C2,
  code,
  MAIN,
  OPERATOR,
  REPO,
  setUp,
  signal,
  TTL,
} from '../support/catalog-world.ts'

describe('the right to read', () => {
  test('a public repo is open to all, without a question', async () => {
    const { catalog, asked } = setUp()
    const manifest = await catalog.manifest(REPO, MAIN, ANON, signal)
    const before = asked.length
    for (const caller of [ANON, BOB, OPERATOR]) await catalog.checkAccess(manifest, caller, signal)
    assert.equal(asked.length, before)
  })

  test('a gated repo: its list is open, its files only to those whom the Hub lets through, asked once in five minutes', async () => {
    const { catalog, asked, clock, world } = setUp()
    world.access = 'gated'
    const manifest = await catalog.manifest(REPO, MAIN, ANON, signal)
    await assert.rejects(catalog.checkAccess(manifest, ANON, signal), code('repo-gated', 401))
    await assert.rejects(catalog.checkAccess(manifest, BOB, signal), code('repo-gated', 403))
    for (let again = 0; again < 3; again++) await catalog.checkAccess(manifest, ALICE, signal)
    await catalog.checkAccess(manifest, OPERATOR, signal)
    assert.deepEqual(
      asked.filter((one) => one.startsWith('auth')),
      ['auth -', 'auth hf_bob', 'auth hf_alice', 'auth hf_operator'],
    )
    world.readers.delete('hf_alice')
    await clock.advance(5 * 60_000)
    await assert.rejects(catalog.checkAccess(manifest, ALICE, signal), code('repo-gated', 403))
  })

  test('a private repo that one token resolved stays unknown to every other caller, also offline and by commit', async () => {
    const { catalog, world } = setUp()
    world.access = 'private'
    const manifest = await catalog.manifest(REPO, MAIN, ALICE, signal)
    for (const state of ['up', 'down'] as const) {
      world.state = state
      for (const revision of [MAIN, parseRevision(manifest.commit)]) {
        await assert.rejects(catalog.manifest(REPO, revision, BOB, signal), (error) =>
          hasCode(error, 'repo-not-found'),
        )
        await assert.rejects(catalog.resolve(REPO, revision, ANON, signal), code('repo-not-found', 401))
      }
      await assert.rejects(catalog.checkAccess(manifest, ANON, signal), code('repo-not-found', 401))
      await catalog.manifest(REPO, MAIN, ALICE, signal)
      await catalog.checkAccess(manifest, ALICE, signal)
    }
  })

  test('while the Hub is away a passed check holds for an hour and no longer, a missing one never', async () => {
    const { catalog, clock, world } = setUp()
    world.access = 'gated'
    const manifest = await catalog.manifest(REPO, MAIN, ALICE, signal)
    await catalog.checkAccess(manifest, ALICE, signal)
    world.state = 'down'
    await clock.advance(59 * 60_000)
    await catalog.checkAccess(manifest, ALICE, signal)
    await assert.rejects(catalog.checkAccess(manifest, BOB, signal), code('origin-unreachable'))
    await assert.rejects(catalog.checkAccess(manifest, ANON, signal), code('repo-gated', 401))
    await clock.advance(60_000)
    await assert.rejects(catalog.checkAccess(manifest, ALICE, signal), code('origin-unreachable'))
  })

  test('a repo that becomes gated or private closes, whatever its old manifests say', async () => {
    const { catalog, clock, world } = setUp()
    const old = await catalog.manifest(REPO, MAIN, ANON, signal)
    assert.equal(old.access, 'public')
    world.access = 'private'
    await clock.advance(TTL)
    await assert.rejects(catalog.resolve(REPO, MAIN, ANON, signal), code('repo-not-found', 401))
    world.state = 'down'
    await clock.advance(60_000)
    await assert.rejects(catalog.checkAccess(old, ANON, signal), code('repo-not-found', 401))
    await assert.rejects(catalog.resolve(REPO, parseRevision(C1), ANON, signal), code('repo-not-found', 401))
    world.state = 'up'
    world.access = 'public'
    await clock.advance(60_000)
    await catalog.resolve(REPO, MAIN, ALICE, signal)
    await catalog.checkAccess(old, ANON, signal)
  })

  test('a peer cannot open what the Hub closed, and may close what nobody knows', async () => {
    const { catalog, world, clock, peerAnswer, store } = setUp()
    await store.records.putAccess(REPO, 'gated')
    world.state = 'down'
    world.peer = peerAnswer(C2, clock.wallTime(), 'public')
    const manifest = await catalog.manifest(REPO, MAIN, ANON, signal)
    assert.equal(manifest.access, 'gated')
    await assert.rejects(catalog.checkAccess(manifest, ANON, signal), code('repo-gated', 401))
    const fresh = setUp()
    fresh.world.state = 'down'
    fresh.world.peer = fresh.peerAnswer(C2, fresh.clock.wallTime(), 'private')
    await assert.rejects(fresh.catalog.manifest(REPO, MAIN, ANON, signal), code('repo-not-found', 401))
  })
})
