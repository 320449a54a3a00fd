// What a run of the command line touches of the outside, as one value: a real process in main.ts, pipes and folders in tests.
// Types only.
import type { Readable, Writable } from 'node:stream'
import type { Clock } from '@shoal/protocol/time.ts'

export interface Edge {
  /** Words after the program's name. */
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  readonly home: string
  readonly isRoot: boolean
  readonly stdin: Readable & { readonly isTTY?: boolean }
  readonly stdout: Writable & { readonly isTTY?: boolean }
  readonly stderr: Writable & { readonly isTTY?: boolean }
  readonly clock: Clock
  /** Ends the program at once: for a closed pipe, a second Ctrl-C, and the end of `shoal agent`. */
  readonly exit: (code: number) => void
  /** Starts the program again in this very process, with these variables besides; comes back only where a system cannot do that. */
  readonly restart?: (env: Readonly<Record<string, string>>) => void
  /** Calls `handler` for SIGINT and SIGTERM instead of dying of them; the returned function undoes that. */
  readonly onInterrupt: (handler: (signal: 'SIGINT' | 'SIGTERM') => void) => () => void
}

/** Exit codes of every command. */
export const EXIT_DONE = 0
export const EXIT_FAILED = 1
export const EXIT_WRONG_USE = 2
