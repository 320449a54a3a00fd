// The program's log: pino, JSON lines on standard output, secrets cut out. The one place that knows the logging library.

import type { LogLevel } from '@shoal/protocol/setting-checks.ts'
import { type DestinationStream, pino } from 'pino'
import type { Log } from './log.ts'

/** What must never be written, wherever it turns up in a log's fields. */
const SECRET_FIELDS = ['token', 'secret', 'authorization', '*.token', '*.secret', '*.authorization']

export interface ProgramLog extends Log {
  /** For parts that log by level, message, fields. */
  readonly byLevel: (
    level: 'debug' | 'info' | 'warn' | 'error',
    message: string,
    fields?: Readonly<Record<string, unknown>>,
  ) => void
}

/** @param destination where lines go; standard output when left out */
export function createLog(level: LogLevel, destination?: DestinationStream): ProgramLog {
  const options = {
    level,
    base: null,
    redact: { paths: SECRET_FIELDS, censor: '[hidden]' },
    formatters: { level: (label: string) => ({ level: label }) },
    timestamp: pino.stdTimeFunctions.isoTime,
  }
  const logger = destination === undefined ? pino(options) : pino(options, destination)
  return {
    debug: (fields, message) => logger.debug(fields, message),
    info: (fields, message) => logger.info(fields, message),
    warn: (fields, message) => logger.warn(fields, message),
    error: (fields, message) => logger.error(fields, message),
    byLevel: (at, message, fields = {}) => logger[at](fields, message),
  }
}
