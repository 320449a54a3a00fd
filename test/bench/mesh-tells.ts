// What a tell costs between two processes on loopback, beside a question on a stream of its own: messages a second, one in
// flight, and CPU time a message on each side. The receiver's clock runs fast, so that its bound on tells does not show.
// Run: node test/bench/mesh-tells.ts [seconds]
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { TellServer } from '@shoal/agent/net/tell-server.ts'
import { parseBlobId, parsePeerId } from '@shoal/protocol/ids.ts'
import { TELL_PROTOCOL, type Tell } from '@shoal/protocol/messages.ts'
import { type Clock, systemClock } from '@shoal/protocol/time.ts'
import { addressOf, testHosts } from '../support/mesh-host.ts'
import { RawMember } from '../support/raw-member.ts'

const seconds = Number(process.argv[2] ?? 4)
const blob = parseBlobId(`sha256:${'ab'.repeat(32)}`)
const geometry = 'slices:4194304:4294967296'
const runs = (count: number): [number, number][] =>
  Array.from({ length: count }, (_, at) => [at * 2, 1] as [number, number])
const told = (count: number): Tell['blobs'] => [{ blob, geometry, state: 'wanting', gained: runs(count) }]

const VARIANTS: Record<string, Tell['blobs'] | 'ask'> = {
  'question, a stream each': 'ask',
  'tell of 1 chunk': told(1),
  'tell of 32 chunks apart': told(32),
  'tell of 512 chunks apart': told(512),
}

if (process.env.ROLE === 'receiver') await receive()
else if (process.env.ROLE === 'teller') await tell(process.env.VARIANT ?? '')
else await compare()

async function receive(): Promise<void> {
  const fast: Clock = { ...systemClock, now: () => systemClock.now() * 1_000 }
  const server = new TellServer({
    clock: fast,
    told: () => true,
    onBadMessage: () => {},
    onFailure: () => {},
  })
  const raw = await RawMember.start()
  await raw.node.handle(TELL_PROTOCOL, (stream, connection) => {
    const peer = parsePeerId(connection.remotePeer.toString())
    server.serve(stream, peer, new AbortController().signal)
  })
  const hosts = testHosts()
  const host = await hosts.start()
  process.send?.({ raw: raw.address, host: addressOf(host) })
  await once(process, 'message')
  const before = process.cpuUsage()
  process.send?.('ready')
  await once(process, 'message')
  const { user, system } = process.cpuUsage(before)
  process.send?.({ cpuMicroseconds: user + system })
  await Promise.all([raw[Symbol.asyncDispose](), hosts[Symbol.asyncDispose]()])
  process.disconnect()
}

async function tell(variant: string): Promise<void> {
  const what = VARIANTS[variant]
  if (what === undefined) throw new Error(`no variant ${variant}`)
  const hosts = testHosts()
  const node = await hosts.start()
  const { signal } = new AbortController()
  const address = (what === 'ask' ? process.env.HOST : process.env.RAW) ?? ''
  const peer = await node.dial(address, signal)
  const once1 = async () => {
    if (what === 'ask') await node.askHave(peer, { blob, geometry, want: true }, signal)
    else await node.tell(peer, what, signal)
  }
  for (let warm = 0; warm < 300; warm++) await once1()
  process.send?.('warm')
  await once(process, 'message')
  const before = process.cpuUsage()
  const from = systemClock.now()
  let count = 0
  for (; systemClock.now() < from + seconds * 1_000; count++) await once1()
  const { user, system } = process.cpuUsage(before)
  const took = (systemClock.now() - from) / 1_000
  process.send?.({ count, perSecond: count / took, cpuMicroseconds: user + system })
  await hosts[Symbol.asyncDispose]()
  process.disconnect()
}

async function compare(): Promise<void> {
  console.log('what                          a second   CPU µs each, teller / receiver')
  for (const variant of Object.keys(VARIANTS)) {
    const receiver = fork(import.meta.filename, [String(seconds)], {
      env: { ...process.env, ROLE: 'receiver' },
    })
    const [{ raw, host }] = await once(receiver, 'message')
    const env = { ...process.env, ROLE: 'teller', VARIANT: variant, RAW: raw, HOST: host }
    const teller = fork(import.meta.filename, [String(seconds)], { env })
    await once(teller, 'message')
    receiver.send('begin')
    await once(receiver, 'message')
    teller.send('begin')
    const [result] = await once(teller, 'message')
    receiver.send('report')
    const [heard] = await once(receiver, 'message')
    await Promise.all([once(teller, 'exit'), once(receiver, 'exit')])
    const each = (cpu: number) => (cpu / result.count).toFixed(0).padStart(6)
    console.log(
      `${variant.padEnd(28)} ${result.perSecond.toFixed(0).padStart(9)} ${each(result.cpuMicroseconds).padStart(18)} / ${each(heard.cpuMicroseconds)}`,
    )
  }
}
