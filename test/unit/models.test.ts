// Models as an operator sees them: pulled by pattern, listed, verified, removed without harm to others, and pulls that outlive the
// program. The transfer layer below is the real one.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { parseRepoSpec, type Repo, repoKey } from '@shoal/protocol/ids.ts'
import { silence } from '../support/fake-origin.ts'
import { addRepo, bytesOf, keeperOf, lasting, MAIN } from '../support/keeper-world.ts'
import { CHUNK } from '../support/transfer-world.ts'

const never = new AbortController().signal
const SHARED = bytesOf(1, 2 * CHUNK)

test('a pull fetches every file that its patterns take, and tells how far it is', async (t) => {
  const disk = lasting()
  await addRepo(disk, 'org/model', {
    'config.json': bytesOf(2, 100),
    'a.safetensors': bytesOf(3, 3 * CHUNK),
    'b.safetensors': bytesOf(4, CHUNK + 1),
    'b.bin': bytesOf(5, CHUNK),
    empty: Buffer.of(),
  })
  const { world, pull, ended } = await keeperOf(t, disk)
  const some = await ended(pull('org/model', { include: ['*.safetensors', '*.json'], exclude: ['b.*'] }).id)
  assert.deepEqual(
    [some.state, some.files, some.filesDone, some.doneBytes, some.totalBytes, some.originBytes],
    ['complete', 2, 2, 3 * CHUNK + 100, 3 * CHUNK + 100, 3 * CHUNK + 100],
  )
  assert.deepEqual(world.shown.toSorted(), ['a.safetensors', 'config.json', `main=${some.commit}`])
  const all = await ended(pull('org/model').id)
  assert.deepEqual(
    [all.state, all.filesDone, all.doneBytes, all.diskBytes, all.originBytes],
    ['complete', 5, 5 * CHUNK + 101, 3 * CHUNK + 100, 2 * CHUNK + 1],
  )
  assert.equal(all.bytesPerSecond, 0)
  assert.ok((all.endedAt ?? 0) >= all.startedAt)
  const none = await ended(pull('org/model', { include: ['*.gguf'] }).id)
  assert.deepEqual([none.state, none.error?.code], ['failed', 'file-not-found'])
  const unknown = await ended(pull('org/other').id)
  assert.deepEqual([unknown.state, unknown.error?.code], ['failed', 'repo-not-found'])
})

test('a blob that a repo has under two names is fetched once, counted once and shown twice', async (t) => {
  const disk = lasting()
  await addRepo(disk, 'org/model', { 'a.bin': SHARED, 'b.bin': SHARED, 'c.bin': SHARED })
  const { world, pull, ended } = await keeperOf(t, disk)
  const done = await ended(pull('org/model').id)
  assert.deepEqual(
    [done.state, done.filesDone, done.originBytes, done.doneBytes],
    ['complete', 3, 2 * CHUNK, 6 * CHUNK],
  )
  assert.equal(world.counts.origin, 2 * CHUNK)
  assert.deepEqual(world.shown.filter((name) => name.endsWith('.bin')).toSorted(), [
    'a.bin',
    'b.bin',
    'c.bin',
  ])
})

test('one file that fails ends the pull with its error; those under way are finished, later ones are not begun', async (t) => {
  const disk = lasting()
  const files = Object.fromEntries([0, 1, 2, 3, 4].map((at) => [`${at}.bin`, bytesOf(10 + at, CHUNK)]))
  const manifest = await addRepo(disk, 'org/model', files)
  const { world, pull, ended, keeper } = await keeperOf(t, disk)
  world.origin.manner = async (call) => {
    if (call.file.entry.path === '0.bin') throw new ShoalError('origin-refused', 'never')
    await new Promise<void>((resolve) => world.clock.after(500, resolve))
    call.fill(call.right)
  }
  const done = await ended(pull('org/model').id)
  assert.deepEqual([done.state, done.error?.code, done.filesDone], ['failed', 'origin-refused', 1])
  const [, second, third] = manifest.files
  assert.ok(second !== undefined && world.store.isComplete(second.blob))
  assert.ok(third !== undefined && !world.store.isComplete(third.blob))
  assert.equal(disk.rows.size, 0, 'a failed pull is not taken up again')
  world.origin.manner = async (call) => call.fill(call.right)
  const again = await ended(pull('org/model').id)
  assert.deepEqual([again.state, again.filesDone, again.diskBytes], ['complete', 5, CHUNK])
  assert.equal(keeper.pulls().length, 2)
})

test('a pull that is cancelled ends, and its download with it; the same request is one pull', async (t) => {
  const disk = lasting()
  await addRepo(disk, 'org/model', { 'a.bin': bytesOf(20, 4 * CHUNK) })
  const { world, keeper, pull, ended } = await keeperOf(t, disk)
  world.origin.manner = (call) => silence(call.options.signal)
  const { id } = pull('org/model')
  assert.equal(pull('org/model').id, id)
  await world.clock.advance(500)
  assert.equal(keeper.cancelPull(id), true)
  assert.equal((await ended(id)).state, 'cancelled')
  assert.equal(keeper.cancelPull(id), false)
  assert.equal(keeper.cancelPull('nobody'), false)
  assert.equal(disk.rows.size, 0)
  await world.clock.advance(11_000)
  assert.equal(world.downloader.active().length, 0)
})

test('a pull that the end of the program cut off goes on after the next start, a cancelled one does not', async (t) => {
  const disk = lasting()
  await addRepo(disk, 'org/one', { 'a.bin': bytesOf(30, 4 * CHUNK) })
  await addRepo(disk, 'org/two', { 'a.bin': bytesOf(31, 4 * CHUNK) })
  const first = await keeperOf(t, disk)
  first.world.origin.manner = async (call) =>
    call.index === 0 ? call.fill(call.right) : silence(call.options.signal)
  const cutOff = first.pull('org/one', { exclude: ['*.md'] })
  const cancelled = first.pull('org/two')
  await first.world.clock.advance(500)
  first.keeper.cancelPull(cancelled.id)
  // In the same breath.
  await first.world.pass(first.keeper.stop())
  await first.world.stop()
  assert.throws(() => first.pull('org/one'), { code: 'not-running' })
  disk.rows.set('pull/broken', { repo: '../../etc', revision: 'main', include: [], exclude: [] })
  disk.rows.set('pull/older', 'what is this')

  const second = await keeperOf(t, disk)
  assert.deepEqual(
    second.keeper.pulls().map(({ id, repo }) => [id, repo.id]),
    [[cutOff.id, 'org/one']],
  )
  const done = await second.ended(cutOff.id)
  assert.deepEqual([done.state, done.diskBytes, done.originBytes], ['complete', CHUNK, 3 * CHUNK])
  assert.equal(disk.rows.size, 0)
})

test('models are listed and shown with what is held of them', async (t) => {
  const disk = lasting()
  const manifest = await addRepo(disk, 'org/model', {
    'a.bin': bytesOf(40, 3 * CHUNK),
    'b.bin': bytesOf(41, CHUNK),
  })
  const { world, keeper, pull, ended } = await keeperOf(t, disk)
  assert.equal(await keeper.show(parseRepoSpec('org/none').repo), undefined)
  await ended(pull('org/model', { include: ['b.bin'] }).id)
  const [model] = await keeper.list()
  assert.deepEqual(
    [model?.files, model?.completeFiles, model?.sizeBytes, model?.heldBytes, model?.access],
    [2, 1, 4 * CHUNK, CHUNK, 'public'],
  )
  assert.deepEqual(model?.revisions, [{ revision: MAIN, commit: manifest.commit }])
  world.origin.manner = async (call) =>
    call.index === 0 ? call.fill(call.right) : silence(call.options.signal)
  const { id } = pull('org/model')
  await world.clock.advance(1_000)
  const details = await keeper.show(manifest.repo)
  assert.deepEqual(
    details?.commits[0]?.files.map(({ path, heldBytes, complete }) => [path, heldBytes, complete]),
    [
      ['a.bin', CHUNK, false],
      ['b.bin', CHUNK, true],
    ],
  )
  keeper.cancelPull(id)
})

test('a model is removed with its pulls, downloads and blobs, except those that other repos use', async (t) => {
  const disk = lasting()
  const own = bytesOf(50, 3 * CHUNK)
  const arriving = bytesOf(51, 4 * CHUNK)
  const manifest = await addRepo(disk, 'org/model', {
    'own.bin': own,
    'shared.bin': SHARED,
    'z.bin': arriving,
  })
  await addRepo(disk, 'org/other', { 'weights.bin': SHARED })
  const { world, keeper, pull, ended, removed } = await keeperOf(t, disk)
  world.origin.manner = async (call) =>
    call.file.entry.path === 'z.bin' && call.index > 0 ? silence(call.options.signal) : call.fill(call.right)
  const { id } = pull('org/model')
  await world.clock.advance(1_000)
  const [ownBlob, sharedBlob, lastBlob] = manifest.files.map(({ blob }) => blob)
  assert.ok(ownBlob !== undefined && sharedBlob !== undefined && lastBlob !== undefined)
  assert.ok(world.store.isComplete(ownBlob) && !world.store.isComplete(lastBlob))
  const freed = await world.pass(keeper.remove(manifest.repo))
  assert.deepEqual(freed, { freedBytes: 4 * CHUNK, blobs: 2 })
  assert.equal((await ended(id)).state, 'cancelled')
  assert.deepEqual(removed, ['view org/model', 'forgotten org/model'])
  assert.equal(world.store.isComplete(ownBlob), false)
  assert.equal(world.store.partialChunks(lastBlob), undefined)
  assert.equal(world.store.isComplete(sharedBlob), true)
  assert.deepEqual(
    (await keeper.list()).map(({ repo }) => repo.id),
    ['org/other'],
  )
  assert.deepEqual(await world.pass(keeper.remove(manifest.repo)), { freedBytes: 0, blobs: 0 })
})

test('verify finds a flipped byte, names its chunk, and goes on with the other files', async (t) => {
  const disk = lasting()
  const manifest = await addRepo(disk, 'org/model', {
    'a.bin': bytesOf(60, 3 * CHUNK),
    'b.bin': bytesOf(61, CHUNK),
  })
  await addRepo(disk, 'org/other', { 'c.bin': bytesOf(62, CHUNK) })
  const { keeper, pull, ended } = await keeperOf(t, disk)
  for (const spec of ['org/model', 'org/other']) await ended(pull(spec).id)
  const verified = async (repo: Repo | undefined) => {
    const results: (readonly [string, string, boolean, readonly number[]])[] = []
    for await (const one of keeper.verify(repo, never))
      results.push([repoKey(one.repo), one.path, one.ok, one.badChunks])
    return results
  }
  const [blob] = manifest.files.map((entry) => entry.blob)
  assert.ok(blob !== undefined)
  disk.store.corrupt(blob, 2 * CHUNK + 17)
  assert.deepEqual(await verified(manifest.repo), [
    ['models/org/model', 'a.bin', false, [2]],
    ['models/org/model', 'b.bin', true, []],
  ])
  assert.equal((await verified(undefined)).length, 3)
  await assert.rejects(
    async () => {
      for await (const _ of keeper.verify(undefined, AbortSignal.abort())) assert.fail('it went on')
    },
    { code: 'aborted' },
  )
})

test('a pull is refused while the keeper is not running, and a hundred ended ones are remembered', async (t) => {
  const disk = lasting()
  await addRepo(disk, 'org/model', { empty: Buffer.of() })
  const { keeper, pull, ended } = await keeperOf(t, disk)
  for (let turn = 0; turn < 110; turn++) await ended(pull('org/model').id)
  const { length } = keeper.pulls()
  assert.ok(length <= 101, `${length} pulls are told about`)
})
