// Programs as processes, and what they cost, from /proc: processor seconds of a process and all below it, and the most memory it
// had resident. Linux only, as the rivals are.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { atEnd } from '../../support/cleanups.ts'
import type { Ending } from './scope.ts'

const TICKS_PER_SECOND = 100
const PEAK_SAMPLE_MS = 100
/** Fields of /proc/PID/stat after the name, which may hold blanks. */
const [PPID, UTIME, STIME, CUTIME, CSTIME] = [1, 11, 12, 13, 14] as const

async function statOf(pid: number | 'self'): Promise<readonly string[]> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8')
  return text.slice(text.lastIndexOf(')') + 2).split(' ')
}

interface Found {
  readonly pid: number
  readonly stat: readonly string[]
}

/** A process and all below it that live. */
async function treeOf(root: number): Promise<readonly Found[]> {
  const all: Found[] = []
  for (const name of await readdir('/proc'))
    if (/^\d+$/.test(name)) {
      const stat = await statOf(Number(name)).catch(() => undefined)
      if (stat !== undefined) all.push({ pid: Number(name), stat })
    }
  const below = (pid: number): readonly Found[] =>
    all.filter(({ stat }) => Number(stat[PPID]) === pid).flatMap((one) => [one, ...below(one.pid)])
  return [...all.filter(({ pid }) => pid === root), ...below(root)]
}

/** Processor seconds of a process, of those below it, and of those below it that have ended. */
export async function treeSeconds(root: number): Promise<number> {
  let ticks = 0
  for (const { stat } of await treeOf(root))
    for (const field of [UTIME, STIME, CUTIME, CSTIME]) ticks += Number(stat[field] ?? 0)
  return ticks / TICKS_PER_SECOND
}

/** Of the children of this process that have ended: the difference is what one cost that started and ended in between. */
export async function endedSeconds(): Promise<number> {
  const stat = await statOf('self')
  return (Number(stat[CUTIME]) + Number(stat[CSTIME])) / TICKS_PER_SECOND
}

/** Most bytes that a process ever had resident, and those below it that live, each at its own time. */
export async function peakBytes(root: number): Promise<number> {
  let bytes = 0
  for (const { pid } of await treeOf(root)) bytes += await ownPeakBytes(pid)
  return bytes
}

async function ownPeakBytes(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
  return Number(/VmHWM:\s+(\d+) kB/.exec(text)?.[1] ?? 0) * 1024
}

export interface Program {
  readonly pid: number
  readonly child: ChildProcess
  /** Resolves with the next line of standard output that starts with `start`. @throws when it ends before */
  said(start: string): Promise<string>
  tell(line: string): void
  /** Resolves with standard output. @throws Error unless the exit code is 0 */
  done(): Promise<string>
  /** Most bytes resident, sampled: of one that has ended, the last sample. */
  peakBytes(): number
}

export interface ProgramOptions {
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  /** Of a program that has others below it, which would stay: one that it obeys. */
  readonly stopSignal?: NodeJS.Signals
}

/** Starts a program that ends, at the latest, with the scope. */
export function startProgram(
  scope: Ending,
  command: string,
  args: readonly string[],
  options: ProgramOptions = {},
): Program {
  const child = spawn(command, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: { ...process.env, ...options.env },
  })
  const stop = new AbortController()
  const exited = new Promise<number | NodeJS.Signals>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve(code ?? signal ?? -1))
  })
  exited.catch(() => {})
  // What it leaves behind may hold its pipes open, so that it never closes.
  const gone = once(child, 'exit').catch(() => {})
  let errors = ''
  child.stderr.on('data', (piece: Buffer) => {
    errors = (errors + piece.toString()).slice(-4096)
  })
  child.stdin.on('error', () => {})
  const lines: string[] = []
  const waiters: { readonly start: string; readonly resolve: (line: string) => void }[] = []
  createInterface({ input: child.stdout }).on('line', (line) => {
    lines.push(line)
    for (const { start, resolve } of waiters) if (line.startsWith(start)) resolve(line)
  })
  const endOf = async (): Promise<never> => {
    const code = await exited
    throw new Error(`${command} ended with ${code}: ${errors.trim()}`)
  }
  let peak = 0
  const watched = watchPeak(child.pid ?? 0, stop.signal, (bytes) => {
    peak = Math.max(peak, bytes)
  })
  atEnd(scope, async () => {
    stop.abort()
    if (child.exitCode === null && child.signalCode === null) child.kill(options.stopSignal ?? 'SIGKILL')
    if (child.pid !== undefined) await gone
    await watched
  })
  return {
    pid: child.pid ?? 0,
    child,
    said(start) {
      const line = lines.find((one) => one.startsWith(start))
      if (line !== undefined) return Promise.resolve(line)
      const heard = new Promise<string>((resolve) => {
        waiters.push({ start, resolve })
      })
      return Promise.race([heard, endOf()])
    },
    tell: (line) => {
      child.stdin.write(`${line}\n`)
    },
    async done() {
      if ((await exited) !== 0) return endOf()
      return lines.join('\n')
    },
    peakBytes: () => peak,
  }
}

async function watchPeak(pid: number, signal: AbortSignal, seen: (bytes: number) => void): Promise<void> {
  while (!signal.aborted) {
    const bytes = await ownPeakBytes(pid)
    if (bytes === 0) return
    seen(bytes)
    await sleep(systemClock, PEAK_SAMPLE_MS, signal).catch(() => {})
  }
}

/** Why a program cannot be run; undefined when it can. @param args that make it end at once */
export async function whyNotProgram(
  command: string,
  args: readonly string[] = ['--version'],
): Promise<string | undefined> {
  return (await firstLine(command, args)) === undefined ? `${command} is not installed` : undefined
}

/** First line that a program prints, for its version; undefined when it cannot be run. */
export async function firstLine(command: string, args: readonly string[]): Promise<string | undefined> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let text = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (piece: Buffer) => {
      text += piece.toString()
    })
  try {
    const [code] = await once(child, 'close')
    return code === 0 ? (text.split('\n')[0] ?? '') : undefined
  } catch {
    return undefined
  }
}
