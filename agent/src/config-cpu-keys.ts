// Rows of the settings table for processors. Part of config-keys.ts, kept apart for length.
import { availableParallelism } from 'node:os'
import { wholeNumber } from '@shoal/protocol/setting-checks.ts'
import { type SettingValues, setting } from '@shoal/protocol/settings.ts'
import { processorList, programPriority } from './config-checks.ts'

export const CPU_SETTINGS = {
  'cpu_optimization.worker_threads': setting({
    kind: 'number',
    schema: wholeNumber(0, 32, 'threads').optional(),
    initial: undefined,
    initialText: 'a quarter of the processors, at most 8; none on machines with less than four',
    env: ['SHOAL_WORKER_THREADS', 'ENHANCED_MODEL_WORKER_THREADS'],
    about:
      'Threads (lanes) that exchange chunks with peers and prove them, apart from the one that decides. 0: that one does it all.',
  }),
  'cpu_optimization.io_threads': setting({
    kind: 'number',
    schema: wholeNumber(1, 1024, 'threads').optional(),
    initial: undefined,
    initialText: '`UV_THREADPOOL_SIZE`, else 4',
    env: [],
    about:
      'Threads for files and names: how many such operations run at a time. The agent starts itself once more to have them.',
  }),
  'cpu_optimization.background_tasks_threads': setting({
    kind: 'number',
    schema: wholeNumber(1, 64, 'threads'),
    initial: 2,
    env: [],
    about: 'Threads that hash whole files.',
  }),
  'cpu_optimization.cpu_affinity': setting({
    kind: 'list',
    schema: processorList.optional(),
    initial: undefined,
    initialText: 'all',
    env: [],
    about:
      'Processors that the agent may use, by number, as in `[0, 1]`. Linux with `taskset` only; elsewhere the log says that it is not so.',
  }),
  'cpu_optimization.priority': setting({
    kind: 'text',
    schema: programPriority,
    initial: 'normal',
    env: [],
    about:
      'Share of the processors beside other programs: `low` (nice 10), `normal` (as it was started) or `high` (nice -7, which needs the right to it).',
  }),
} as const

/** How the program uses the processors. */
export interface CpuSettings {
  /** Threads that exchange chunks with peers. */
  readonly lanes: number
  readonly ioThreads: number | undefined
  readonly hashThreads: number
  /** undefined: all. */
  readonly affinity: readonly number[] | undefined
  readonly priority: 'low' | 'normal' | 'high'
}

export function cpuOf(values: SettingValues<typeof CPU_SETTINGS>): CpuSettings {
  return {
    lanes: values['cpu_optimization.worker_threads'] ?? laneCount(availableParallelism()),
    ioThreads: values['cpu_optimization.io_threads'],
    hashThreads: values['cpu_optimization.background_tasks_threads'],
    affinity: values['cpu_optimization.cpu_affinity'],
    priority: values['cpu_optimization.priority'],
  }
}

/** A lane moves about 800 MB/s: a quarter of the processors is enough for any link that such a machine has. */
function laneCount(processors: number): number {
  return Math.min(8, Math.floor(processors / 4))
}
