// The agent as a process: log, signals, the ready files, exit codes. Everything else is handed in.
import { readFileSync } from 'node:fs'
import { availableParallelism, loadavg, totalmem } from 'node:os'
import { join } from 'node:path'
import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { messageOf } from '@shoal/protocol/errors.ts'
import { AGENT_READY_FILE, removeReadyFile, writeReadyFile } from '@shoal/protocol/ready-file.ts'
import { systemClock, systemRandom } from '@shoal/protocol/time.ts'
import { z } from 'zod'
import { startAgent } from './agent.ts'
import type { LoadedSettings } from './config.ts'
import { createLog } from './logging.ts'
import type { ProcessMemory } from './memory-budget.ts'
import { tuneProcess } from './process-tuning.ts'

export interface RunOptions {
  readonly settings: LoadedSettings
  /** Written once the agent is ready, besides the one in the storage path. */
  readonly readyFile: string | undefined
}

/** Runs until SIGTERM, SIGINT or an unexpected failure. @returns the exit code */
export async function runAgent({ settings: loaded, readyFile }: RunOptions): Promise<number> {
  const { settings, warnings } = loaded
  const log = createLog(settings.logLevel)
  for (const warning of warnings) log.warn({}, warning)
  await tuneProcess(settings.cpu, process.pid, log)
  let end: (code: number) => void = () => {}
  const ended = new Promise<number>((resolve) => {
    end = resolve
  })
  const onFailure = (name: string, error: unknown) => {
    log.error(
      { work: name, reason: messageOf(error), stack: error instanceof Error ? error.stack : undefined },
      'unexpected failure',
    )
    end(1)
  }
  process.on('unhandledRejection', (error) => onFailure('a forgotten promise', error))
  process.on('uncaughtException', (error) => onFailure('an uncaught exception', error))
  const onSignal = (signal: NodeJS.Signals) => {
    log.info({ signal }, 'stopping')
    end(0)
    // Whoever asks twice does not want to wait for open requests.
    process.once(signal, () => process.exit(signal === 'SIGINT' ? 130 : 143))
  }
  process.once('SIGTERM', onSignal)
  process.once('SIGINT', onSignal)

  const version = packageVersion()
  const agent = await startAgent(settings, {
    clock: systemClock,
    random: systemRandom,
    log,
    version,
    pid: process.pid,
    nodeVersion: process.version,
    memory: ownMemory(),
    machine: {
      loadAverage: () => loadavg()[0] ?? 0,
      processors: availableParallelism(),
      ownCpuMs() {
        const { user, system } = process.cpuUsage()
        return (user + system) / 1000
      },
    },
    onFailure,
  })
  const files = [
    join(settings.storage.path, AGENT_READY_FILE),
    ...(readyFile === undefined ? [] : [readyFile]),
  ]
  const ready = { http: agent.http, p2p: [...agent.p2p()], peerId: agent.peerId, pid: process.pid }
  for (const path of files) await writeReadyFile(path, ready)
  log.info({ ...ready, version }, 'ready')
  const code = await ended
  for (const path of files) await removeReadyFile(path)
  await agent.stop()
  log.info({ code }, 'stopped')
  return code
}

function packageVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return z.object({ version: z.string() }).parse(JSON.parse(text)).version
}

function ownMemory(): ProcessMemory {
  const hostBytes = totalmem()
  // Of the control group, version 1 or 2; 0 or more than there is when it has no limit.
  const allowed = process.constrainedMemory()
  // The collector is not in reach of programs unless asked for, and a flag of the command line would be the operator's to give.
  setFlagsFromString('--expose-gc')
  const collect: unknown = runInNewContext('gc')
  return {
    hostBytes,
    allowedBytes: allowed > 0 && allowed < hostBytes ? allowed : undefined,
    usedBytes: () => process.memoryUsage.rss(),
    externalBytes: () => getHeapStatistics().external_memory,
    collect: (what) => {
      if (typeof collect === 'function') collect({ type: what === 'all' ? 'major' : 'minor' })
    },
  }
}
