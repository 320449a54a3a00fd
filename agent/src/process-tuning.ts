// Where this program runs and with what priority: asks the system for what the settings say, for every thread there is. What cannot be
// had is a warning, not an end: the agent works without it.
import { execFile } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { constants, setPriority } from 'node:os'
import { promisify } from 'node:util'
import { messageOf } from '@shoal/protocol/errors.ts'
import type { CpuSettings } from './config-cpu-keys.ts'
import type { Log } from './log.ts'

const run = promisify(execFile)
const { PRIORITY_BELOW_NORMAL, PRIORITY_ABOVE_NORMAL } = constants.priority

/** @param pid of this program */
export async function tuneProcess(
  { affinity, priority }: Pick<CpuSettings, 'affinity' | 'priority'>,
  pid: number,
  log: Pick<Log, 'warn'>,
): Promise<void> {
  if (priority !== 'normal') {
    const nice = priority === 'low' ? PRIORITY_BELOW_NORMAL : PRIORITY_ABOVE_NORMAL
    try {
      // Linux counts by threads; those that start later have it from the one that starts them.
      for (const thread of threadsOf(pid)) setPriority(thread, nice)
    } catch (error) {
      log.warn({ priority, reason: messageOf(error) }, 'cpu_optimization.priority could not be set')
    }
  }
  if (affinity === undefined) return
  try {
    await run('taskset', ['-a', '-c', '-p', affinity.join(','), `${pid}`])
  } catch (error) {
    const reason = messageOf(error).split('\n', 1)[0]
    log.warn({ reason }, 'cpu_optimization.cpu_affinity could not be set: it needs Linux and taskset')
  }
}

function threadsOf(pid: number): readonly number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map(Number)
  } catch {
    return [pid]
  }
}
