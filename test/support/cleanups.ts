// What a test has to clear away, the last thing made first. node:test runs its own `after` hooks in the order they were given and
// ends at the first that fails: a folder would go while the program that writes into it still runs, and the program would stay.
import type { TestContext } from 'node:test'

type Context = Pick<TestContext, 'after'>
type Cleanup = () => unknown

const stacks = new WeakMap<Context, Cleanup[]>()

/** Runs `cleanup` when the test (or suite) ends, after those that were given later, whether or not these failed. */
export function atEnd(context: Context, cleanup: Cleanup): void {
  const known = stacks.get(context)
  if (known !== undefined) {
    known.push(cleanup)
    return
  }
  const stack = [cleanup]
  stacks.set(context, stack)
  context.after(() => runAll(stack))
}

/** @throws what failed: the error itself, or an AggregateError of several */
async function runAll(stack: Cleanup[]): Promise<void> {
  const failures: unknown[] = []
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    try {
      await next()
    } catch (error) {
      failures.push(error)
    }
  }
  if (failures.length === 1) throw failures[0]
  if (failures.length > 1) throw new AggregateError(failures, 'several things could not be cleared away')
}
