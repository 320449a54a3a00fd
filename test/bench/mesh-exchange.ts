// Throughput of chunk exchange between two processes on loopback. Fresh processes for each variant; prints a table.
// Run: node test/bench/mesh-exchange.ts [seconds]   (VARIANTS=name,name to choose)
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { chunkLength, fixedSlices } from '@shoal/protocol/chunks.ts'
import { parseBlobId } from '@shoal/protocol/ids.ts'
import { systemClock } from '@shoal/protocol/time.ts'
import { addressOf, testHosts } from '../support/mesh-host.ts'

const MIB = 1024 * 1024
const CHUNK_BYTES = 4 * MIB
const geometry = fixedSlices(4096 * MIB, CHUNK_BYTES)
const blob = parseBlobId(`sha256:${'ab'.repeat(32)}`)
const seconds = Number(process.argv[2] ?? 4)

const VARIANTS: Record<string, { messageBytes: number; windowBytes: number; inFlight: number }> = {
  'm1024 w4 x4': { messageBytes: MIB, windowBytes: 4 * MIB, inFlight: 4 },
  'm1024 w4 x8': { messageBytes: MIB, windowBytes: 4 * MIB, inFlight: 8 },
  'm1024 w1 x4': { messageBytes: MIB, windowBytes: MIB, inFlight: 4 },
  'm256 w4 x4': { messageBytes: MIB / 4, windowBytes: 4 * MIB, inFlight: 4 },
  'm256 w4 x8': { messageBytes: MIB / 4, windowBytes: 4 * MIB, inFlight: 8 },
  'm256 w1 x4': { messageBytes: MIB / 4, windowBytes: MIB, inFlight: 4 },
  'm512 w4 x4': { messageBytes: MIB / 2, windowBytes: 4 * MIB, inFlight: 4 },
  'm4096 w4 x4': { messageBytes: 4 * MIB, windowBytes: 4 * MIB, inFlight: 4 },
  'm1024 w4 x1': { messageBytes: MIB, windowBytes: 4 * MIB, inFlight: 1 },
}

const role = process.env.ROLE
if (role === 'server') await serve()
else if (role === 'client') await download()
else await compare()

async function serve(): Promise<void> {
  const buffers = [1, 2, 3, 4].map((value) => Buffer.alloc(CHUNK_BYTES, value))
  const hosts = testHosts()
  let before: NodeJS.CpuUsage | undefined
  const node = await hosts.start(
    { tuning: tuning() },
    {
      chunk: async (_peer, { index }) => {
        before ??= process.cpuUsage()
        return { status: 'ok', bytes: buffers[index % buffers.length] ?? Buffer.alloc(0) }
      },
    },
  )
  process.send?.({ address: addressOf(node) })
  await once(process, 'message')
  const usage = process.cpuUsage(before)
  process.send?.({ cpuSeconds: (usage.user + usage.system) / 1e6, rss: process.memoryUsage().rss })
  await hosts[Symbol.asyncDispose]()
  process.disconnect()
}

async function download(): Promise<void> {
  const hosts = testHosts()
  const node = await hosts.start({ tuning: tuning() })
  const peer = await node.dial(process.env.ADDRESS ?? '', AbortSignal.timeout(10_000))
  const signal = new AbortController().signal
  const until = systemClock.now() + seconds * 1_000
  const from = systemClock.now()
  const before = process.cpuUsage()
  let bytes = 0
  let next = 0
  const worker = async () => {
    const into = Buffer.alloc(CHUNK_BYTES)
    while (systemClock.now() < until) {
      const index = next++ % geometry.chunkCount
      await node.fetchChunk(
        peer,
        { blob, geometry, index, into },
        { waitMs: 0 },
        { signal, onProgress: () => {} },
      )
      bytes += chunkLength(geometry, index)
    }
  }
  await Promise.all(Array.from({ length: Number(process.env.IN_FLIGHT) }, worker))
  const took = (systemClock.now() - from) / 1_000
  const usage = process.cpuUsage(before)
  process.send?.({
    rate: bytes / took / 1e6,
    bytes,
    cpuSeconds: (usage.user + usage.system) / 1e6,
    rss: process.memoryUsage().rss,
  })
  await hosts[Symbol.asyncDispose]()
  process.disconnect()
}

function tuning() {
  const { MESSAGE_BYTES, WINDOW_BYTES } = process.env
  return {
    ...(MESSAGE_BYTES === undefined ? {} : { messageBytes: Number(MESSAGE_BYTES) }),
    ...(WINDOW_BYTES === undefined ? {} : { windowBytes: Number(WINDOW_BYTES) }),
  }
}

async function compare(): Promise<void> {
  const chosen = (process.env.VARIANTS ?? Object.keys(VARIANTS).join(',')).split(',')
  console.log(
    'variant (message KiB, window MiB, requests)   MB/s   CPU s/GB (both)   RSS MB sender / receiver',
  )
  for (const name of chosen) {
    const variant = VARIANTS[name]
    if (variant === undefined) throw new Error(`no variant ${name}`)
    const env = {
      ...process.env,
      MESSAGE_BYTES: String(variant.messageBytes),
      WINDOW_BYTES: String(variant.windowBytes),
      IN_FLIGHT: String(variant.inFlight),
    }
    const server = fork(import.meta.filename, [String(seconds)], { env: { ...env, ROLE: 'server' } })
    const [{ address }] = await once(server, 'message')
    const client = fork(import.meta.filename, [String(seconds)], {
      env: { ...env, ROLE: 'client', ADDRESS: address },
    })
    const [result] = await once(client, 'message')
    server.send('report')
    const [sender] = await once(server, 'message')
    await Promise.all([once(client, 'exit'), once(server, 'exit')])
    const cpuPerGigabyte = (result.cpuSeconds + sender.cpuSeconds) / (result.bytes / 1e9)
    console.log(
      `${name.padEnd(44)} ${result.rate.toFixed(0).padStart(6)} ${cpuPerGigabyte.toFixed(2).padStart(15)} ` +
        `${(sender.rss / 1e6).toFixed(0).padStart(14)} / ${(result.rss / 1e6).toFixed(0)}`,
    )
  }
}
