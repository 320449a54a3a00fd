// PURE. Which limit holds at which time of day, and when the next one begins. By the wall clock of the place: on the day that clocks
// change, 09:00 is 09:00. Reads no clock; who sets the rate is not its business.

/** Local time: what a clock on the wall shows. */
export interface LocalTime {
  /** 0 is Sunday. */
  readonly day: number
  /** Minutes since midnight, 0 to 1439. */
  readonly minute: number
}

export interface BusinessHours {
  /** Minutes since midnight. The end is not part of them; an end before the start lies on the next day. Never the same. */
  readonly startMinute: number
  readonly endMinute: number
  /** Days on which they begin; 0 is Sunday. */
  readonly days: readonly number[]
  readonly bytesPerSecond: number | undefined
}

export interface LimitHours {
  readonly business: BusinessHours | undefined
  /** At all other times; undefined: no limit then. */
  readonly offBytesPerSecond: number | undefined
}

export interface HourLimit {
  readonly part: 'business' | 'off'
  readonly bytesPerSecond: number | undefined
}

export const EVERY_DAY: readonly number[] = [0, 1, 2, 3, 4, 5, 6]
const DAY_MINUTES = 24 * 60
const MINUTE_MS = 60_000
/** A week and a day: whatever changes at all changes within it. */
const LOOK_AHEAD_MINUTES = 8 * DAY_MINUTES

export function hourLimit({ business, offBytesPerSecond }: LimitHours, local: LocalTime): HourLimit {
  if (business !== undefined && isWithin(business, local))
    return { part: 'business', bytesPerSecond: business.bytesPerSecond }
  return { part: 'off', bytesPerSecond: offBytesPerSecond }
}

function isWithin({ startMinute, endMinute, days }: BusinessHours, { day, minute }: LocalTime): boolean {
  if (startMinute < endMinute) return days.includes(day) && minute >= startMinute && minute < endMinute
  if (minute >= startMinute) return days.includes(day)
  // Past midnight: hours that began yesterday.
  return minute < endMinute && days.includes((day + 6) % 7)
}

export interface NextHourLimit extends HourLimit {
  /** Unix milliseconds. */
  readonly at: number
}

/**
 * The next change of part. Every zone's minutes begin with those of UTC.
 * @param toLocal the wall clock of the place at a Unix time in milliseconds
 * @returns undefined when there is none
 */
export function nextHourLimit(
  hours: LimitHours,
  nowMs: number,
  toLocal: (ms: number) => LocalTime,
): NextHourLimit | undefined {
  const { part } = hourLimit(hours, toLocal(nowMs))
  const first = (Math.floor(nowMs / MINUTE_MS) + 1) * MINUTE_MS
  for (let minutes = 0; minutes < LOOK_AHEAD_MINUTES; minutes++) {
    const at = first + minutes * MINUTE_MS
    const then = hourLimit(hours, toLocal(at))
    if (then.part !== part) return { ...then, at }
  }
  return undefined
}

/** `09:00` to minutes since midnight; `24:00` is midnight. undefined: not a time of day. */
export function minuteOfDay(text: string): number | undefined {
  const match = /^(\d{1,2}):(\d{2})$/.exec(text)
  const [hour, minute] = [Number(match?.[1]), Number(match?.[2])]
  if (match === null || minute > 59 || hour > 24 || (hour === 24 && minute > 0)) return undefined
  return (hour * 60 + minute) % DAY_MINUTES
}
