// `shoal status` and `shoal peers`: how things are at this moment.
import type { Command } from 'commander'
import type { PeersShape, StatusShape } from '../http/node-shapes.ts'
import { agentClient, type PlaceOptions, type Setup, withPlace } from './command.ts'
import { count, fields, formatBytes, formatDuration, shortPeer, table } from './format.ts'
import { monthText } from './limits.ts'

export function nowCommands(program: Command, { edge, output }: Setup): void {
  withPlace(program.command('status'))
    .description('show how this agent is')
    .action(async (options: PlaceOptions) => {
      const answer = await (await agentClient(edge, options)).status()
      output.result(answer, () => statusText(answer, edge.clock.wallTime()))
    })

  withPlace(program.command('peers'))
    .description('list the hosts that this agent is connected to')
    .action(async (options: PlaceOptions) => {
      const answer = await (await agentClient(edge, options)).peers()
      output.result(answer, () => peersText(answer, edge.clock.wallTime()))
    })
}

function statusText(status: StatusShape, now: number): string {
  const { storage, memory, mesh, totals, downloads } = status
  const state = status.ready ? 'ready' : `not ready: ${status.notReadyBecause.join('; ')}`
  const limit = storage.limitBytes === null ? 'no limit' : `limit ${formatBytes(storage.limitBytes)}`
  const places = [
    mesh.site === null ? [] : `site ${mesh.site}`,
    mesh.rack === null ? [] : `rack ${mesh.rack}`,
  ].flat()
  return fields([
    [
      'Agent',
      `${status.version}, process ${status.pid}, up ${formatDuration(now - status.startedAt)}, ${state}`,
    ],
    ['HTTP', status.http],
    ['Storage', storage.path],
    [
      'Kept here',
      `${formatBytes(storage.usedBytes)} in ${count(storage.blobs, 'blob')}; ${limit}, ${formatBytes(storage.freeBytes)} free on the disk`,
    ],
    ['Hub cache', storage.hubCache],
    ['Hub', `${status.hub.upstreams.join(', ')} (${status.hub.tokenPresent ? 'with a token' : 'no token'})`],
    ['Peer id', status.peerId],
    ['Addresses', status.p2p.length === 0 ? 'none' : status.p2p.map(withoutPeer).join(' ')],
    ['Mesh', [count(mesh.peers, 'peer'), ...places, `mDNS ${mesh.mdns ? 'on' : 'off'}`].join(', ')],
    [
      'Memory',
      `${formatBytes(memory.usedBytes)} of ${formatBytes(memory.limitBytes)} (${memory.limitFrom})${memory.isShort ? ', short' : ''}; ${formatBytes(memory.arriving.limitBytes)} for chunks on their way, ${formatBytes(memory.reading.limitBytes)} for clients`,
    ],
    ['Running', `${count(downloads.running, 'pull')}, ${count(downloads.blobs, 'file')} arriving`],
    [
      'Received',
      `${formatBytes(totals.originBytes)} from the origin, ${formatBytes(totals.peerBytes)} from peers, ${formatBytes(totals.diskBytes)} found on the disk`,
    ],
    [
      'Sent',
      `${formatBytes(totals.sentToPeersBytes)} to peers, ${formatBytes(totals.sentToClientsBytes)} to clients`,
    ],
    ...(status.originMonth.capBytes === null ? [] : [['This month', monthText(status.originMonth)] as const]),
  ])
}

function peersText({ peers }: PeersShape, now: number): string {
  if (peers.length === 0)
    return 'No peers. On another host run `shoal join -` with what `shoal invite` prints here.'
  const rows = peers.map((peer) => [
    shortPeer(peer.peer),
    peer.addresses[0] === undefined ? '' : withoutPeer(peer.addresses[0]),
    peer.direction,
    formatDuration(now - peer.connectedSince),
    peer.roundTripMs === null ? '' : `${peer.roundTripMs.toFixed(1)} ms`,
    formatBytes(peer.bytesReceived),
    formatBytes(peer.bytesSent),
    peer.health === null ? '' : String(peer.health.blobsHeld),
    [peer.health?.site, peer.health?.rack].filter((name) => name !== null && name !== undefined).join('/'),
    peer.health?.version ?? '',
  ])
  const columns = [
    { title: 'PEER' },
    { title: 'ADDRESS' },
    { title: 'DIRECTION' },
    { title: 'FOR', right: true },
    { title: 'ROUND TRIP', right: true },
    { title: 'RECEIVED', right: true },
    { title: 'SENT', right: true },
    { title: 'BLOBS', right: true },
    { title: 'SITE/RACK' },
    { title: 'VERSION' },
  ]
  return `${table(columns, rows)}\n${count(peers.length, 'peer')}.`
}

function withoutPeer(address: string): string {
  return address.replace(/\/p2p\/[^/]+$/, '')
}
