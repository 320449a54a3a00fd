// All limits of this host together: what the operator set, the hour, the month, the load and background mode. Looks at each in its own
// time and sets ceilings; what moves bytes knows only the paces. Decisions are in plan/.
import { join } from 'node:path'
import type { ShoalError } from '@shoal/protocol/errors.ts'
import { createTasks, type Service, type Tasks } from '@shoal/protocol/service.ts'
import { type Clock, sleep } from '@shoal/protocol/time.ts'
import { BackgroundMode } from './background-mode.ts'
import type { WayTarget } from './connect-delay.ts'
import { BandwidthLimits } from './limits.ts'
import type { HoursStatus, Limits, LimitsChange, LimitsStatus, LimitValues } from './limits-port.ts'
import type { Log } from './log.ts'
import type { PeerStatus } from './net/mesh.ts'
import { MONTH_FILE, OriginMonth } from './origin-month.ts'
import { hourLimit, type LimitHours, type LocalTime, nextHourLimit } from './plan/limit-hours.ts'
import { ForeignLoad, LOAD_STEP_MS, LoadLimit } from './plan/load-limit.ts'

/** A change of the hour holds within this. */
const HOUR_TICK_MS = 250
const SAVE_MS = 3_000

export interface LimitRules {
  readonly hours: LimitHours | undefined
  /** undefined: load is not looked at. */
  readonly load: { readonly reduces: boolean } | undefined
  readonly background: boolean
  readonly monthCapBytes: number | undefined
}

export interface OriginWatch {
  /** Why no bytes of files may be taken now; undefined: they may. */
  closed(): ShoalError | undefined
  /** Bytes of files as they arrive, wanted or not. */
  onBytes(bytes: number): void
  /** A connection to an origin was opened for bytes of files. */
  onConnected(address: string, port: number): void
}

/** How busy this machine is, and this program's part in it. */
export interface MachineLoad {
  /** Of the last minute, as the kernel counts it. */
  loadAverage(): number
  readonly processors: number
  /** Processor time of this program since its start. */
  ownCpuMs(): number
}

export interface HostLimitsDeps {
  readonly clock: Clock
  readonly log: Log
  readonly machine: MachineLoad
  readonly peers: () => readonly PeerStatus[]
  readonly storagePath: string
  readonly onFailure: (name: string, error: unknown) => void
}

export class HostLimits implements Limits, Service {
  readonly name = 'limits'
  readonly paces: BandwidthLimits
  /** What the client of the origin tells and asks. */
  readonly origin: OriginWatch
  readonly #month: OriginMonth
  readonly #rules: LimitRules
  readonly #deps: HostLimitsDeps
  readonly #background: BackgroundMode
  readonly #foreign = new ForeignLoad()
  #foreignLoad: number | undefined
  #origin: WayTarget | undefined
  #tasks: Tasks | undefined

  /** @throws ShoalError `bad-request` */
  constructor(initial: LimitValues, rules: LimitRules, deps: HostLimitsDeps) {
    const { clock, log } = deps
    this.#rules = rules
    this.#deps = deps
    this.paces = new BandwidthLimits(initial, clock)
    this.#month = new OriginMonth(
      { path: join(deps.storagePath, MONTH_FILE), capBytes: rules.monthCapBytes },
      clock,
      log,
    )
    this.origin = {
      closed: this.#month.closed,
      onBytes: this.#month.add,
      onConnected: (address, port) => {
        this.#origin = { address, port }
      },
    }
    this.#background = new BackgroundMode({
      limits: this.paces,
      peers: deps.peers,
      origin: () => this.#origin,
      clock,
      log,
    })
    this.#applyHours()
  }

  async start(): Promise<void> {
    if (this.#tasks !== undefined) return
    await this.#month.load()
    const { onFailure } = this.#deps
    this.#tasks = createTasks(onFailure)
    if (this.#rules.hours !== undefined)
      this.#every('follow the hours', HOUR_TICK_MS, () => this.#applyHours())
    if (this.#rules.load !== undefined) this.#watchLoad()
    this.#background.set(this.#rules.background)
    this.#tasks.run('yield to others', (signal) => this.#background.run(signal))
    this.#every('count the month', SAVE_MS, () => this.#month.save())
  }

  async stop(): Promise<void> {
    const tasks = this.#tasks
    this.#tasks = undefined
    await tasks?.stop()
    await this.#month.save()
  }

  status(): LimitsStatus {
    const { paces } = this
    return {
      values: paces.values(),
      inForce: { up: paces.inForce('up'), down: paces.inForce('down'), origin: paces.inForce('origin') },
      hours: this.#hours(),
      load:
        this.#rules.load === undefined
          ? undefined
          : { foreignLoad: this.#foreignLoad, reduces: this.#rules.load.reduces },
      background: this.#background.status,
      month: this.#month.status(),
    }
  }

  change({ background, ...values }: LimitsChange): LimitsStatus {
    this.paces.change(values)
    if (background !== undefined) this.#background.set(background)
    return this.status()
  }

  /** What holds now, for whoever plans with it. */
  values(): LimitValues {
    return this.paces.effective()
  }

  #every(name: string, ms: number, work: () => void | Promise<void>): void {
    this.#tasks?.run(name, async (signal) => {
      for (;;) {
        await sleep(this.#deps.clock, ms, signal)
        await work()
      }
    })
  }

  #applyHours(): void {
    const { hours } = this.#rules
    if (hours === undefined) return
    const { bytesPerSecond } = hourLimit(hours, localTime(this.#deps.clock.wallTime()))
    this.paces.setCeiling('down', 'hours', bytesPerSecond)
  }

  #hours(): HoursStatus | undefined {
    const { hours } = this.#rules
    if (hours === undefined) return undefined
    const now = this.#deps.clock.wallTime()
    const { part, bytesPerSecond } = hourLimit(hours, localTime(now))
    const next = nextHourLimit(hours, now, localTime)
    return {
      now: part,
      bytesPerSecond,
      next: next === undefined ? undefined : { at: next.at, bytesPerSecond: next.bytesPerSecond },
    }
  }

  #watchLoad(): void {
    const { machine, clock, log } = this.#deps
    const limits = { up: new LoadLimit(), down: new LoadLimit() }
    const last = { ...this.paces.passed }
    this.#every('watch the load', LOAD_STEP_MS, () => {
      const { passed } = this.paces
      const load = this.#foreign.sample(
        machine.loadAverage(),
        machine.processors,
        machine.ownCpuMs(),
        clock.now(),
      )
      this.#foreignLoad = load
      for (const kind of ['up', 'down'] as const) {
        const flowing = ((passed[kind] - last[kind]) * 1_000) / LOAD_STEP_MS
        last[kind] = passed[kind]
        if (load === undefined || this.#rules.load?.reduces !== true) continue
        const before = limits[kind].bytesPerSecond
        const rate = limits[kind].sample(load, flowing)
        this.paces.setCeiling(kind, 'load', rate)
        if ((rate === undefined) !== (before === undefined))
          log.info(
            { kind, load, rate: rate ?? null },
            rate === undefined ? 'load is low again' : 'load is high',
          )
      }
    })
  }
}

/** The wall clock of this host. */
function localTime(ms: number): LocalTime {
  const date = new Date(ms)
  return { day: date.getDay(), minute: date.getHours() * 60 + date.getMinutes() }
}
