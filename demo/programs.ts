// Starts the agent and the coordinator as the processes they are in production, and stops them. Knows their ready files,
// nothing of what they do.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Clock, sleep } from '@shoal/protocol/time.ts'

export interface Program {
  readonly name: string
  /** Base URL of its HTTP. */
  readonly http: string
  /** Addresses peers can dial; none for a coordinator. */
  readonly p2p: readonly string[]
  readonly pid: number
  /** Ends in order, or after a while by force. */
  stop(): Promise<void>
}

export interface Launch {
  readonly clock: Clock
  readonly name: string
  readonly kind: 'agent' | 'coordinator'
  /** Its own folder: working directory, log and ready file. */
  readonly folder: string
  readonly env: Readonly<Record<string, string>>
  readonly signal: AbortSignal
  /** Told when it ends after it was ready and before it was asked to. */
  readonly onEnd: (error: Error) => void
}

const READY_TIMEOUT_MS = 30_000
const READY_POLL_MS = 25
const STOP_TIMEOUT_MS = 15_000
const LOG_LINES = 15
const PROGRAMS = {
  agent: { file: fileURLToPath(new URL('../agent/bin/shoal.js', import.meta.url)), command: 'agent' },
  coordinator: {
    file: fileURLToPath(new URL('../coordinator/bin/shoal-coordinator.js', import.meta.url)),
    command: 'serve',
  },
}

/** Resolves when the program has written its ready file. @throws Error with the end of its log when it ends before */
export async function launch(options: Launch): Promise<Program> {
  const { clock, name, folder, signal } = options
  await mkdir(folder, { recursive: true })
  const readyFile = join(folder, 'ready.json')
  const logFile = join(folder, 'log')
  const { file, command } = PROGRAMS[options.kind]
  const child = spawn(process.execPath, [file, command, '--ready-file', readyFile], {
    cwd: folder,
    env: options.env,
    stdio: ['ignore', 'pipe', 'pipe'],
    // A Ctrl-C in the terminal is for the demo, which then stops its programs in order.
    detached: process.platform !== 'win32',
  })
  const log = createWriteStream(logFile)
  child.stdout.pipe(log, { end: false })
  child.stderr.pipe(log, { end: false })
  let watched = false
  const ended = once(child, 'close').then(() => {
    log.end()
    if (watched) options.onEnd(new Error(`${name} ended by itself (${exitOf(child)})`))
  })
  const stop = async () => {
    watched = false
    await stopProcess(clock, child, ended)
  }
  try {
    const ready = await untilReady(clock, child, readyFile, signal)
    watched = true
    return { name, http: ready.http, p2p: ready.p2p ?? [], pid: child.pid ?? 0, stop }
  } catch (error) {
    await stop()
    if (signal.aborted) throw error
    const text = await readFile(logFile, 'utf8').catch(() => '')
    const lines = text.trim().split('\n').slice(-LOG_LINES).join('\n')
    throw new Error(`${name} did not start (${exitOf(child)}); the end of its log:\n${lines}`, {
      cause: error,
    })
  }
}

interface Ready {
  readonly http: string
  readonly p2p?: readonly string[]
}

async function untilReady(
  clock: Clock,
  child: ChildProcess,
  file: string,
  signal: AbortSignal,
): Promise<Ready> {
  const endsAt = clock.now() + READY_TIMEOUT_MS
  while (child.exitCode === null && child.signalCode === null) {
    const ready = await readReady(file)
    if (ready !== undefined) return ready
    if (clock.now() > endsAt) throw new Error(`no ready file after ${READY_TIMEOUT_MS / 1000} s`)
    await sleep(clock, READY_POLL_MS, signal)
  }
  throw new Error(exitOf(child))
}

/** undefined while there is none, or half of one. */
async function readReady(file: string): Promise<Ready | undefined> {
  try {
    const json: unknown = JSON.parse(await readFile(file, 'utf8'))
    return typeof json === 'object' && json !== null && 'http' in json ? (json as Ready) : undefined
  } catch {
    return undefined
  }
}

async function stopProcess(clock: Clock, child: ChildProcess, ended: Promise<void>): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
  const cancel = clock.after(STOP_TIMEOUT_MS, () => child.kill('SIGKILL'))
  await ended
  cancel()
}

function exitOf({ exitCode, signalCode }: ChildProcess): string {
  if (signalCode !== null) return signalCode
  return exitCode === null ? 'still running' : `exit code ${exitCode}`
}
