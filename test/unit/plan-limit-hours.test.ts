// Limits by the hour: which one holds, over midnight, by days, and when the next begins, also on days when clocks change.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type BusinessHours,
  EVERY_DAY,
  hourLimit,
  type LimitHours,
  type LocalTime,
  minuteOfDay,
  nextHourLimit,
} from '@shoal/agent/plan/limit-hours.ts'
import { seededRandom } from '@shoal/protocol/time.ts'
import { seeds } from '../support/seed.ts'

const MINUTE = 60_000
const DAY = 24 * 60
const FRIDAY = 5

function hours(start: string, end: string, days: BusinessHours['days'] = EVERY_DAY): LimitHours {
  return {
    business: { startMinute: at(start), endMinute: at(end), days, bytesPerSecond: 20 },
    offBytesPerSecond: 100,
  }
}

function at(text: string): number {
  return minuteOfDay(text) ?? assert.fail(text)
}

function partAt(rules: LimitHours, day: number, time: string): string {
  return hourLimit(rules, { day, minute: at(time) }).part
}

/** The wall clock of a zone, from its jumps: at each moment the offset from UTC changes. */
function zone(jumps: readonly (readonly [fromMs: number, offsetMinutes: number])[]) {
  return (ms: number): LocalTime => {
    const offset = jumps.findLast(([from]) => ms >= from)?.[1] ?? 0
    const minutes = Math.floor(ms / MINUTE) + offset
    return { day: (4 + Math.floor(minutes / DAY)) % 7, minute: ((minutes % DAY) + DAY) % DAY }
  }
}

test('business hours hold from their start until just before their end', () => {
  const rules = hours('09:00', '17:00')
  assert.deepEqual(
    ['08:59', '09:00', '16:59', '17:00', '00:00'].map((time) => partAt(rules, 1, time)),
    ['off', 'business', 'business', 'off', 'off'],
  )
  assert.deepEqual(hourLimit(rules, { day: 1, minute: at('12:00') }), {
    part: 'business',
    bytesPerSecond: 20,
  })
  assert.deepEqual(hourLimit(rules, { day: 1, minute: at('18:00') }), { part: 'off', bytesPerSecond: 100 })
})

test('hours over midnight belong to the day they begin on', () => {
  const rules = hours('22:00', '06:00', [FRIDAY])
  assert.deepEqual(
    [
      partAt(rules, FRIDAY, '05:00'),
      partAt(rules, FRIDAY, '22:00'),
      partAt(rules, 6, '05:59'),
      partAt(rules, 6, '06:00'),
      partAt(rules, 6, '23:00'),
    ],
    ['off', 'business', 'business', 'off', 'off'],
  )
})

test('the next change is the first moment at which another part holds, whatever the hours', (t) => {
  const utc = zone([])
  for (const seed of seeds(t, 30)) {
    const random = seededRandom(seed)
    const whole = (below: number) => Math.floor(random.next() * below)
    const startMinute = whole(DAY)
    const rules: LimitHours = {
      business: {
        startMinute,
        endMinute: (startMinute + 1 + whole(DAY - 1)) % DAY,
        days: EVERY_DAY.filter((day) => day === 3 || random.next() < 0.5),
        bytesPerSecond: 1,
      },
      offBytesPerSecond: 2,
    }
    const now = whole(20_000 * DAY) * MINUTE + whole(MINUTE)
    const part = hourLimit(rules, utc(now)).part
    const next = nextHourLimit(rules, now, utc) ?? assert.fail(`no change (SEED=${seed})`)
    assert.ok(next.at > now && next.at - now <= 8 * DAY * MINUTE)
    assert.notEqual(hourLimit(rules, utc(next.at)).part, part, `SEED=${seed}`)
    for (let ms = now; ms < next.at; ms += 7 * MINUTE)
      assert.equal(hourLimit(rules, utc(ms)).part, part, `SEED=${seed}`)
    assert.equal(hourLimit(rules, utc(next.at - 1)).part, part, `SEED=${seed}`)
  }
})

test('on the days that clocks change, hours begin when the clock on the wall says so', () => {
  // Clocks go from 02:00 to 03:00 at 01:00 UTC, and months later from 03:00 back to 02:00.
  const spring = Date.UTC(2026, 2, 29, 1)
  const autumn = Date.UTC(2026, 9, 25, 1)
  const berlin = zone([
    [0, 60],
    [spring, 120],
    [autumn, 60],
  ])
  const night = hours('02:30', '09:00')
  assert.equal(
    nextHourLimit(night, spring - 3 * 60 * MINUTE, berlin)?.at,
    spring,
    '02:30 does not exist: 03:00',
  )
  const day = hours('09:00', '17:00')
  assert.equal(nextHourLimit(day, spring - 60 * MINUTE, berlin)?.at, Date.UTC(2026, 2, 29, 7))
  assert.equal(nextHourLimit(day, autumn - 60 * MINUTE, berlin)?.at, Date.UTC(2026, 9, 25, 8))
})

test('hours that never change have no next change', () => {
  assert.equal(nextHourLimit({ business: undefined, offBytesPerSecond: 5 }, 0, zone([])), undefined)
})

test('only times of day are times of day', () => {
  assert.deepEqual(['0:00', '09:30', '23:59', '24:00'].map(minuteOfDay), [0, 570, 1439, 0])
  for (const text of ['24:01', '9', '9:5', '12:60', '', '-1:00', '12:00:00'])
    assert.equal(minuteOfDay(text), undefined, text)
})
