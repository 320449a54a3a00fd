// The process edge of the coordinator: log, signals, ready file, exit code. Arguments are read in cli/.
import { messageOf } from '@shoal/protocol/errors.ts'
import { removeReadyFile, writeReadyFile } from '@shoal/protocol/ready-file.ts'
import { systemClock } from '@shoal/protocol/time.ts'
import { pino, stdTimeFunctions } from 'pino'
import manifest from '../package.json' with { type: 'json' }
import type { LoadedCoordinatorSettings } from './config.ts'
import { createCoordinator } from './coordinator.ts'

export interface RunOptions {
  readonly settings: LoadedCoordinatorSettings
  /** Absolute. */
  readonly readyFile: string | undefined
}

/**
 * Runs until SIGTERM or SIGINT; a second signal does not wait for open requests.
 * @returns the exit code
 * @throws ShoalError `bad-config` when it cannot start
 */
export async function runCoordinator({ settings: loaded, readyFile }: RunOptions): Promise<number> {
  const { settings, warnings } = loaded
  // As the agent writes it: JSON lines on standard output.
  const log = pino({
    level: settings.logLevel,
    base: null,
    formatters: { level: (label) => ({ level: label }) },
    timestamp: stdTimeFunctions.isoTime,
  })
  for (const warning of warnings) log.warn(warning)
  const told = new Promise<NodeJS.Signals>((resolve) => {
    const onSignal = (signal: NodeJS.Signals) => {
      resolve(signal)
      process.once(signal, () => process.exit(1))
    }
    process.once('SIGTERM', onSignal)
    process.once('SIGINT', onSignal)
  })
  if (readyFile !== undefined) await removeReadyFile(readyFile)
  const coordinator = createCoordinator(settings, {
    clock: systemClock,
    version: manifest.version,
    nodeVersion: process.version,
    onFailure: (path, error) => log.error({ path, err: error }, 'a request failed'),
  })
  await coordinator.start()
  try {
    if (readyFile !== undefined)
      await writeReadyFile(readyFile, { http: coordinator.url(), pid: process.pid })
    log.info({ http: coordinator.url(), version: manifest.version }, 'the coordinator is ready')
    log.info({ signal: await told }, 'stopping')
  } finally {
    if (readyFile !== undefined) await removeReadyFile(readyFile)
    await coordinator.stop().catch((error: unknown) => log.error(messageOf(error)))
  }
  log.info('stopped')
  return 0
}
