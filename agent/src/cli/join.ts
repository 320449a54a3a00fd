// `shoal join`: makes this host part of the mesh that an invite speaks of: writes the mesh secret and the peers to dial, tells
// a running agent, and waits for a peer to answer. The invite is never shown.
import { join } from 'node:path'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { type Clock, sleep } from '@shoal/protocol/time.ts'
import type { Command } from 'commander'
import { loadSettings, type Settings } from '../config.ts'
import type { StatusShape } from '../http/node-shapes.ts'
import { decodeInvite, type Invite } from '../net/invite.ts'
import { type JoinedPeers, readJoinedPeers, writeJoinedPeers } from '../net/joined-peers.ts'
import { type MeshSecret, readMeshSecret, writeMeshSecret } from '../net/mesh-secret.ts'
import { PeerFile } from '../net/peer-file.ts'
import type { AgentClient } from './client.ts'
import { agentClient, type PlaceOptions, type Setup, surroundings, withPlace } from './command.ts'
import type { Edge } from './edge.ts'
import { formatDuration, shortPeer } from './format.ts'
import { CommandFailure } from './output.ts'
import { checkSameStorage } from './same-storage.ts'

const MAX_TOKEN_BYTES = 64 * 1024
const ANSWER_WITHIN_MS = 15_000
const LOOK_EVERY_MS = 200

interface JoinOptions extends PlaceOptions {
  readonly force?: boolean
}

export function joinCommand(program: Command, { edge, output }: Setup): void {
  withPlace(program.command('join'))
    .description('join the mesh that an invite is for')
    .argument('<token>', 'what `shoal invite` printed; better "-", which reads it from standard input')
    .option('--force', 'leave the mesh that this host has peers in')
    .action(async (word: string, options: JoinOptions) => {
      if (word !== '-')
        output.note(
          'Careful: other users of this machine can see a command line. `shoal join -` reads the invite instead.',
        )
      else if (edge.stdin.isTTY) output.note('Paste the invite, then press Enter and Ctrl-D.')
      const invite = decodeInvite(word === '-' ? await readAll(edge.stdin) : word, edge.clock.wallTime())
      const { settings } = await loadSettings(surroundings(edge, options))
      const client = await agentClient(edge, options)
      const status = await statusIfRunning(client)
      if (status !== undefined) checkSameStorage(status, settings.storage.path)
      const changed = await writeDown(invite, settings, status, options.force === true)
      const result = { storage: settings.storage.path, peers: invite.addresses, secretChanged: changed }
      if (status === undefined) {
        output.result({ ...result, running: false, peer: null }, () =>
          [`This host will be in the mesh as soon as its agent runs.`, 'Start it with: shoal agent'].join(
            '\n',
          ),
        )
        return
      }
      await client.reloadMesh()
      const peer = await firstPeer(client, invite, edge.clock)
      if (peer === undefined)
        throw new CommandFailure(
          'peer-unreachable',
          `this host has joined, but no peer answered within ${formatDuration(ANSWER_WITHIN_MS)}: ${invite.addresses.join(', ')}. The agent goes on trying; see whether these addresses can be reached from here.`,
          { addresses: invite.addresses },
        )
      output.result({ ...result, running: true, peer }, () => `Joined: peer ${shortPeer(peer)} answers.`)
    })
}

/** Peers first, secret last: with it this host changes sides. @returns whether the secret is another one than before */
async function writeDown(
  invite: Invite,
  settings: Settings,
  status: StatusShape | undefined,
  force: boolean,
): Promise<boolean> {
  const { storage, mesh } = settings
  const known = mesh.secret ?? (await readMeshSecret(mesh.secretFile))
  const same = known !== undefined && isSame(known, invite.secret)
  const joined = await readJoinedPeers(storage.path)
  if (!same && mesh.secret !== undefined)
    throw new CommandFailure(
      'conflict',
      'the invite is for another mesh than SHOAL_MESH_SECRET, which would win over what is written down here. Unset it first.',
    )
  if (!same && known !== undefined && !force && (await hasPeers(settings, joined, status)))
    throw new CommandFailure(
      'conflict',
      'this host has peers in another mesh, and would lose them. Say --force to leave that mesh.',
    )
  await writeJoinedPeers(storage.path, {
    peers: same ? [...invite.addresses, ...joined.peers] : invite.addresses,
    coordinator: invite.coordinator ?? (same ? joined.coordinator : undefined),
  })
  if (!same) await writeMeshSecret(mesh.secretFile, invite.secret)
  return !same
}

async function hasPeers(
  { storage, mesh }: Settings,
  joined: JoinedPeers,
  status: StatusShape | undefined,
): Promise<boolean> {
  if (joined.peers.length > 0 || mesh.peers.length > 0 || (status?.mesh.peers ?? 0) > 0) return true
  return (await new PeerFile(join(storage.path, 'peers.json')).read()).length > 0
}

function isSame(left: MeshSecret, right: MeshSecret): boolean {
  return left.text() === right.text()
}

async function statusIfRunning(client: AgentClient): Promise<StatusShape | undefined> {
  try {
    return await client.status()
  } catch (error) {
    if (error instanceof ShoalError && error.details.nobodyThere === true) return undefined
    throw error
  }
}

/** The first peer of the invite that is connected; any peer when its addresses name none. */
async function firstPeer(client: AgentClient, invite: Invite, clock: Clock): Promise<string | undefined> {
  const named = new Set(invite.addresses.flatMap((address) => /\/p2p\/([^/]+)$/.exec(address)?.[1] ?? []))
  const until = clock.now() + ANSWER_WITHIN_MS
  while (clock.now() < until) {
    const { peers } = await client.peers()
    const found = peers.find(({ peer }) => named.size === 0 || named.has(peer))
    if (found !== undefined) return found.peer
    await sleep(clock, LOOK_EVERY_MS)
  }
  return undefined
}

async function readAll(input: Edge['stdin']): Promise<string> {
  const parts: Buffer[] = []
  let sizeBytes = 0
  for await (const part of input) {
    const bytes = Buffer.from(part)
    sizeBytes += bytes.byteLength
    if (sizeBytes > MAX_TOKEN_BYTES)
      throw new ShoalError('bad-request', 'standard input is too long to be an invite')
    parts.push(bytes)
  }
  return Buffer.concat(parts).toString('utf8')
}
