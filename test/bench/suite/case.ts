// What every case of the benchmark is given, and what it is. Shapes only.
import type { Contest } from './contest.ts'
import type { Place } from './places.ts'
import type { Scope } from './scope.ts'

export interface Given {
  /** Ends with the case. */
  readonly scope: Scope
  readonly sizeBytes: number
  readonly place: Place
  readonly smoke: boolean
  /** Settings for our agents, on top of the defaults. */
  readonly env: Readonly<Record<string, string>>
  /** Whether a rival was asked for. */
  wants(rival: string): boolean
}

export interface BenchCase {
  readonly name: string
  readonly about: string
  /** Says the same on every kind of disk. */
  readonly once?: boolean
  /** Part of the smoke run. */
  readonly smoke?: boolean
  prepare(given: Given): Promise<readonly Contest[]>
}

export const MIB = 1024 * 1024
export const MB = 1_000_000
export const REPO = 'bench/one'
export const FILE = 'model.bin'
