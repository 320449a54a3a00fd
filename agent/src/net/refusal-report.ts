// Tells the operator of connections that were not admitted. Strangers must not fill the log: at most one line in so long,
// with the count of what it stands for.
import type { Clock } from '@shoal/protocol/time.ts'
import type { MeshLog } from './mesh-log.ts'

const REPORT_MS = 10_000

export class RefusalReport {
  readonly #clock: Clock
  readonly #log: MeshLog
  #count = 0
  #unreported = 0
  #reportedAt = Number.NEGATIVE_INFINITY

  constructor(clock: Clock, log: MeshLog) {
    this.#clock = clock
    this.#log = log
  }

  get count(): number {
    return this.#count
  }

  refused(remote: string, role: string, reason: string): void {
    this.#count++
    this.#unreported++
    const now = this.#clock.now()
    if (now - this.#reportedAt < REPORT_MS) return
    const fields = { count: this.#unreported, remote, role, reason }
    this.#log('warn', 'connections refused at admission', fields)
    this.#reportedAt = now
    this.#unreported = 0
  }
}
