// Life cycle: order of starting and stopping, and work that nobody forgets.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { createTasks, type Service, startAll } from '@shoal/protocol/service.ts'
import { abortError } from '@shoal/protocol/time.ts'

function parts(
  log: string[],
  names: readonly string[],
  failing: { start?: string; stop?: readonly string[] } = {},
): Service[] {
  return names.map((name) => ({
    name,
    async start() {
      log.push(`start ${name}`)
      if (failing.start === name) throw new Error(`${name} does not start`)
    },
    async stop() {
      log.push(`stop ${name}`)
      if (failing.stop?.includes(name) === true) throw new Error(`${name} does not stop`)
    },
  }))
}

test('parts start in order and stop in reverse, once', async () => {
  const log: string[] = []
  const stop = await startAll(parts(log, ['a', 'b', 'c']))
  await stop()
  await stop()
  assert.deepEqual(log, ['start a', 'start b', 'start c', 'stop c', 'stop b', 'stop a'])
})

test('when a part fails to start, those before it are stopped and its error is thrown', async () => {
  const log: string[] = []
  await assert.rejects(
    startAll(parts(log, ['a', 'b', 'c', 'd'], { start: 'c', stop: ['b'] })),
    /c does not start/,
  )
  assert.deepEqual(log, ['start a', 'start b', 'start c', 'stop b', 'stop a'])
})

test('parts that fail to stop do not keep the others from stopping, and all are told of', async () => {
  const log: string[] = []
  const stop = await startAll(parts(log, ['a', 'b', 'c'], { stop: ['c', 'b'] }))
  await assert.rejects(stop(), (error: AggregateError) => error.errors.length === 2)
  assert.deepEqual(log.slice(3), ['stop c', 'stop b', 'stop a'])
})

test('nothing to start is nothing to stop', async () => {
  const stop = await startAll([])
  await stop()
})

test('a task that fails is told of with its name; the others go on', async () => {
  const failures: [string, unknown][] = []
  const tasks = createTasks((name, error) => failures.push([name, error]))
  const ended: string[] = []
  const broken = new Error('broken')
  tasks.run('one', async () => {
    throw broken
  })
  tasks.run('two', (signal) => untilAborted(signal).finally(() => ended.push('two')))
  tasks.run('three', () => {
    throw broken
  })
  await tasks.stop()
  assert.deepEqual(
    new Map(failures),
    new Map([
      ['one', broken],
      ['three', broken],
    ]),
  )
  assert.deepEqual(ended, ['two'])
})

test('stopping waits for tasks that other tasks began on the way out', async () => {
  const ended: string[] = []
  const tasks = createTasks(() => {})
  tasks.run('first', async (signal) => {
    tasks.run('second', async () => {
      await untilAborted(signal).catch(() => {})
      await Promise.resolve()
      ended.push('second')
    })
    await untilAborted(signal).catch(() => {})
    ended.push('first')
  })
  await tasks.stop()
  assert.deepEqual(ended.toSorted(), ['first', 'second'])
})

test('an abort ends a task without a word, and nothing runs after the stop', async () => {
  const failures: string[] = []
  const tasks = createTasks((name) => failures.push(name))
  tasks.run('waits', untilAborted)
  tasks.run('keeps the reason', async (signal) => {
    await untilAborted(signal).catch(() => {})
    throw new ShoalError('aborted', 'it was stopped')
  })
  await tasks.stop()
  let ran = false
  tasks.run('late', async () => {
    ran = true
  })
  await tasks.stop()
  assert.ok(tasks.signal.aborted)
  assert.deepEqual([failures, ran], [[], false])
})

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(abortError(signal))
    signal.addEventListener('abort', () => reject(abortError(signal)), { once: true })
  })
}
