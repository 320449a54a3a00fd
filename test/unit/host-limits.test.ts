// The limits of a host together: the lowest counts and says why, hours change by themselves, and the month is counted over restarts.
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { HostLimits, type LimitRules } from '@shoal/agent/host-limits.ts'
import { type LimitValues, NO_LIMITS } from '@shoal/agent/limits-port.ts'
import { silentLog } from '@shoal/agent/log.ts'
import { MONTH_FILE } from '@shoal/agent/origin-month.ts'
import { EVERY_DAY } from '@shoal/agent/plan/limit-hours.ts'
import { eventually } from '../support/agent-process.ts'
import { atEnd } from '../support/cleanups.ts'
import { tempFolder } from '../support/temp-folder.ts'
import { virtualClock } from '../support/virtual-clock.ts'

const MB = 1_000_000
const NO_RULES: LimitRules = {
  hours: undefined,
  load: undefined,
  background: false,
  monthCapBytes: undefined,
}
const OFFICE: LimitRules['hours'] = {
  business: { startMinute: 9 * 60, endMinute: 17 * 60, days: EVERY_DAY, bytesPerSecond: 2 * MB },
  offBytesPerSecond: 10 * MB,
}

interface Given {
  readonly values?: Partial<LimitValues>
  readonly rules?: Partial<LimitRules>
  /** Local time at the start. */
  readonly at?: Date
  readonly storagePath?: string
}

async function limitsOf(t: TestContext, { values, rules, at, storagePath }: Given = {}) {
  const clock = virtualClock(0, (at ?? new Date(2026, 2, 10, 8)).getTime())
  const warnings: string[] = []
  const machine = { loadAverage: 0, processors: 2, cpuMs: 0 }
  const path = storagePath ?? (await tempFolder(t))
  const limits = new HostLimits(
    { ...NO_LIMITS, ...values },
    { ...NO_RULES, ...rules },
    {
      clock,
      log: { ...silentLog, warn: (_fields, message) => warnings.push(message) },
      machine: {
        loadAverage: () => machine.loadAverage,
        processors: machine.processors,
        ownCpuMs: () => machine.cpuMs,
      },
      peers: () => [],
      storagePath: path,
      onFailure: (name, error) => assert.fail(`${name}: ${error}`),
    },
  )
  await limits.start()
  atEnd(t, () => limits.stop())
  return { clock, limits, warnings, machine, storagePath: path }
}

test('the limit of the hour holds within a second of the hour, and says when it changes next', async (t) => {
  const { clock, limits } = await limitsOf(t, {
    rules: { hours: OFFICE },
    at: new Date(2026, 2, 10, 8, 59, 50),
  })
  const nine = new Date(2026, 2, 10, 9).getTime()
  assert.deepEqual(limits.status().inForce.down, { bytesPerSecond: 10 * MB, because: 'hours' })
  assert.deepEqual(limits.status().hours, {
    now: 'off',
    bytesPerSecond: 10 * MB,
    next: { at: nine, bytesPerSecond: 2 * MB },
  })
  await clock.advance(9_000)
  assert.equal(limits.paces.effective().down, 10 * MB)
  await clock.advance(2_000)
  assert.equal(limits.paces.effective().down, 2 * MB)
  assert.equal(limits.status().hours?.next?.at, new Date(2026, 2, 10, 17).getTime())
})

test('a clock that is set moves the hours with it', async (t) => {
  const { clock, limits } = await limitsOf(t, { rules: { hours: OFFICE } })
  clock.setWallTime(new Date(2026, 2, 10, 12).getTime())
  await clock.advance(1_000)
  assert.equal(limits.paces.effective().down, 2 * MB)
})

test('of the limit that was set and that of the hour the lower one counts, also when one is changed', async (t) => {
  const { limits } = await limitsOf(t, {
    rules: { hours: OFFICE },
    values: { down: 5 * MB },
    at: new Date(2026, 2, 10, 20),
  })
  assert.deepEqual(limits.status().inForce.down, { bytesPerSecond: 5 * MB, because: 'set' })
  assert.deepEqual(limits.change({ down: 50 * MB }).inForce.down, {
    bytesPerSecond: 10 * MB,
    because: 'hours',
  })
  assert.deepEqual(limits.change({ down: undefined }).inForce.down, {
    bytesPerSecond: 10 * MB,
    because: 'hours',
  })
  assert.equal(limits.status().values.down, undefined)
})

test('with the cap of the month used up nothing may come, until the next month', async (t) => {
  const { clock, limits, warnings } = await limitsOf(t, {
    rules: { monthCapBytes: 10 * MB },
    at: new Date(2026, 11, 31, 23, 59),
  })
  limits.origin.onBytes(7 * MB)
  assert.equal(warnings.length, 0)
  limits.origin.onBytes(1 * MB)
  limits.origin.onBytes(1 * MB)
  assert.deepEqual(warnings, ["80 % of the month's bytes from the origin are used"])
  assert.equal(limits.origin.closed(), undefined)
  limits.origin.onBytes(1 * MB)
  const refused = limits.origin.closed()
  assert.equal(refused?.code, 'origin-rate-limited')
  assert.match(refused.message, /used up .*again on 2027-01-01 00:00\. Peers go on/)
  assert.equal(refused.details.retryAfterMs, 60_000)
  assert.equal(limits.status().month.usedShare, 1)
  await clock.advance(61_000)
  assert.equal(limits.origin.closed(), undefined)
  assert.deepEqual([limits.status().month.month, limits.status().month.usedBytes], ['2027-01', 0])
})

test('the count of the month is on disk within seconds, outlives a crash, and ends with the month', async (t) => {
  const first = await limitsOf(t)
  first.limits.origin.onBytes(3 * MB)
  await first.clock.advance(5_000)
  const file = join(first.storagePath, MONTH_FILE)
  await eventually('the count is written', async () => existsSync(file))
  const text = await readFile(file, 'utf8')
  assert.deepEqual(JSON.parse(text), { month: '2026-03', usedBytes: 3 * MB })
  // No stop: the process was killed.
  const { storagePath } = first
  const second = await limitsOf(t, { storagePath, at: new Date(2026, 2, 31) })
  assert.equal(second.limits.status().month.usedBytes, 3 * MB)
  second.limits.origin.onBytes(1)
  await second.limits.stop()
  assert.equal((await limitsOf(t, { storagePath })).limits.status().month.usedBytes, 3 * MB + 1)
  assert.equal(
    (await limitsOf(t, { storagePath, at: new Date(2026, 3, 1) })).limits.status().month.usedBytes,
    0,
  )
})

test('a count that makes no sense is not taken for one, and the log says so', async (t) => {
  const storagePath = await tempFolder(t)
  await writeFile(join(storagePath, MONTH_FILE), '{"month":"2026-03","usedBytes":-5}')
  const { limits, warnings } = await limitsOf(t, { storagePath })
  assert.equal(limits.status().month.usedBytes, 0)
  assert.equal(warnings.length, 1)
})

test('a busy host takes and gives less, its own work aside, and as much as before when it is quiet again', async (t) => {
  const { clock, limits, machine } = await limitsOf(t, { rules: { load: { reduces: true } } })
  const seconds = async (count: number, bytesEach: number) => {
    for (let done = 0; done < count; done++) {
      limits.paces.downloads.pass(bytesEach, new AbortController().signal)?.catch(() => {})
      machine.cpuMs += 1_000
      await clock.advance(1_000)
    }
  }
  machine.loadAverage = 1
  await seconds(120, 10 * MB)
  assert.equal(limits.status().inForce.down.because, 'none', 'its own work is no reason')
  assert.ok((limits.status().load?.foreignLoad ?? 9) < 0.3)
  machine.loadAverage = 4
  await seconds(6, 10 * MB)
  const reduced = limits.status().inForce.down
  assert.equal(reduced.because, 'load')
  assert.ok((reduced.bytesPerSecond ?? 0) <= 7 * MB)
  machine.loadAverage = 1
  await seconds(300, 1 * MB)
  assert.equal(limits.status().inForce.down.because, 'none')
})

test('load that is only watched reduces nothing', async (t) => {
  const { clock, limits, machine } = await limitsOf(t, { rules: { load: { reduces: false } } })
  machine.loadAverage = 9
  await clock.advance(20_000)
  assert.equal(limits.status().inForce.down.because, 'none')
  assert.equal(limits.status().load?.foreignLoad, 4.5)
})

test('background mode sets a ceiling while it is on, and lifts it when it is switched off', async (t) => {
  const { limits } = await limitsOf(t, { values: { down: 100 * MB } })
  assert.equal(limits.change({ background: true }).inForce.down.because, 'background')
  assert.equal(limits.status().background.enabled, true)
  assert.deepEqual(limits.change({ background: false }).inForce.down, {
    bytesPerSecond: 100 * MB,
    because: 'set',
  })
})
