// `shoal join`: what it writes, what it refuses to leave, and that the invite shows up nowhere.
import assert from 'node:assert/strict'
import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { encodeInvite } from '@shoal/agent/net/invite.ts'
import { readJoinedPeers, writeJoinedPeers } from '@shoal/agent/net/joined-peers.ts'
import { MeshSecret, readMeshSecret, writeMeshSecret } from '@shoal/agent/net/mesh-secret.ts'
import { hasCode } from '@shoal/protocol/errors.ts'
import { systemClock } from '@shoal/protocol/time.ts'
import { PEER, startAgentApi } from '../support/agent-api.ts'
import { type Ran, shoal } from '../support/command-line.ts'
import { tempFolder } from '../support/temp-folder.ts'

const OURS = new MeshSecret(new Uint8Array(32).fill(1))
const THEIRS = new MeshSecret(new Uint8Array(32).fill(2))
const ADDRESS = `/ip4/192.0.2.7/tcp/8002/p2p/${PEER}`

function inviteOf(secret: MeshSecret, lifeMs = 60_000): string {
  return encodeInvite({ secret, addresses: [ADDRESS], expires: systemClock.wallTime() + lifeMs })
}

interface Host {
  readonly storage: string
  readonly secretFile: string
  /** Joins with the invite on standard input. */
  join(invite: string, ...args: string[]): Promise<Ran>
}

async function host(context: TestContext, env: Readonly<Record<string, string>> = {}): Promise<Host> {
  const folder = await tempFolder(context)
  const storage = join(folder, 'storage')
  // No agent runs there unless the test says so.
  const all = { SHOAL_HTTP: 'http://127.0.0.1:9', SHOAL_STORAGE_PATH: storage, ...env }
  return {
    storage,
    secretFile: join(storage, 'mesh.secret'),
    join: (invite, ...args) => shoal(['join', '-', ...args], { folder, env: all, stdin: invite }),
  }
}

test('joining before the agent ever ran writes secret and peers for it, readable by their owner only', async (context) => {
  const fresh = await host(context)
  const invite = inviteOf(THEIRS)
  const ran = await fresh.join(`  ${invite.slice(0, 40)}\n${invite.slice(40)}\n`)
  assert.equal(ran.code, 0, ran.stderr)
  assert.match(ran.stdout, /Start it with: shoal agent/)
  assert.equal((await readMeshSecret(fresh.secretFile))?.text(), THEIRS.text())
  assert.deepEqual(await readJoinedPeers(fresh.storage), { peers: [ADDRESS], coordinator: undefined })
  assert.deepEqual((await readdir(fresh.storage)).sort(), ['joined.json', 'mesh.secret'])
  for (const name of await readdir(fresh.storage))
    assert.equal((await stat(join(fresh.storage, name))).mode & 0o777, 0o600, name)
  assert.doesNotMatch(ran.stdout + ran.stderr, /shoal1-|0202020202/)
})

test('a host without peers changes the secret that it made itself', async (context) => {
  const fresh = await host(context)
  await writeMeshSecret(fresh.secretFile, OURS)
  const ran = await fresh.join(inviteOf(THEIRS), '--json')
  assert.equal(ran.code, 0, ran.stdout)
  assert.equal(JSON.parse(ran.stdout).secretChanged, true)
  assert.equal((await readMeshSecret(fresh.secretFile))?.text(), THEIRS.text())
})

test('a host with peers keeps its mesh unless --force is said', async (context) => {
  const member = await host(context)
  await writeMeshSecret(member.secretFile, OURS)
  await writeJoinedPeers(member.storage, { peers: ['/ip4/192.0.2.1/tcp/1'] })
  const refused = await member.join(inviteOf(THEIRS), '--json')
  assert.equal(refused.code, 1)
  assert.equal(JSON.parse(refused.stdout).error.code, 'conflict')
  assert.equal((await readMeshSecret(member.secretFile))?.text(), OURS.text())

  const forced = await member.join(inviteOf(THEIRS), '--force')
  assert.equal(forced.code, 0, forced.stderr)
  assert.equal((await readMeshSecret(member.secretFile))?.text(), THEIRS.text())
  assert.deepEqual((await readJoinedPeers(member.storage)).peers, [ADDRESS], 'peers of the old mesh are gone')
})

test('an invite to the mesh that the host is in only adds its peers', async (context) => {
  const member = await host(context)
  await writeMeshSecret(member.secretFile, OURS)
  await writeJoinedPeers(member.storage, { peers: ['/ip4/192.0.2.1/tcp/1', ADDRESS] })
  const ran = await member.join(inviteOf(OURS), '--json')
  assert.equal(JSON.parse(ran.stdout).secretChanged, false)
  assert.deepEqual((await readJoinedPeers(member.storage)).peers, [ADDRESS, '/ip4/192.0.2.1/tcp/1'])
})

test('a secret in the environment is not silently overruled', async (context) => {
  const fixed = await host(context, { SHOAL_MESH_SECRET: OURS.text() })
  const ran = await fixed.join(inviteOf(THEIRS))
  assert.equal(ran.code, 1)
  assert.match(ran.stderr, /SHOAL_MESH_SECRET/)
  assert.equal(await readMeshSecret(fixed.secretFile), undefined)
})

test('an expired, damaged or empty invite is refused without being quoted, and nothing is written', async (context) => {
  const fresh = await host(context)
  const good = inviteOf(THEIRS)
  for (const [id, invite, says] of [
    ['expired', inviteOf(THEIRS, -1000), /expired/],
    ['cut short', good.slice(0, -3), /damaged or cut short/],
    ['empty', '', /not an invite/],
    ['endless', 'x'.repeat(100_000), /too long/],
  ] as const) {
    const ran = await fresh.join(invite)
    assert.equal(ran.code, 1, id)
    assert.match(ran.stderr, says, id)
    assert.doesNotMatch(ran.stderr, /shoal1-[A-Za-z0-9_-]{20}/, id)
  }
  await assert.rejects(readdir(fresh.storage))
})

test('an invite on the command line works, with a warning and without being repeated', async (context) => {
  const folder = await tempFolder(context)
  const env = { SHOAL_HTTP: 'http://127.0.0.1:9', SHOAL_STORAGE_PATH: join(folder, 'storage') }
  const invite = inviteOf(THEIRS)
  const ran = await shoal(['join', invite], { folder, env })
  assert.equal(ran.code, 0, ran.stderr)
  assert.match(ran.stderr, /other users of this machine can see a command line/)
  const wrong = await shoal(['joni', invite], { folder, env })
  assert.equal(wrong.code, 2)
  const flag = await shoal(['join', `--token=${invite}`], { folder, env })
  assert.equal(flag.code, 2)
  for (const text of [ran.stdout, ran.stderr, wrong.stderr, flag.stderr]) assert.ok(!text.includes(invite))
})

test('a running agent is told, and joining is done when a peer of the invite answers', async (context) => {
  const folder = await tempFolder(context)
  const storage = join(folder, 'storage')
  await using api = await startAgentApi(storage)
  const running = await host(context, { SHOAL_HTTP: api.url, SHOAL_STORAGE_PATH: storage })
  api.onReload = () => {
    api.connected = true
  }
  const ran = await running.join(inviteOf(THEIRS), '--json')
  assert.equal(ran.code, 0, ran.stdout)
  assert.equal(JSON.parse(ran.stdout).peer, PEER)
  assert.deepEqual(api.asked, ['reload'])
})

test('files of one agent are not written for another one that happens to answer', async (context) => {
  await using api = await startAgentApi('/somewhere/else')
  const other = await host(context, { SHOAL_HTTP: api.url })
  const ran = await other.join(inviteOf(THEIRS), '--json')
  assert.equal(ran.code, 1)
  assert.equal(JSON.parse(ran.stdout).error.code, 'conflict')
  await assert.rejects(readdir(other.storage))
})

test('a joined.json of another version or with unknown content is refused, not replaced', async (context) => {
  const member = await host(context)
  await writeMeshSecret(member.secretFile, OURS)
  for (const text of ['{"version":2,"peers":[]}', '{"version":1,"peers":[],"extra":1}', '{"version":1', '']) {
    const path = join(member.storage, 'joined.json')
    await writeFile(path, text, { mode: 0o600 })
    await assert.rejects(readJoinedPeers(member.storage), (error) => hasCode(error, 'bad-config'), text)
    assert.equal((await member.join(inviteOf(OURS))).code, 1, text)
    assert.equal(await readFile(path, 'utf8'), text)
  }
})
