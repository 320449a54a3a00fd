// Rows of the settings table for bandwidth, and what they say together. Part of config-keys.ts, kept apart for length.
import { amount, flag } from '@shoal/protocol/setting-checks.ts'
import { type SettingValues, setting } from '@shoal/protocol/settings.ts'
import { BYTES_PER_MEGABIT, dayList, GIGABYTE, limitMbps, timeOfDay } from './config-checks.ts'
import type { LimitRules } from './host-limits.ts'
import type { LimitValues } from './limits-port.ts'
import { EVERY_DAY } from './plan/limit-hours.ts'

const HOURS = 'bandwidth_management.time_based_limits'

export const LIMIT_SETTINGS = {
  'bandwidth_management.global_limit_mbps': setting({
    kind: 'number',
    schema: limitMbps,
    initial: 0,
    env: [],
    about:
      'The same as `downloads.bandwidth_limit_mbps`; of these and the limit of the hour the lowest counts.',
  }),
  'bandwidth_management.origin_limit_mbps': setting({
    kind: 'number',
    schema: limitMbps,
    initial: 0,
    env: [],
    about:
      'Most that is received from the origin, in megabits a second. 0: no limit. `shoal limits --origin` changes it.',
  }),
  'bandwidth_management.upload_limit_mbps': setting({
    kind: 'number',
    schema: limitMbps,
    initial: 0,
    env: [],
    about:
      'Most that is sent to peers together, in megabits a second. 0: no limit. `shoal limits --up` changes it.',
  }),
  'bandwidth_management.upload_per_peer_limit_mbps': setting({
    kind: 'number',
    schema: limitMbps,
    initial: 0,
    env: [],
    about:
      'Most that is sent to one peer, in megabits a second. 0: no limit. `shoal limits --up-per-peer` changes it.',
  }),
  'bandwidth_management.per_download_limit_mbps': setting({
    kind: 'number',
    schema: limitMbps,
    initial: 0,
    env: [],
    about:
      'Most that one file that is downloaded receives from all its sources, in megabits a second. 0: no limit. `shoal limits --per-download` changes it.',
  }),
  'bandwidth_management.time_based_limits.business_hours.start': setting({
    kind: 'text',
    schema: timeOfDay.optional(),
    initial: undefined,
    initialText: 'none',
    env: [],
    about: 'When business hours begin, by the clock of this host, as in `09:00`.',
  }),
  'bandwidth_management.time_based_limits.business_hours.end': setting({
    kind: 'text',
    schema: timeOfDay.optional(),
    initial: undefined,
    initialText: 'none',
    env: [],
    about: 'When they end. Before the start: on the next day.',
  }),
  'bandwidth_management.time_based_limits.business_hours.limit_mbps': setting({
    kind: 'number',
    schema: limitMbps,
    initial: 0,
    env: [],
    about:
      'Most that is received from peers and the origin together in business hours, in megabits a second. 0: no limit. The lowest of this and the other limits counts.',
  }),
  'bandwidth_management.time_based_limits.business_hours.days': setting({
    kind: 'list',
    schema: dayList,
    initial: ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'],
    env: [],
    about: 'Days on which business hours begin.',
  }),
  'bandwidth_management.time_based_limits.off_hours.limit_mbps': setting({
    kind: 'number',
    schema: limitMbps,
    initial: 0,
    env: [],
    about: 'The same at all other times. 0: no limit.',
  }),
  'bandwidth_management.monthly_origin_cap_gb': setting({
    kind: 'number',
    schema: amount(0, 1_000_000_000, 'gigabytes (1 GB = 1,000,000,000 bytes)'),
    initial: 0,
    env: [],
    about:
      'Most bytes of files that this host takes from the origin in a calendar month, in gigabytes (1,000,000,000 bytes). 0: no cap. The log warns at 80 %; once it is used up, peers go on.',
  }),
  'bandwidth_management.background': setting({
    kind: 'boolean',
    schema: flag,
    initial: false,
    env: [],
    about:
      'Take and give only what other traffic leaves of the links. `shoal limits --background` changes it.',
  }),
  'bandwidth_management.adaptive_limiting.enabled': setting({
    kind: 'boolean',
    schema: flag,
    initial: false,
    env: [],
    about: 'Look at how busy this host is; the next two say what for.',
  }),
  'bandwidth_management.adaptive_limiting.monitor_system_load': setting({
    kind: 'boolean',
    schema: flag,
    initial: true,
    env: [],
    about: 'Measure the load of other programs and show it in `shoal limits`.',
  }),
  'bandwidth_management.adaptive_limiting.reduce_on_high_load': setting({
    kind: 'boolean',
    schema: flag,
    initial: true,
    env: [],
    about:
      'Take and give less while other programs keep 90 % or more of the processors busy. Needs the one before.',
  }),
} as const

export type LimitSettingValues = SettingValues<typeof LIMIT_SETTINGS> & {
  readonly 'downloads.bandwidth_limit_mbps': number
  readonly 'mesh.serve_peers': boolean
}

/** Bandwidth limits at the start. */
export function limitsOf(values: LimitSettingValues): LimitValues {
  return {
    up: values['mesh.serve_peers'] ? rateOrNone(values['bandwidth_management.upload_limit_mbps']) : 0,
    upPerPeer: rateOrNone(values['bandwidth_management.upload_per_peer_limit_mbps']),
    down: rateOrNone(
      values['downloads.bandwidth_limit_mbps'],
      values['bandwidth_management.global_limit_mbps'],
    ),
    origin: rateOrNone(values['bandwidth_management.origin_limit_mbps']),
    perDownload: rateOrNone(values['bandwidth_management.per_download_limit_mbps']),
  }
}

/** @param problems gets a sentence for each combination that makes no sense */
export function limitRulesOf(values: LimitSettingValues, problems: string[]): LimitRules {
  const enabled = values['bandwidth_management.adaptive_limiting.enabled']
  const monitors = values['bandwidth_management.adaptive_limiting.monitor_system_load']
  const reduces = values['bandwidth_management.adaptive_limiting.reduce_on_high_load']
  if (enabled && reduces && !monitors)
    problems.push(
      'bandwidth_management.adaptive_limiting.reduce_on_high_load: needs monitor_system_load; turn both on or both off, received true',
    )
  const cap = values['bandwidth_management.monthly_origin_cap_gb']
  return {
    hours: hoursOf(values, problems),
    load: enabled && monitors ? { reduces } : undefined,
    background: values['bandwidth_management.background'],
    monthCapBytes: cap === 0 ? undefined : Math.floor(cap * GIGABYTE),
  }
}

function hoursOf(values: LimitSettingValues, problems: string[]): LimitRules['hours'] {
  const start = values[`${HOURS}.business_hours.start`]
  const end = values[`${HOURS}.business_hours.end`]
  const mbps = values[`${HOURS}.business_hours.limit_mbps`]
  const offMbps = values[`${HOURS}.off_hours.limit_mbps`]
  const offBytesPerSecond = rateOrNone(offMbps)
  if (start === undefined && end === undefined) {
    if (mbps !== 0)
      problems.push(
        `${HOURS}.business_hours: a limit needs start and end, as in "09:00" and "17:00", received ${mbps}`,
      )
    return offBytesPerSecond === undefined ? undefined : { business: undefined, offBytesPerSecond }
  }
  if (start === undefined || end === undefined) {
    problems.push(`${HOURS}.business_hours: start and end belong together, received one of them`)
    return undefined
  }
  if (start === end) {
    problems.push(
      `${HOURS}.business_hours: they end when they begin, which is never or always; for a limit that always holds use global_limit_mbps`,
    )
    return undefined
  }
  const days = values[`${HOURS}.business_hours.days`]
  return {
    business: {
      startMinute: start,
      endMinute: end,
      days: days.length === 0 ? EVERY_DAY : days,
      bytesPerSecond: rateOrNone(mbps),
    },
    offBytesPerSecond,
  }
}

/** The lowest of them that is a limit, in bytes a second. */
function rateOrNone(...megabits: readonly number[]): number | undefined {
  const limits = megabits.filter((mbps) => mbps > 0)
  return limits.length === 0 ? undefined : Math.min(...limits) * BYTES_PER_MEGABIT
}
