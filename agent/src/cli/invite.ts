// `shoal invite`: prints one line that lets another host join this mesh. The line holds the mesh secret: it alone goes to
// stdout, and nothing about it goes anywhere else.
import { isLoopbackHost } from '@shoal/protocol/listen-address.ts'
import type { Command } from 'commander'
import { loadSettings } from '../config.ts'
import { encodeInvite, MAX_INVITE_ADDRESSES } from '../net/invite.ts'
import { readJoinedPeers } from '../net/joined-peers.ts'
import { readMeshSecret } from '../net/mesh-secret.ts'
import {
  agentClient,
  type PlaceOptions,
  type Setup,
  surroundings,
  wholeNumberWord,
  withPlace,
} from './command.ts'
import { formatDuration } from './format.ts'
import { CommandFailure } from './output.ts'
import { checkSameStorage } from './same-storage.ts'

const DEFAULT_EXPIRY_MINUTES = 60
const MAX_EXPIRY_MINUTES = 60 * 24 * 365

interface InviteOptions extends PlaceOptions {
  readonly expiresMinutes: number
}

export function inviteCommand(program: Command, { edge, output }: Setup): void {
  withPlace(program.command('invite'))
    .description('print an invite to this mesh: a secret, to be pasted into `shoal join -` on another host')
    .option(
      '--expires-minutes <number>',
      'how long the invite can be used, in minutes',
      wholeNumberWord(1, MAX_EXPIRY_MINUTES),
      DEFAULT_EXPIRY_MINUTES,
    )
    .action(async (options: InviteOptions) => {
      const client = await agentClient(edge, options)
      const status = await client.status()
      const { settings } = await loadSettings(surroundings(edge, options))
      checkSameStorage(status, settings.storage.path)
      const secret = settings.mesh.secret ?? (await readMeshSecret(settings.mesh.secretFile))
      if (secret === undefined)
        throw new CommandFailure('bad-config', `there is no mesh secret at ${settings.mesh.secretFile} yet`)
      const addresses = reachableFirst(status.p2p).slice(0, MAX_INVITE_ADDRESSES)
      if (addresses.length === 0)
        throw new CommandFailure(
          'not-running',
          'the agent has no address that others could dial; see mesh.listen in the settings',
        )
      const expires = edge.clock.wallTime() + options.expiresMinutes * 60_000
      const { coordinator } = await readJoinedPeers(settings.storage.path)
      const token = encodeInvite({ secret, addresses, coordinator, expires })
      output.result({ token, addresses, expires: new Date(expires).toISOString() }, () => token)
      if (addresses.every(onlyHere))
        output.note('Careful: this agent listens only on addresses that no other machine can reach.')
      output.note(
        `On the other host: shoal join -   and paste the line. It is a secret, and can be used for ${formatDuration(options.expiresMinutes * 60_000)}.`,
      )
    })
}

/** The order in which a new host tries them. */
function reachableFirst(addresses: readonly string[]): readonly string[] {
  return [...addresses.filter((address) => !onlyHere(address)), ...addresses.filter(onlyHere)]
}

function onlyHere(address: string): boolean {
  return isLoopbackHost(address.split('/')[2] ?? '')
}
