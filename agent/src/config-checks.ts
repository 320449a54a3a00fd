// What settings of the agent alone may look like, in addition to protocol/setting-checks.ts: one schema a kind of value, each
// with a sentence that says what was expected. Pure.

import { ShoalError } from '@shoal/protocol/errors.ts'
import { isLoopbackHost } from '@shoal/protocol/listen-address.ts'
import { amount } from '@shoal/protocol/setting-checks.ts'
import { parsedBy } from '@shoal/protocol/settings.ts'
import { z } from 'zod'
import { MeshSecret } from './net/mesh-secret.ts'
import { minuteOfDay } from './plan/limit-hours.ts'

export const GIGABYTE = 1_000_000_000
export const BYTES_PER_MEGABIT = 125_000

/** An origin: the Hub or a mirror. Gives the address without a trailing slash. */
export const originUrl = parsedBy(parseOrigin, 'expected a URL, as in "https://huggingface.co"')

/** Where to listen for peers or where one is: the net adapter reads it in earnest, this catches what cannot be one. */
export const multiaddr = parsedBy(checkMultiaddr, 'expected a multiaddr, as in "/ip4/192.0.2.7/tcp/8002"')

export const label = z
  .string('expected a name')
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'expected a name of up to 64 letters, digits, ".", "_" or "-"')

const MBPS = 'expected 0 for no limit, or 1 to 8000000 megabits a second'

/** A bandwidth limit in megabits a second. Slower ones would make other hosts take this one for dead. */
export const limitMbps = z
  .number(MBPS)
  .max(8_000_000, MBPS)
  .refine((mbps) => mbps === 0 || mbps >= 1, MBPS)

const TIME = 'expected a time of day from 00:00 to 24:00, as in "09:00"'

/** `09:00` as minutes since midnight; `24:00` is midnight. */
export const timeOfDay = z.string(TIME).transform((text, context): number => {
  const minute = minuteOfDay(text.trim())
  if (minute !== undefined) return minute
  context.addIssue({ code: 'custom', message: TIME })
  return z.NEVER
})

const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const

/** Days of the week by number; 0 is Sunday. */
export const dayList = z
  .array(
    z.enum(DAYS, `expected days, each one of ${[...DAYS.slice(1), 'sun'].join(', ')}`),
    'expected a list of days',
  )
  .min(1, 'expected at least one day')
  .max(7, 'a week has 7 days')
  .transform((days): number[] => days.map((day) => DAYS.indexOf(day)))

/** Processors by number. */
export const processorList = z
  .array(
    z
      .int('expected numbers of processors')
      .min(0, 'a processor has a number from 0')
      .max(4095, 'at most 4095'),
    'expected a list of processors, as in [0, 1]',
  )
  .min(1, 'expected at least one processor')
  .max(4096, 'at most 4096')

export const programPriority = z.enum(['low', 'normal', 'high'], 'expected low, normal or high')

/** The mesh secret as text. */
export const meshSecret = parsedBy((text) => MeshSecret.parse(text), 'expected 64 hexadecimal digits')

/** A Hub token as huggingface_hub takes it. */
export const tokenText = z
  .string('expected text')
  .regex(/^[\x21-\x7e]{1,1024}$/, 'expected a token without white space')

/** True when a request to `origin` would come back to an agent that listens at `listen`. */
export function pointsAtItself(
  origin: string,
  listen: { readonly host: string; readonly port: number },
): boolean {
  const url = new URL(origin)
  const port = url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port)
  if (port !== listen.port) return false
  const host = url.hostname.replace(/^\[|\]$/g, '')
  return (
    host === listen.host ||
    (isLoopbackHost(host) && (isLoopbackHost(listen.host) || /^(?:0\.0\.0\.0|::)$/.test(listen.host)))
  )
}

function parseOrigin(text: string): string {
  if (!URL.canParse(text))
    throw new ShoalError('bad-config', 'expected a URL, as in "https://huggingface.co"')
  const url = new URL(text)
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw new ShoalError('bad-config', 'only https: and http: addresses can be an origin')
  if (url.username !== '' || url.password !== '')
    throw new ShoalError(
      'bad-config',
      'an address must not hold a user or password; use HF_TOKEN or hub.token_path',
    )
  if (url.search !== '' || url.hash !== '')
    throw new ShoalError('bad-config', 'an origin has no "?" or "#" part')
  return `${url.origin}${url.pathname.replace(/\/+$/, '')}`
}

const MULTIADDR =
  /^\/(?:ip4|ip6|dns|dns4|dns6|dnsaddr)\/[^/\s]{1,253}(?:\/tcp\/(\d{1,6}))?(?:\/p2p\/[1-9A-HJ-NP-Za-km-z]{32,128})?$/

function checkMultiaddr(text: string): string {
  const match = MULTIADDR.exec(text)
  if (match === null || (match[1] === undefined && !text.startsWith('/dnsaddr/')))
    throw new ShoalError('bad-config', 'expected a multiaddr, as in "/ip4/192.0.2.7/tcp/8002"')
  if (Number(match[1] ?? 0) > 65_535) throw new ShoalError('bad-config', 'a port is at most 65535')
  return text
}

/** 0, or what an agent can work with. */
export const maxMemoryGb = z
  .number('expected a number of gigabytes')
  .refine(
    (value) => value === 0 || (value >= 0.25 && value <= 4096),
    'expected 0, or gigabytes from 0.25 to 4096',
  )

export const downloadBufferMb = z
  .number('expected a number of megabytes')
  .refine(
    (value) => value === 0 || (value >= 16 && value <= 16_384),
    'expected 0, or megabytes from 16 to 16384',
  )

export const gcThreshold = amount(0.1, 1, 'shares of the memory limit')

/** Refused with the reason: there is nothing that it could size. */
export const modelCacheGb = z
  .number('expected 0')
  .refine(
    (value) => value === 0,
    'expected 0: models are not kept in the memory of the agent; the page cache of the kernel keeps what is read often',
  )

export const noPreload = z
  .boolean('expected false')
  .refine(
    (value) => !value,
    'expected false: the page cache of the kernel keeps what is read often; reading ahead what nobody asked for would drive it out',
  )
