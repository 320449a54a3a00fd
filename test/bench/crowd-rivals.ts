// What netns-crowd.ts measures beside Shoal, on the same hosts: aria2 and libtorrent as BitTorrent, and curl from one HTTP server.
// Each runs from "all told" to "the last has the checked file". Chooses nothing in Shoal's favour: files in memory, peers known
// from the start, programs running before the clock does.
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, existsSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { pipeline } from 'node:stream/promises'
import type { TestContext } from 'node:test'
import { promisify } from 'node:util'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { seededContent } from '../support/local-hub/content.ts'
import type { NetHost, Netns } from '../support/netns.ts'
import { memoryFolder } from '../support/netns-crowd.ts'
import { startTracker, torrentOf } from '../support/torrent.ts'

const run = promisify(execFile)
const PORT = 6881
/** Debian's, which has the libtorrent module; another Python in PATH may not. */
const PYTHON = '/usr/bin/python3'
const PEER_PROGRAM = join(import.meta.dirname, 'libtorrent-peer.py')
const FILE = 'model.bin'

export const RIVALS = ['aria2', 'libtorrent', 'http'] as const
export type Rival = (typeof RIVALS)[number]

export interface Given {
  readonly context: TestContext
  readonly net: Netns
  readonly seed: string
  readonly sizeBytes: number
  /** The same file over HTTP. */
  readonly url: string
  readonly sha256: string
}

export interface RivalRun {
  readonly seconds: number
  /** What the link of the origin sent. */
  readonly originSentBytes: number
}

/** Why a rival cannot run here; undefined when it can. */
export async function whyNo(rival: Rival): Promise<string | undefined> {
  const probe = {
    aria2: ['aria2c', '--version'],
    libtorrent: [PYTHON, '-c', 'import libtorrent'],
    http: ['curl', '--version'],
  }[rival]
  const [command = '', ...args] = probe
  return run(command, args).then(
    () => undefined,
    () => `no ${rival}`,
  )
}

export function runRival(rival: Rival, given: Given): Promise<RivalRun> {
  return { aria2: aria2Crowd, libtorrent: libtorrentCrowd, http: httpCrowd }[rival](given)
}

async function httpCrowd({ net, url, sha256, context }: Given): Promise<RivalRun> {
  const folder = await memoryFolder(context)
  return measured(net, async () => {
    const script = (name: string) => `curl -sfL '${url}' | tee '${join(folder, name)}' | sha256sum`
    const answers = await Promise.all(
      net.hosts.map(({ name, launch }) => {
        const { command, args } = launch('sh', ['-c', script(name)])
        return run(command, args)
      }),
    )
    for (const { stdout } of answers)
      if (!stdout.startsWith(sha256)) throw new Error(`curl brought ${stdout}`)
    await rm(folder, { recursive: true, force: true })
  })
}

async function aria2Crowd(given: Given): Promise<RivalRun> {
  const { context, net } = given
  const folder = await memoryFolder(context)
  const everybody = [net.origin, ...net.hosts]
  const addresses = new Map(everybody.map(({ controlAddress, address }) => [controlAddress, address]))
  const tracker = await startTracker(
    context,
    net.controlAddress,
    everybody.length,
    (asker) => addresses.get(asker) ?? asker,
  )
  const torrent = await prepare(given, folder, tracker.url)
  const hook = join(folder, 'done.sh')
  await writeFile(hook, '#!/bin/sh\n: > "$(dirname "$3")/done"\n', { mode: 0o755 })
  const children: ChildProcess[] = []
  const start = (host: NetHost, options: readonly string[]) => {
    const own = [`--dir=${join(folder, host.name)}`, `--listen-port=${PORT}`, '--seed-ratio=0.0']
    const quiet = ['--quiet', '--enable-dht=false', '--bt-enable-lpd=false', '--file-allocation=none']
    const paths = ['--no-conf', '--bt-detach-seed-only=true', ...options, torrent]
    children.push(spawnOn(host, 'aria2c', [...own, ...quiet, ...paths]))
  }
  try {
    start(net.origin, ['--check-integrity=true'])
    await tracker.heardFrom(1)
    for (const host of net.hosts) start(host, [`--on-bt-download-complete=${hook}`])
    await tracker.heardFrom(everybody.length)
    return await measured(net, () =>
      until(() => net.hosts.every(({ name }) => existsSync(join(folder, name, 'done')))),
    )
  } finally {
    await end(children)
    await rm(folder, { recursive: true, force: true })
  }
}

async function libtorrentCrowd(given: Given): Promise<RivalRun> {
  const { context, net } = given
  const folder = await memoryFolder(context)
  const torrent = await prepare(given, folder, 'http://localhost/unused')
  const everybody = [net.origin, ...net.hosts]
  const peers = everybody.map((host) => {
    const args = [PEER_PROGRAM, torrent, join(folder, host.name), host.address, String(PORT)]
    return said(spawnOn(host, PYTHON, args))
  })
  try {
    await Promise.all(peers.map(({ ready }) => ready))
    const addresses = `${everybody.map(({ address }) => address).join(' ')}\n`
    return await measured(net, async () => {
      for (const { child } of peers) child.stdin?.write(addresses)
      await Promise.all(peers.map(({ done }) => done))
    })
  } finally {
    await end(peers.map(({ child }) => child))
    await rm(folder, { recursive: true, force: true })
  }
}

/** The origin's copy, a folder for each host, and the torrent. @returns its path */
async function prepare({ net, seed, sizeBytes }: Given, folder: string, announce: string): Promise<string> {
  for (const { name } of [net.origin, ...net.hosts]) await mkdir(join(folder, name), { recursive: true })
  const content = seededContent(seed, sizeBytes)
  await pipeline(content.read(0, sizeBytes), createWriteStream(join(folder, net.origin.name, FILE)))
  const torrent = join(folder, 'model.torrent')
  await writeFile(torrent, await torrentOf(FILE, sizeBytes, content.read(0, sizeBytes), announce))
  return torrent
}

async function measured(net: Netns, work: () => Promise<void>): Promise<RivalRun> {
  const { sentBytes } = await net.bytes(net.origin)
  const startedAt = systemClock.now()
  await work()
  const seconds = (systemClock.now() - startedAt) / 1000
  return { seconds, originSentBytes: (await net.bytes(net.origin)).sentBytes - sentBytes }
}

function spawnOn(host: NetHost, program: string, args: readonly string[]): ChildProcess {
  const launched = host.launch(program, args)
  return spawn(launched.command, launched.args, { stdio: ['pipe', 'pipe', 'inherit'] })
}

interface SaidBy {
  readonly child: ChildProcess
  readonly ready: Promise<void>
  readonly done: Promise<void>
}

function said(child: ChildProcess): SaidBy {
  const ready = Promise.withResolvers<void>()
  const done = Promise.withResolvers<void>()
  if (child.stdout !== null)
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (line === 'ready') ready.resolve()
      if (line === 'done') done.resolve()
    })
  child.once('exit', (code) => {
    for (const one of [ready, done]) one.reject(new Error(`a libtorrent peer ended with ${code}`))
  })
  // It may end after both were waited for.
  for (const one of [ready, done]) one.promise.catch(() => {})
  return { child, ready: ready.promise, done: done.promise }
}

async function end(children: readonly ChildProcess[]): Promise<void> {
  await Promise.all(
    children.map(async (child) => {
      if (child.exitCode !== null || child.signalCode !== null) return
      const exited = once(child, 'exit')
      child.kill('SIGKILL')
      await exited
    }),
  )
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(systemClock, 20)
}
