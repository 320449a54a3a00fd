// What settings that both programs have may look like: one schema a kind of value, each with a sentence that says what was
// expected. Pure: paths are checked as text only.
import { z } from 'zod'
import { parseListenAddress } from './listen-address.ts'
import { parsedBy } from './settings.ts'

/** Names of the log levels, and the spellings of the guide for them. */
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]
const LEVEL_ALIASES: Readonly<Record<string, LogLevel>> = {
  warning: 'warn',
  critical: 'fatal',
  off: 'silent',
}

/** A whole number in a range. */
export function wholeNumber(min: number, max: number, unit: string) {
  const expected = `expected a whole number of ${unit} from ${min} to ${max}`
  return z.int(expected).min(min, expected).max(max, expected)
}

/** Any finite number in a range. */
export function amount(min: number, max: number, unit: string) {
  const expected = `expected a number of ${unit} from ${min} to ${max}`
  return z.number(expected).min(min, expected).max(max, expected)
}

export const flag = z.boolean('expected true or false')

/** A path as text. `~` and relative ones are resolved later. */
export const pathText = z
  .string('expected a path')
  .min(1, 'expected a path')
  .max(1024, 'a path has at most 1024 characters')
  .refine((text) => !text.includes('\0'), 'a path cannot hold a NUL character')
  .refine((text) => !/^~[^/]/.test(text), 'only "~" and "~/…" are understood, not another user\'s home')

export const logLevel = z.string('expected a level').transform((text, context): LogLevel => {
  const lower = text.toLowerCase()
  const found = LOG_LEVELS.find((level) => level === lower) ?? LEVEL_ALIASES[lower]
  if (found !== undefined) return found
  context.addIssue({ code: 'custom', message: `expected one of ${LOG_LEVELS.join(', ')}` })
  return z.NEVER
})

export const listenAddress = parsedBy(parseListenAddress, 'expected HOST:PORT, as in "127.0.0.1:8001"')

/** A name that clients may use in the Host header; with a port only that port, else ours. */
export const allowedHost = z
  .string('expected a host name')
  .regex(
    /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?$/,
    'expected a host name or HOST:PORT, without wildcards',
  )
  .transform((text) => text.toLowerCase())
