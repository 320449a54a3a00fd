// What exists while the mesh runs, put together: who is given what. Holds no rules; starts and stops nothing.
import { generateCertificate } from '@libp2p/tls/utils'
import { messageOf } from '@shoal/protocol/errors.ts'
import type { PeerId } from '@shoal/protocol/ids.ts'
import { CHUNK_PROTOCOL, type GossipHave, type GossipOrigin } from '@shoal/protocol/messages.ts'
import type { Tasks } from '@shoal/protocol/service.ts'
import type { Clock, Random } from '@shoal/protocol/time.ts'
import type { MeshPace } from '../limits-port.ts'
import { Asker } from './ask.ts'
import { ChunkClient } from './chunk-client.ts'
import { ChunkServer } from './chunk-server.ts'
import { Connections } from './connections.ts'
import { DataPlane } from './data-plane.ts'
import { dataCertificate } from './data-socket.ts'
import { Discovery } from './discovery.ts'
import { ExactStream } from './exact-stream.ts'
import { Gossip, type GossipDeps } from './gossip.ts'
import type { HostIdentity } from './identity.ts'
import { LaneCarrier } from './lane-carrier.ts'
import { LocalCarrier } from './local-carrier.ts'
import type { MeshHandlers } from './mesh.ts'
import type { MeshLog } from './mesh-log.ts'
import { GOSSIP_PROTOCOLS, type MeshLibp2p } from './node.ts'
import { dataQuestion, peersQuestion } from './questions.ts'
import { TellClient } from './tell-client.ts'
import type { Traffic } from './traffic.ts'

/** For measurements; the defaults are right. */
export interface MeshTuning {
  readonly messageBytes?: number
  readonly windowBytes?: number
  readonly maxUploads?: number
  readonly noProgressMs?: number
  readonly keepAliveMs?: number
}

export interface Running {
  readonly node: MeshLibp2p
  readonly connections: Connections
  readonly tasks: Tasks
  readonly gossip: Gossip
  readonly discovery: Discovery
  /** Fetches by streams of the node. */
  readonly client: ChunkClient
  readonly chunks: ChunkServer
  readonly teller: TellClient
  readonly asker: Asker
  readonly data: DataPlane
  readonly onBadMessage: (peer: PeerId, reason: string) => void
}

export interface PartsDeps {
  readonly self: PeerId
  readonly identity: HostIdentity
  readonly node: MeshLibp2p
  readonly tasks: Tasks
  readonly clock: Clock
  readonly random: Random
  readonly log: MeshLog
  readonly traffic: Traffic
  readonly handlers: MeshHandlers
  readonly pace: MeshPace | undefined
  readonly tuning: MeshTuning
  /** Worker threads for data connections; 0: they run in this one. */
  readonly lanes: number
  readonly staticPeers: readonly string[]
  readonly peersFile: string
  readonly isBanned: (peer: string) => boolean
  readonly onHave: (author: PeerId, announcement: GossipHave) => void
  readonly onOrigin: (author: PeerId, word: GossipOrigin) => void
  readonly onVerdict: GossipDeps['onVerdict']
  readonly onRejected: () => void
  readonly onBadMessage: () => void
}

export async function buildParts(deps: PartsDeps): Promise<Running> {
  const { node, tasks, clock, log, pace, tuning, traffic, isBanned } = deps
  const connections = new Connections(node, clock)
  const openStream = connections.openStream.bind(connections)
  const asker = new Asker({ clock, openStream })
  const onBadMessage = (peer: PeerId, reason: string) => {
    deps.onBadMessage()
    log('warn', 'a peer broke the rules of the wire', { peer, reason })
  }
  const gossip = new Gossip({
    pubsub: node.services.pubsub,
    clock,
    isBanned,
    hasGossipStream: (peer) => connections.hasOutboundStream(peer, GOSSIP_PROTOCOLS),
    onHave: deps.onHave,
    onOrigin: deps.onOrigin,
    onVerdict: deps.onVerdict,
    onRejected: (author, topic, reason) => {
      deps.onRejected()
      log('debug', 'gossip rejected', { author, topic, reason })
    },
    onPublishFailure: (topic, reason) => log('debug', 'gossip not published', { topic, reason }),
  })
  const chunks = new ChunkServer({
    clock,
    traffic,
    chunk: deps.handlers.chunk.bind(deps.handlers),
    onBadMessage,
    onFailure: (error) =>
      log('error', 'a request of a peer could not be answered', { reason: messageOf(error) }),
    messageBytes: tuning.messageBytes,
    maxUploads: tuning.maxUploads,
    noProgressMs: tuning.noProgressMs,
    pace: pace?.uploads.bind(pace),
  })
  const pair = await generateCertificate(deps.identity.nodeKey())
  const certificate = dataCertificate(pair)
  const local = () =>
    new LocalCarrier({
      clock,
      log,
      traffic,
      certificate,
      serve: (peer, pipe) => tasks.run('serve chunks', (signal) => chunks.serve(pipe, peer, signal, 'data')),
      pace: pace?.downloads,
      noProgressMs: tuning.noProgressMs,
    })
  const lanes = () =>
    new LaneCarrier({
      count: deps.lanes,
      clock,
      log,
      pair,
      traffic,
      chunk: deps.handlers.chunk.bind(deps.handlers),
      pace,
      onBadMessage,
      noProgressMs: tuning.noProgressMs,
      messageBytes: tuning.messageBytes,
    })
  return {
    node,
    connections,
    tasks,
    gossip,
    discovery: new Discovery({
      self: deps.self,
      staticPeers: deps.staticPeers,
      path: deps.peersFile,
      clock,
      random: deps.random,
      tasks,
      log,
      connections,
      isBanned,
      isNear: (peer) => gossip.isNear(peer),
      askPeers: (peer, signal) => asker.ask(peersQuestion, peer, {}, signal),
    }),
    client: new ChunkClient({
      clock,
      traffic,
      openPipe: async (peer, maxUnreadBytes, signal) =>
        new ExactStream(await openStream(peer, CHUNK_PROTOCOL, signal), maxUnreadBytes),
      noProgressMs: tuning.noProgressMs,
      pace: pace?.downloads,
    }),
    chunks,
    teller: new TellClient({ clock, openStream, timeoutMs: tuning.noProgressMs }),
    asker,
    data: new DataPlane({
      clock,
      log,
      tasks,
      carrier: deps.lanes === 0 ? local() : lanes(),
      certificate: certificate.digest,
      linkOf: (peer) => connections.linkOf(peer),
      ask: (peer, message, signal) => asker.ask(dataQuestion, peer, message, signal),
    }),
    onBadMessage,
  }
}
