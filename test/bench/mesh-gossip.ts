// What gossip costs each host: real hosts in one process, connected with each other, that publish health reports at a set pace;
// bytes are counted at the sockets, with TLS and everything. Beside it what plan/gossip-interval.ts makes of that, for larger meshes.
// Run: node test/bench/mesh-gossip.ts [hosts] [seconds] [messages a second of all hosts]
import { subscribe } from 'node:diagnostics_channel'
import type { Socket } from 'node:net'
import {
  gossipIntervalMs,
  HEALTH_BYTES_PER_SECOND,
  HEALTH_COST_BYTES,
} from '@shoal/agent/plan/gossip-interval.ts'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { addressOf, testHosts, until } from '../support/mesh-host.ts'

const [hostCount = 16, seconds = 20, perSecond = 4] = process.argv.slice(2).map(Number)
const health = {
  uploadLoad: 0.125,
  cpuLoad: 0.734,
  diskFreeBytes: 1_234_567_890_123,
  memoryFreeBytes: 345_678_901_234,
  blobsHeld: 1_234,
  version: '0.1.0',
  site: 'frankfurt-2',
  rack: 'row-7-rack-12',
}

/** Both ends of every connection are in this process, so what is read is what one end of each received. */
const sockets = new Set<Socket>()
for (const channel of ['net.client.socket', 'net.server.socket'])
  subscribe(channel, (message) => {
    const { socket } = message as { readonly socket: Socket }
    sockets.add(socket)
  })
const bytesRead = () => [...sockets].reduce((sum, socket) => sum + socket.bytesRead, 0)

async function measured(work: () => Promise<void>): Promise<number> {
  const before = bytesRead()
  const from = systemClock.now()
  await work()
  return ((bytesRead() - before) / (systemClock.now() - from)) * 1_000
}

await using hosts = testHosts()
const first = await hosts.start()
const others = await Promise.all(
  Array.from({ length: hostCount - 1 }, () => hosts.start({ staticPeers: async () => [addressOf(first)] })),
)
const all = [first, ...others]
await until('all are connected', () => all.every((node) => node.peers().length === hostCount - 1), 60_000)
await sleep(systemClock, 8_000)
const quiet = await measured(() => sleep(systemClock, seconds * 1_000))
let sent = 0
const busy = await measured(async () => {
  const start = systemClock.now()
  for (; sent < seconds * perSecond; sent++) {
    await all[sent % hostCount]?.publishHealth(health, 600_000)
    const nextAt = start + ((sent + 1) * 1_000) / perSecond
    await sleep(systemClock, Math.max(0, nextAt - systemClock.now()))
  }
})
const rate = sent / seconds
const costBytes = (busy - quiet) / hostCount / rate
console.log(`${hostCount} hosts, ${rate} reports a second of all, ${seconds} s`)
console.log(`quiet: ${(quiet / hostCount).toFixed(0)} B/s a host each way`)
console.log(`with reports: ${(busy / hostCount).toFixed(0)} B/s a host each way`)
console.log(
  `one report costs each host ${costBytes.toFixed(0)} B each way; reckoned with ${HEALTH_COST_BYTES} B`,
)
console.log(`budget ${HEALTH_BYTES_PER_SECOND} B/s:`)
for (const count of [16, 40, 100, 1_000]) {
  const intervalMs = gossipIntervalMs(count)
  const bytesPerSecond = (count * costBytes * 1_000) / intervalMs
  console.log(
    `${String(count).padStart(6)} hosts: a report every ${(intervalMs / 1_000).toFixed(0)} s, ${bytesPerSecond.toFixed(0)} B/s a host each way`,
  )
}
