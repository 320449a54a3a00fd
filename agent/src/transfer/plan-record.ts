// Writes down what a plan is told and what it decides, a line each, so that a run can be replayed: for reports of problems, and for the
// test that the simulation runs the same decisions. Changes nothing about them.
import { createWriteStream, type WriteStream } from 'node:fs'
import { ChunkMap } from '@shoal/protocol/chunks.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { DownloadPlan, type PlanSettings } from '../plan/download-plan.ts'
import type { SourceScores } from '../plan/source-score.ts'

/** A record that has grown to this size is not continued. */
const MAX_RECORD_BYTES = 256 * 1024 * 1024

/** One line: `new` with the plan's settings, or a call with its arguments and, where it decides something, what it gave back. */
export interface PlanLine {
  readonly plan: number
  readonly call: string
  readonly args: readonly unknown[]
  readonly result?: unknown
}

type MakePlan = (settings: PlanSettings, scores: SourceScores) => DownloadPlan

export class PlanRecorder {
  readonly #file: WriteStream
  #bytes = 0
  #plans = 0

  /** @param onError called when the file cannot be written; nothing more is recorded then */
  constructor(path: string, onError: (error: Error) => void) {
    this.#file = createWriteStream(path, { flags: 'a', mode: 0o600 })
    this.#file.on('error', (error) => {
      this.#bytes = MAX_RECORD_BYTES
      onError(error)
    })
  }

  readonly makePlan: MakePlan = (settings, scores) => {
    const plan = ++this.#plans
    this.#write({ plan, call: 'new', args: [settings] })
    return new Proxy(new DownloadPlan(settings, scores), {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name, target)
        if (typeof member !== 'function' || typeof name !== 'string') return member
        return (...given: unknown[]) => {
          const args = given.map(written)
          const result: unknown = Reflect.apply(member, target, given)
          if (!QUESTIONS.has(name)) this.#write({ plan, call: name, args, result })
          return result
        }
      },
    })
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve) => this.#file.end(() => resolve()))
  }

  #write(line: PlanLine): void {
    if (this.#bytes >= MAX_RECORD_BYTES) return
    const text = `${JSON.stringify({ ...line, args: line.args.map(written), result: written(line.result) })}\n`
    this.#bytes += Buffer.byteLength(text)
    this.#file.write(text)
  }
}

/** What only asks and changes nothing is not written down. */
const QUESTIONS: ReadonlySet<string> = new Set(['knowsPeer', 'peerCount', 'originClaims'])

/** A value as JSON has it: chunk maps as their count and base64, infinities by name, iterables as lists. */
function written(value: unknown): unknown {
  if (value instanceof ChunkMap)
    return { chunks: value.chunkCount, map: Buffer.from(value.encode()).toString('base64') }
  if (value === Number.POSITIVE_INFINITY) return 'infinite'
  if (Array.isArray(value)) return value.map(written)
  if (value === null || typeof value !== 'object') return value
  if (Symbol.iterator in value) return [...(value as Iterable<unknown>)].map(written)
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, written(inner)]))
}

/** The inverse of how arguments are written. */
export function readBack(value: unknown): unknown {
  if (value === 'infinite') return Number.POSITIVE_INFINITY
  if (Array.isArray(value)) return value.map(readBack)
  if (value === null || typeof value !== 'object') return value
  const entries = Object.entries(value)
  const { chunks, map } = Object.fromEntries(entries)
  if (typeof chunks === 'number' && typeof map === 'string')
    return ChunkMap.decode(Buffer.from(map, 'base64'), chunks)
  return Object.fromEntries(entries.map(([key, inner]) => [key, readBack(inner)]))
}

/** @throws ShoalError `bad-message` for a line that is none */
export function parsePlanLine(text: string): PlanLine {
  const line: unknown = JSON.parse(text)
  if (
    typeof line !== 'object' ||
    line === null ||
    !('plan' in line) ||
    !('call' in line) ||
    !('args' in line)
  )
    throw new ShoalError('bad-message', 'not a line of a record of plans')
  return line as PlanLine
}
