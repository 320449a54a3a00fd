// What a run has to clear away: processes and folders, the last thing made first, whether or not the run came to its end.
import type { TestContext } from 'node:test'

/** As much of a test's context as the support code needs. */
export type Ending = Pick<TestContext, 'after'>

export interface Scope extends Ending, AsyncDisposable {}

const open = new Set<Scope>()
let ended = false

export function openScope(): Scope {
  if (ended) throw new Error('the benchmark was stopped')
  const tasks: (() => unknown)[] = []
  const scope: Scope = {
    after: (task) => {
      tasks.push(task as () => unknown)
    },
    async [Symbol.asyncDispose]() {
      open.delete(scope)
      for (const task of tasks.splice(0).toReversed()) await task()
    },
  }
  open.add(scope)
  return scope
}

/** For a run that is stopped from outside: nothing stays behind. */
export async function closeAll(): Promise<void> {
  ended = true
  for (const scope of [...open].toReversed())
    try {
      await scope[Symbol.asyncDispose]()
    } catch (error) {
      console.error(error)
    }
}
