import assert from 'node:assert/strict'
import { test } from 'node:test'
import { atEnd } from '../support/cleanups.ts'

/** A context that gives its one hook to the test. */
function context() {
  const hooks: (() => unknown)[] = []
  return { hooks, after: (hook?: unknown) => void hooks.push(hook as () => unknown) }
}

test('what was made last is cleared away first, and one failure leaves nothing lying', async () => {
  const done: string[] = []
  const given = context()
  atEnd(given, () => done.push('folder'))
  atEnd(given, async () => {
    await Promise.resolve()
    done.push('program')
  })
  atEnd(given, () => {
    throw new Error('the client would not close')
  })
  assert.equal(given.hooks.length, 1)
  await assert.rejects(async () => given.hooks[0]?.(), /would not close/)
  assert.deepEqual(done, ['program', 'folder'])
})

test('several failures are all told', async () => {
  const given = context()
  for (const what of ['one', 'two'])
    atEnd(given, () => {
      throw new Error(what)
    })
  await assert.rejects(
    async () => given.hooks[0]?.(),
    (error: AggregateError) => {
      assert.deepEqual(
        error.errors.map(({ message }: Error) => message),
        ['two', 'one'],
      )
      return true
    },
  )
})

test('each test has its own', async () => {
  const done: string[] = []
  const [one, other] = [context(), context()]
  atEnd(one, () => done.push('one'))
  atEnd(other, () => done.push('other'))
  await one.hooks[0]?.()
  assert.deepEqual(done, ['one'])
})
