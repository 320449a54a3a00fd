// Bandwidth limits between real hosts on real connections: what is measured is what was set, in both directions, and changes at run time.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { BandwidthLimits } from '@shoal/agent/limits.ts'
import { type LimitValues, NO_LIMITS } from '@shoal/agent/limits-port.ts'
import { newIdentity } from '@shoal/agent/net/identity.ts'
import { createMesh, type MeshNode } from '@shoal/agent/net/mesh-node.ts'
import { fixedSlices } from '@shoal/protocol/chunks.ts'
import { parseBlobId } from '@shoal/protocol/ids.ts'
import { seededRandom, sleep, systemClock } from '@shoal/protocol/time.ts'
import { figure } from '../support/figures.ts'
import { addressOf, noHandlers, testSecret } from '../support/mesh-host.ts'

const MIB = 1024 * 1024
const RATE = 2_000_000
const MEASURE_MS = 3_500
const blob = parseBlobId(`sha256:${'ab'.repeat(32)}`)
const geometry = fixedSlices(64 * MIB, MIB)
const NONE = NO_LIMITS

interface LimitedHost {
  readonly node: MeshNode
  readonly limits: BandwidthLimits
  /** Bytes of chunks received so far. */
  received: number
}

async function hostWith(t: TestContext, values: Partial<LimitValues> = {}): Promise<LimitedHost> {
  const storagePath = await mkdtemp(join(tmpdir(), 'shoal-limits-'))
  const limits = new BandwidthLimits({ ...NONE, ...values }, systemClock)
  const chunk = new Uint8Array(MIB).fill(7)
  const node = createMesh(
    {
      listen: ['/ip4/127.0.0.1/tcp/0'],
      staticPeers: async () => [],
      mdns: false,
      secret: async () => testSecret,
      storagePath,
    },
    {
      identity: newIdentity(),
      handlers: { ...noHandlers, chunk: async () => ({ status: 'ok', bytes: chunk }) },
      clock: systemClock,
      random: seededRandom(1),
      log: () => {},
      pace: limits,
      onFailure: (_name, error) => assert.fail(String(error)),
    },
  )
  await node.start()
  t.after(async () => {
    await node.stop()
    await rm(storagePath, { recursive: true, force: true })
  })
  return { node, limits, received: 0 }
}

/** Asks the holder for chunks on four streams at once until the signal fires. */
function drink(asker: LimitedHost, holder: LimitedHost, signal: AbortSignal): Promise<unknown> {
  const stream = async (first: number) => {
    const into = new Uint8Array(MIB)
    for (let index = first; !signal.aborted; index = (index + 4) % 64) {
      let counted = 0
      const onProgress = (filledBytes: number) => {
        asker.received += filledBytes - counted
        counted = filledBytes
      }
      await asker.node.fetchChunk(
        holder.node.self,
        { blob, geometry, index, into },
        { waitMs: 0 },
        { signal, onProgress },
      )
    }
  }
  return Promise.allSettled([0, 1, 2, 3].map(stream))
}

/** Bytes a second that each asker receives, after a moment in which buffers fill. */
async function measured(askers: readonly LimitedHost[]): Promise<readonly number[]> {
  await sleep(systemClock, 500)
  const before = askers.map(({ received }) => received)
  const startedAt = systemClock.now()
  await sleep(systemClock, MEASURE_MS)
  const seconds = (systemClock.now() - startedAt) / 1000
  return askers.map(({ received }, at) => (received - (before[at] ?? 0)) / seconds)
}

function assertRate(t: TestContext, name: string, rate: number, expected: number): void {
  t.diagnostic(`${name}: ${Math.round(rate)} of ${expected} bytes a second`)
  assert.ok(
    Math.abs(rate - expected) <= figure(0.15, 0.3) * expected,
    `${name}: ${rate} instead of ${expected}`,
  )
}

test('a host that may send 2 MB/s sends 2 MB/s to two peers together, shared evenly, and more once it may', async (t) => {
  const holder = await hostWith(t, { up: RATE })
  const askers = [await hostWith(t), await hostWith(t)]
  const stop = new AbortController()
  for (const { node } of askers) await node.dial(addressOf(holder.node), stop.signal)
  const drinking = askers.map((asker) => drink(asker, holder, stop.signal))
  const [one = 0, two = 0] = await measured(askers)
  assertRate(t, 'both', one + two, RATE)
  assert.ok(Math.abs(one - two) <= 0.3 * RATE, `${one} and ${two} are no even shares`)
  holder.limits.change({ up: 3 * RATE })
  assertRate(
    t,
    'both, after the change',
    (await measured(askers)).reduce((sum, rate) => sum + rate, 0),
    3 * RATE,
  )
  stop.abort()
  await Promise.all(drinking)
})

test('a peer gets no more than one peer may, and a host that may receive 2 MB/s from all receives 2 MB/s', async (t) => {
  const holder = await hostWith(t, { upPerPeer: RATE })
  const free = await hostWith(t)
  const asker = await hostWith(t)
  const stop = new AbortController()
  await asker.node.dial(addressOf(holder.node), stop.signal)
  await asker.node.dial(addressOf(free.node), stop.signal)
  const slow = new AbortController()
  const first = drink(asker, holder, slow.signal)
  assertRate(t, 'one peer', (await measured([asker]))[0] ?? 0, RATE)
  slow.abort()
  await first
  asker.limits.change({ down: RATE })
  const both = [drink(asker, holder, stop.signal), drink(asker, free, stop.signal)]
  // What the connections had buffered is not received any faster.
  assertRate(t, 'down', (await measured([asker]))[0] ?? 0, RATE)
  stop.abort()
  await Promise.all(both)
})
