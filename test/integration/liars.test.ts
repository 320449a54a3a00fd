// A real agent between a real Hub, an honest host and hosts that lie, over libp2p and HTTP: what the client ends with is right, and
// the liar is out after at most three bad chunks.
import assert from 'node:assert/strict'
import test, { type TestContext } from 'node:test'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { type AgentProcess, connected, eventually, startAgent } from '../support/agent-process.ts'
import { type HubProcess, spawnLocalHub } from '../support/local-hub/process.ts'
import {
  borrowedVoucher,
  falseHave,
  type HeldFile,
  type HostManner,
  honestHost,
  type MeshHolder,
  meshHolder,
  seededFile,
  selfVouchedLie,
  shortBody,
  silentHost,
} from '../support/lying-host.ts'
import { testHosts } from '../support/mesh-host.ts'
import { type ClientDownload, downloadLikeHubClient } from '../support/retrying-client.ts'

const REPO = 'lab/model'
/** The last one of one byte. */
const CHUNKS = 6
const SIZE = (CHUNKS - 1) * 1024 * 1024 + 1
const MAX_BAD_CHUNKS = 3
/** What a host vouches for itself only the digest of the whole can tell: it spoils one file at most, and only once. */
const ONE_FILE = CHUNKS

interface Liar {
  readonly name: string
  readonly manner: HostManner
  /** Silent and empty-handed hosts harm nobody once they are not asked any more. */
  readonly banned: boolean
  readonly atMost: number
}

interface Scene {
  readonly agent: AgentProcess
  readonly hub: HubProcess
  readonly honest: MeshHolder
  readonly liars: ReadonlyMap<string, MeshHolder>
  download(file: string): Promise<ClientDownload>
}

/** A Hub with one file for each name; for each file a set of liars, and one honest host that holds all of them, or none. */
async function scene(
  t: TestContext,
  casts: ReadonlyMap<string, readonly Liar[]>,
  honestHolds: 'all' | 'none' = 'all',
): Promise<Scene> {
  const hosts = testHosts()
  t.after(() => hosts[Symbol.asyncDispose]())
  const names = [...casts.keys()]
  const files = new Map<string, HeldFile>()
  for (const name of names) files.set(name, await seededFile(name, SIZE))
  const hub = await spawnLocalHub({
    repos: [
      {
        id: REPO,
        files: Object.fromEntries(names.map((name) => [`${name}.bin`, { seed: name, sizeBytes: SIZE }])),
      },
    ],
  })
  t.after(() => hub.stop())
  // Not so fast that it brings everything before a busy host has said what it holds.
  await hub.control.limitRate(16e6)
  const held = honestHolds === 'all' ? [...files.values()] : []
  const honest = await meshHolder(hosts, held, async (call) => {
    // Not so fast that nobody else is ever asked.
    await sleep(systemClock, 50, call.signal)
    return honestHost(call)
  })
  honestIdentity = () => honest.identity
  const liars = new Map<string, MeshHolder>()
  for (const [name, cast] of casts) {
    const file = files.get(name)
    for (const [at, { manner }] of cast.entries())
      if (file !== undefined) liars.set(`${name} ${at}`, await meshHolder(hosts, [file], manner))
  }
  const peers = [honest, ...liars.values()].map(({ address }) => address)
  const agent = await startAgent(t, { hub: hub.url, env: { SHOAL_PEERS: peers.join(',') } })
  await connected(agent, peers.length)
  const download = (file: string) => downloadLikeHubClient(`${agent.url}/${REPO}/resolve/main/${file}.bin`)
  return { agent, hub, honest, liars, download }
}

let honestIdentity: () => MeshHolder['identity'] = () => {
  throw new Error('no honest host yet')
}

const lies: readonly Liar[] = [
  {
    name: 'wrong bytes with a voucher that the liar signed',
    manner: selfVouchedLie,
    banned: true,
    atMost: ONE_FILE,
  },
  {
    name: 'wrong bytes with the voucher of an honest host',
    manner: borrowedVoucher(() => honestIdentity()),
    banned: true,
    atMost: MAX_BAD_CHUNKS,
  },
  { name: 'a short body', manner: shortBody, banned: true, atMost: MAX_BAD_CHUNKS },
  { name: 'silence', manner: silentHost, banned: false, atMost: MAX_BAD_CHUNKS },
  { name: 'chunks that it does not have', manner: falseHave, banned: false, atMost: MAX_BAD_CHUNKS },
]

async function isConnected(agent: AgentProcess, peer: string): Promise<boolean> {
  return (await agent.peers()).some((one) => one.peer === peer)
}

test('beside a host that lies the client ends with the right file, and the liar is out', async (t) => {
  const casts = new Map(lies.map((liar, at): [string, readonly Liar[]] => [`file-${at}`, [liar]]))
  // Connections are slow at first, and whoever says late what it holds is asked for nothing.
  const { agent, hub, honest, liars, download } = await scene(t, casts.set('warm-up', []))
  await download('warm-up')
  for (const [at, { name, banned, atMost }] of lies.entries()) {
    await t.test(name, async () => {
      const file = `file-${at}`
      const liar = liars.get(`${file} 0`)
      assert.ok(liar !== undefined)
      const { sha256, sizeBytes, tries, restarts } = await download(file)
      assert.equal(sizeBytes, SIZE)
      assert.equal(sha256, await hub.control.oidOf({ repo: REPO, path: `${file}.bin` }))
      assert.ok(liar.asked.length > 0, 'it was asked')
      assert.ok(liar.asked.length <= atMost, `it was asked ${liar.asked.length} times`)
      if (banned) await eventually('the liar is cut off', async () => !(await isConnected(agent, liar.peer)))
      assert.ok(await isConnected(agent, honest.peer), 'the honest host stays')
      // Nothing but the digest of the whole tells of a liar that vouches for itself: then a client has to start over.
      assert.equal(restarts > 0, name === lies[0]?.name, `${tries} tries, ${restarts} restarts`)
    })
  }
})

test('with all of them at once beside one honest host the client ends with the right file', async (t) => {
  const { agent, hub, honest, liars, download } = await scene(t, new Map([['all', lies]]))
  const { sha256 } = await download('all')
  assert.equal(sha256, await hub.control.oidOf({ repo: REPO, path: 'all.bin' }))
  for (const [at, { name, banned, atMost }] of lies.entries()) {
    const liar = liars.get(`all ${at}`)
    assert.ok(liar !== undefined)
    assert.ok(liar.asked.length <= atMost, `${name}: asked ${liar.asked.length} times`)
    // Whoever was never asked is not known to lie.
    if (banned && liar.asked.length > 0)
      await eventually(`${name} is cut off`, async () => !(await isConnected(agent, liar.peer)))
  }
  assert.ok(await isConnected(agent, honest.peer))
  const again = await download('all')
  assert.deepEqual([again.sha256, again.tries], [sha256, 1])
})

test('with no honest holder and no Hub that answers, a liar that vouches for itself never becomes a file', async (t) => {
  const { agent, hub, liars } = await scene(t, new Map([['alone', lies.slice(0, 1)]]), 'none')
  const url = `${agent.url}/${REPO}/resolve/main/alone.bin`
  assert.equal((await fetch(url, { method: 'HEAD' })).status, 200)
  await hub.control.pause('cdn')
  const response = await fetch(url)
  assert.equal(response.status, 200)
  await assert.rejects(response.arrayBuffer(), 'the stream is cut')
  assert.ok((liars.get('alone 0')?.asked.length ?? 0) >= CHUNKS, 'it brought every chunk')
  await hub.control.resume('cdn')
  const { sha256 } = await downloadLikeHubClient(url)
  assert.equal(sha256, await hub.control.oidOf({ repo: REPO, path: 'alone.bin' }))
})
