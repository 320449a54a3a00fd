// From a revision to files: what is remembered, what is asked, and what is said when the Hub is away.
import assert from 'node:assert/strict'
import test, { describe } from 'node:test'
import type { ShoalError } from '@shoal/protocol/errors.ts'
import { parseFilePath, parseRepoSpec, parseRevision } from '@shoal/protocol/ids.ts'
import {
  ALICE,
  ANON,
  BOB,
  C1,
  C2,
  code,
  FILES,
  MAIN,
  manifestOf,
  memoryRecords,
  path,
  REPO,
  setUp,
  signal,
  TTL,
} from '../support/catalog-world.ts'

describe('resolving', () => {
  test('a revision is asked once within its time to live, and again after it', async () => {
    const { catalog, asked, clock, world } = setUp()
    assert.equal((await catalog.resolve(REPO, MAIN, ANON, signal)).from, 'origin')
    assert.equal((await catalog.resolve(REPO, MAIN, BOB, signal)).from, 'memory')
    assert.deepEqual(asked, ['revision main -'])
    world.commit = C2
    await clock.advance(TTL)
    const later = await catalog.resolve(REPO, MAIN, ANON, signal)
    assert.deepEqual([later.commit, later.from], [C2, 'origin'])
  })

  test('twenty askers at once are one question for each token', async () => {
    const { catalog, asked } = setUp()
    await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        catalog.manifest(REPO, MAIN, index % 2 ? ANON : ALICE, signal),
      ),
    )
    assert.deepEqual(asked.filter((one) => one.startsWith('revision')).sort(), [
      'revision main -',
      'revision main hf_alice',
    ])
    assert.ok(asked.length <= 4, asked.join())
  })

  test('one of two askers who gives up does not take the answer from the other', async () => {
    const { catalog, world, wait } = setUp()
    world.state = 'silent'
    const stop = new AbortController()
    const first = catalog.resolve(REPO, MAIN, ANON, stop.signal)
    const second = catalog.resolve(REPO, MAIN, ANON, signal)
    stop.abort()
    await assert.rejects(first, code('aborted'))
    await catalog.stop()
    await assert.rejects(wait(second), code('not-running'))
  })

  test('a commit on record asks nobody, and its manifest is fetched once for ever', async () => {
    const { catalog, asked, clock, world } = setUp()
    await catalog.manifest(REPO, MAIN, ANON, signal)
    const before = asked.length
    world.state = 'down'
    await clock.advance(10 * TTL)
    const at = parseRevision(C1)
    assert.equal((await catalog.resolve(REPO, at, ANON, signal)).from, 'commit')
    assert.equal((await catalog.manifest(REPO, at, ANON, signal)).files.length, 1)
    assert.equal(asked.length, before)
  })

  test('after a restart the records answer within the time to live, without the Hub', async () => {
    const records = memoryRecords()
    const first = setUp({ records })
    await first.catalog.manifest(REPO, MAIN, ANON, signal)
    const second = setUp({ records })
    second.world.state = 'down'
    assert.equal((await second.catalog.resolve(REPO, MAIN, ANON, signal)).from, 'memory')
    assert.equal((await second.catalog.file(REPO, MAIN, path, ANON, signal)).entry.path, path)
    assert.deepEqual(second.asked, [])
  })

  test('a record from the future (the clock was set back) is not believed for ever', async () => {
    const { catalog, asked, store, clock } = setUp()
    await store.records.putRef(REPO, MAIN, { commit: C2, resolvedAt: clock.wallTime() + 1e9, from: 'origin' })
    await store.records.putAccess(REPO, 'public')
    await catalog.resolve(REPO, MAIN, ANON, signal)
    assert.equal(asked.length, 1)
  })

  test('a missing file is certain, names the commit, and asks nothing more', async () => {
    const { catalog, asked } = setUp()
    await catalog.file(REPO, MAIN, path, ANON, signal)
    const before = asked.length
    await assert.rejects(catalog.file(REPO, MAIN, parseFilePath('none'), ANON, signal), (error: unknown) => {
      code('file-not-found', 404)(error)
      assert.equal((error as ShoalError).details.commit, C1)
      return true
    })
    assert.equal(asked.length, before)
  })

  test('a miss is repeated for ten seconds to the same caller only', async () => {
    const { catalog, asked, clock, world } = setUp()
    world.access = 'private'
    for (let again = 0; again < 3; again++)
      await assert.rejects(catalog.resolve(REPO, MAIN, BOB, signal), code('repo-not-found', 404))
    assert.deepEqual(asked, ['revision main hf_bob'])
    assert.equal((await catalog.resolve(REPO, MAIN, ALICE, signal)).commit, C1)
    world.readers.add('hf_bob')
    await clock.advance(10_000)
    await catalog.resolve(REPO, MAIN, BOB, signal)
  })

  test('an unknown revision is a miss, and the repo stays', async () => {
    const { catalog } = setUp()
    await assert.rejects(
      catalog.resolve(REPO, parseRevision('none'), ANON, signal),
      code('revision-not-found', 404),
    )
    await catalog.resolve(REPO, MAIN, ANON, signal)
  })
})

describe('without the Hub', () => {
  test('the last known commit is given as stale, and again a little later without new questions', async () => {
    const { catalog, asked, clock, world } = setUp()
    const { resolvedAt } = await catalog.resolve(REPO, MAIN, ANON, signal)
    await clock.advance(2 * TTL)
    world.state = 'down'
    assert.deepEqual(await catalog.resolve(REPO, MAIN, ANON, signal), {
      commit: C1,
      from: 'stale',
      resolvedAt,
    })
    const before = asked.length
    await catalog.resolve(REPO, MAIN, ANON, signal)
    assert.equal(asked.length, before)
    world.state = 'up'
    world.commit = C2
    await clock.advance(3_000)
    assert.equal((await catalog.resolve(REPO, MAIN, ANON, signal)).commit, C2)
  })

  test('a Hub that says nothing costs a client under three seconds, also when peers say nothing', async () => {
    const { catalog, clock, world, wait } = setUp()
    await catalog.resolve(REPO, MAIN, ANON, signal)
    await clock.advance(2 * TTL)
    world.state = 'silent'
    const before = clock.now()
    assert.equal((await wait(catalog.resolve(REPO, MAIN, ANON, signal))).from, 'stale')
    assert.ok(clock.now() - before < 3_000, `${clock.now() - before} ms`)
    await clock.advance(5_000)
    world.peerHangs = true
    const again = clock.now()
    assert.equal((await wait(catalog.resolve(REPO, MAIN, ANON, signal))).from, 'stale')
    assert.ok(clock.now() - again < 5_000, `${clock.now() - again} ms`)
    await catalog.stop()
    assert.equal(clock.pending, 0)
  })

  test('what nobody knows ends in the error of the Hub', async () => {
    const { catalog, world } = setUp()
    world.state = 'down'
    await assert.rejects(catalog.resolve(REPO, MAIN, ANON, signal), code('origin-unreachable'))
  })

  test('a peer that knows gives commit and files; the Hub is compared with as soon as it is back', async () => {
    const { catalog, world, clock, peerAnswer, store } = setUp()
    world.state = 'down'
    world.peer = peerAnswer(C2, clock.wallTime())
    assert.equal((await catalog.resolve(REPO, MAIN, ANON, signal)).from, 'peer')
    assert.equal((await catalog.file(REPO, MAIN, path, ANON, signal)).manifest.commit, C2)
    assert.ok(store.manifests.has(`models/org/model@${C2}`))
    world.state = 'up'
    world.commit = C2
    world.files = [{ ...(FILES[0] ?? assert.fail()), sizeBytes: 6 }]
    await clock.advance(3_000)
    assert.equal(
      (await catalog.file(REPO, MAIN, path, ANON, signal)).entry.sizeBytes,
      6,
      "the Hub's word wins",
    )
    assert.deepEqual([...(await catalog.refs(REPO)).keys()], [MAIN])
  })

  test('main never moves back: an older answer of a peer loses, a newer one wins, one from the future is of now', async () => {
    const { catalog, world, clock, peerAnswer } = setUp()
    const { resolvedAt } = await catalog.resolve(REPO, MAIN, ANON, signal)
    await clock.advance(2 * TTL)
    world.state = 'down'
    for (const at of [resolvedAt - 1, resolvedAt]) {
      world.peer = peerAnswer(C2, at)
      await clock.advance(3_000)
      assert.deepEqual(await catalog.resolve(REPO, MAIN, ANON, signal), {
        commit: C1,
        from: 'stale',
        resolvedAt,
      })
    }
    world.peer = peerAnswer(C2, clock.wallTime() + 1e12)
    await clock.advance(3_000)
    const moved = await catalog.resolve(REPO, MAIN, ANON, signal)
    assert.deepEqual([moved.commit, moved.from], [C2, 'peer'])
    assert.ok(moved.resolvedAt <= clock.wallTime())
    world.state = 'up'
    await clock.advance(3_000)
    assert.equal(
      (await catalog.resolve(REPO, MAIN, ANON, signal)).commit,
      C1,
      'the Hub itself may move it back',
    )
  })

  test('a peer that answers about another repo or commit is not listened to', async () => {
    const { catalog, world, clock, peerAnswer } = setUp()
    world.state = 'down'
    const other = manifestOf(C2, 'public', parseRepoSpec('org/other').repo)
    world.peer = { commit: C2, resolvedAt: clock.wallTime(), manifest: other }
    await assert.rejects(catalog.resolve(REPO, MAIN, ANON, signal), code('origin-unreachable'))
    world.peer = { ...peerAnswer(C2, clock.wallTime()), commit: C1 }
    await assert.rejects(catalog.resolve(REPO, MAIN, ANON, signal), code('origin-unreachable'))
    world.peer = peerAnswer(C2, clock.wallTime())
    await assert.rejects(catalog.resolve(REPO, parseRevision(C1), ANON, signal), code('origin-unreachable'))
  })

  test('a manifest that only peers have is fetched from them when the Hub goes away after resolving', async () => {
    const { catalog, world, peerAnswer, clock } = setUp()
    await catalog.resolve(REPO, MAIN, ANON, signal)
    world.state = 'down'
    world.peer = peerAnswer(C1, clock.wallTime())
    assert.equal((await catalog.manifest(REPO, MAIN, ANON, signal)).commit, C1)
  })
})

test('known, refs and forget speak of what is on record', async () => {
  const { catalog, clock, world, asked } = setUp()
  await catalog.manifest(REPO, MAIN, ANON, signal)
  world.commit = C2
  await clock.advance(TTL)
  await catalog.manifest(REPO, MAIN, ANON, signal)
  assert.deepEqual(
    (await catalog.known()).map((one) => one.commit),
    [C2, C1],
  )
  assert.equal((await catalog.refs(REPO)).get(MAIN)?.commit, C2)
  assert.equal((await catalog.recorded(REPO, C1))?.commit, C1)
  await catalog.forget(REPO)
  assert.deepEqual(await catalog.known(), [])
  assert.equal(await catalog.recorded(REPO, C1), undefined)
  const before = asked.length
  await catalog.resolve(REPO, MAIN, ANON, signal)
  assert.equal(asked.length, before + 1)
})
