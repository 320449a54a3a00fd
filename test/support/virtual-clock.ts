// A clock that stands still until a test moves it: the `Clock` of unit tests. Between two timers it lets everything that
// is waiting for a promise go on, so that code which sleeps in a loop behaves as it does in real time.
import type { Clock } from '@shoal/protocol/time.ts'

export interface VirtualClock extends Clock {
  /**
   * Moves time by `ms`, running every timer that falls due at its own moment, in order, those of one moment in the order
   * they were set; also timers that other timers set on the way. Timers run only here.
   */
  advance(ms: number): Promise<void>
  /** Sets the wall clock, as NTP or an operator would. Timers and `now()` do not notice. */
  setWallTime(unixMs: number): void
  /** Timers not yet run or cancelled. Zero at the end of a test: nothing was forgotten. */
  readonly pending: number
}

interface Timer {
  readonly at: number
  readonly task: () => void
}

/** @param startMs first value of `now()` @param wallTimeMs Unix time at that moment; any fixed day by default */
export function virtualClock(startMs = 0, wallTimeMs = Date.UTC(2026, 0, 1)): VirtualClock {
  let now = startMs
  let wallOffset = wallTimeMs - startMs
  // Insertion order is the order of timers that fall due at the same moment.
  const timers = new Set<Timer>()
  return {
    now: () => now,
    wallTime: () => now + wallOffset,
    after(delayMs, task) {
      const timer: Timer = { at: now + Math.max(0, delayMs), task }
      timers.add(timer)
      return () => timers.delete(timer)
    },
    async advance(ms) {
      const end = now + ms
      await settle()
      for (let timer = nextDue(timers, end); timer !== undefined; timer = nextDue(timers, end)) {
        timers.delete(timer)
        now = timer.at
        timer.task()
        await settle()
      }
      now = end
    },
    setWallTime(unixMs) {
      wallOffset = unixMs - now
    },
    get pending() {
      return timers.size
    },
  }
}

function nextDue(timers: ReadonlySet<Timer>, end: number): Timer | undefined {
  let next: Timer | undefined
  for (const timer of timers) if (timer.at <= end && (next === undefined || timer.at < next.at)) next = timer
  return next
}

/** Lets all promise reactions run, and what they start in turn: the whole microtask queue, twice around the event loop. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 2; turn++) await new Promise((resolve) => setImmediate(resolve))
}
