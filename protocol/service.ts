// Life cycle: parts that start in order and stop in reverse, and background work that nobody forgets.
import { isAbort } from './errors.ts'

/** `create…` does no I/O; `start` opens; `stop` closes and awaits its own work. Both may be called twice. */
export interface Service {
  readonly name: string
  start(): Promise<void>
  stop(): Promise<void>
}

/**
 * Starts `parts` in order. If one fails, those already started are stopped in reverse and its error is thrown.
 * The returned function stops all in reverse; a part that fails to stop does not keep the others from stopping.
 */
export async function startAll(parts: readonly Service[]): Promise<() => Promise<void>> {
  const started: Service[] = []
  const stopAll = async () => {
    const failures: unknown[] = []
    for (let part = started.pop(); part !== undefined; part = started.pop()) {
      await part.stop().catch((error: unknown) => failures.push(error))
    }
    if (failures.length > 0) throw new AggregateError(failures, 'some parts failed to stop')
  }
  for (const part of parts) {
    try {
      await part.start()
      started.push(part)
    } catch (error) {
      await stopAll().catch(() => {})
      throw error
    }
  }
  return stopAll
}

/** Background work under supervision: no floating promises, all awaited at the end, unexpected failures reported. */
export interface Tasks {
  /** Aborted when the owner stops; every task takes it. */
  readonly signal: AbortSignal
  /** Runs `work` in the background. An abort ends it quietly; anything else goes to `onFailure`. */
  run(name: string, work: (signal: AbortSignal) => Promise<void>): void
  /** Aborts all tasks and resolves when the last has ended. */
  stop(): Promise<void>
}

/** @param onFailure told of every task that ended by an unexpected error; the program ends in order on it. */
export function createTasks(onFailure: (name: string, error: unknown) => void): Tasks {
  const controller = new AbortController()
  const running = new Set<Promise<void>>()
  return {
    signal: controller.signal,
    run(name, work) {
      if (controller.signal.aborted) return
      const task = (async () => work(controller.signal))()
        .catch((error: unknown) => {
          if (!isAbort(error)) onFailure(name, error)
        })
        .finally(() => running.delete(task))
      running.add(task)
    },
    async stop() {
      controller.abort()
      while (running.size > 0) await Promise.all(running)
    },
  }
}
