// The libp2p node with every limit set: the one place that knows the options and why each has its value. Facts "M…" are
// measured in test/canary. Knows nothing of chunks, manifests or who our peers are.
import { createHash } from 'node:crypto'
import { type GossipSub, gossipsub, type Message } from '@libp2p/gossipsub'
import { type Identify, identify } from '@libp2p/identify'
import type { Connection, Libp2p, PeerId as NodePeerId } from '@libp2p/interface'
import { mdns } from '@libp2p/mdns'
import { noise } from '@libp2p/noise'
import { peerIdFromString } from '@libp2p/peer-id'
import { type Ping, ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import {
  GOSSIP_HAVE_TOPIC,
  GOSSIP_HEALTH_TOPIC,
  GOSSIP_ORIGIN_TOPIC,
  LIMITS,
} from '@shoal/protocol/messages.ts'
import { createLibp2p } from 'libp2p'
import { KEPT_CONNECTIONS, VISITOR_CONNECTIONS } from '../plan/connection-choice.ts'
import { isDialable } from './addresses.ts'
import { admitted, type Role } from './admission.ts'
import { guardedYamux, type MuxerSettings } from './guarded-yamux.ts'
import type { HostIdentity } from './identity.ts'
import type { MeshSecret } from './mesh-secret.ts'
import type { PeerGate } from './peer-gate.ts'
import { socketTls } from './socket-tls.ts'

export const GOSSIP_TOPICS = [GOSSIP_HAVE_TOPIC, GOSSIP_HEALTH_TOPIC, GOSSIP_ORIGIN_TOPIC] as const
/** What the ids of gossipsub's protocol versions begin with. */
export const GOSSIP_PROTOCOLS = '/meshsub/'
/** mDNS service name: other libp2p programs on the network neither see us nor are seen. */
const MDNS_SERVICE = '_shoal-mesh._udp.local'
/** Connections in all. A host that is full still lets others in, so that they can ask whom it knows. */
export const MAX_MESH_CONNECTIONS = KEPT_CONNECTIONS + VISITOR_CONNECTIONS
/** Bytes of a message's id: no admitted host can make another message with an id it knows. */
const MESSAGE_ID_BYTES = 12

type CopyId = NonNullable<NonNullable<Parameters<typeof gossipsub>[0]>['fastMsgIdFn']>

export type MeshLibp2p = Libp2p<{
  readonly identify: Identify
  readonly ping: Ping
  readonly pubsub: GossipSub
}>

export interface NodeSettings extends MuxerSettings {
  readonly identity: HostIdentity
  readonly secret: MeshSecret
  readonly listen: readonly string[]
  /** Addresses to tell others instead of those listened on (behind NAT or a port mapping). */
  readonly announce: readonly string[]
  readonly mdns: boolean
  readonly gate: PeerGate
  readonly onRefused: (remote: string, role: Role, reason: string) => void
}

/** Builds the node; `start()` is the caller's. */
export async function createNode(settings: NodeSettings): Promise<MeshLibp2p> {
  const { gate, clock } = settings
  const admission = {
    secret: settings.secret,
    self: settings.identity.peer,
    clock,
    admits: (peer: string) =>
      gate.admits(peer, node.getConnections(peerIdFromString(peer)).length, clock.now()),
    onRefused: settings.onRefused,
  }
  const denies = (peer: NodePeerId): boolean => !admission.admits(peer.toString())
  const node: MeshLibp2p = await createLibp2p({
    start: false,
    privateKey: settings.identity.nodeKey(),
    nodeInfo: { name: 'shoal', version: '1', userAgent: 'shoal' },
    addresses: { listen: [...settings.listen], announce: [...settings.announce] },
    transports: [
      tcp({
        maxConnections: 2 * MAX_MESH_CONNECTIONS,
        backlog: 64,
        inboundSocketInactivityTimeout: 30_000,
        outboundSocketInactivityTimeout: 30_000,
      }),
    ],
    // TLS first: it costs less processor time than Noise (record 3). Both only behind admission.
    connectionEncrypters: [admitted(socketTls(clock), admission), admitted(noise(), admission)],
    streamMuxers: [guardedYamux(settings)],
    connectionManager: {
      maxConnections: MAX_MESH_CONNECTIONS,
      // M10: with the defaults a few silent sockets a second keep everyone out.
      maxIncomingPendingConnections: 200,
      inboundConnectionThreshold: 20,
      inboundUpgradeTimeout: 3_000,
      inboundStreamProtocolNegotiationTimeout: 3_000,
      maxParallelDials: 16,
      maxDialQueueLength: 200,
      maxPeerAddrsToDial: 4,
      dialTimeout: 5_000,
      addressDialTimeout: 3_000,
    },
    // Only measures round trips. The muxer finds peers that are gone: on a slow link a ping may wait behind seconds of data.
    // Each costs about 0.5 KB both ways, on a hundred connections.
    connectionMonitor: { pingInterval: 30_000, abortConnectionOnPingFailure: false },
    connectionGater: {
      denyDialPeer: denies,
      denyDialMultiaddr: (address) => !isDialable(address),
      denyInboundEncryptedConnection: denies,
      denyOutboundEncryptedConnection: denies,
      denyInboundUpgradedConnection: denies,
      denyInboundRelayReservation: () => true,
      denyInboundRelayedConnection: () => true,
      filterMultiaddrForPeer: (_peer, address) => isDialable(address),
    },
    peerDiscovery: settings.mdns ? [mdns({ serviceTag: MDNS_SERVICE, interval: 20_000 })] : [],
    services: {
      identify: identify({ maxMessageSize: 8192, timeout: 5_000 }),
      ping: ping(),
      pubsub: gossipsub(gossipOptions()),
    },
  })
  node.addEventListener('connection:open', ({ detail }) => endSurplus(node, detail, settings))
  return node
}

/** Several connections of one peer may pass the gater at the same moment, before any of them is counted (M11). */
function endSurplus(node: MeshLibp2p, connection: Connection, { gate, clock }: NodeSettings): void {
  const peer = connection.remotePeer
  const others = node.getConnections(peer).filter(({ id }) => id !== connection.id)
  if (!gate.admits(peer.toString(), others.length, clock.now()))
    connection.abort(new Error('one connection too many with this peer'))
}

function gossipOptions(): Parameters<typeof gossipsub>[0] {
  // M22: with the default topic scores time in the mesh hides every penalty; quiet topics would punish honest peers.
  const topic = {
    topicWeight: 1,
    timeInMeshWeight: 0,
    timeInMeshQuantum: 1_000,
    timeInMeshCap: 1,
    firstMessageDeliveriesWeight: 0,
    firstMessageDeliveriesDecay: 0.5,
    firstMessageDeliveriesCap: 1,
    meshMessageDeliveriesWeight: 0,
    meshMessageDeliveriesDecay: 0.5,
    meshMessageDeliveriesCap: 1,
    meshMessageDeliveriesThreshold: 1,
    meshMessageDeliveriesWindow: 10,
    meshMessageDeliveriesActivation: 5_000,
    meshFailurePenaltyWeight: 0,
    meshFailurePenaltyDecay: 0.5,
    invalidMessageDeliveriesWeight: -10,
    invalidMessageDeliveriesDecay: 0.97,
  }
  return {
    globalSignaturePolicy: 'StrictSign',
    // Every message comes once over each link of the gossip mesh, mostly in one direction, so the number of links is what gossip
    // costs. With 4 links of each host a mesh of 1,000 is six steps wide; what a lost link swallows is made up for by ids (below).
    D: 4,
    Dlo: 3,
    Dhi: 6,
    Dscore: 2,
    Dout: 1,
    // Ids of what was heard go to four more peers at each of two heartbeats, however many are connected (the default is a quarter
    // of them, three times): whoever missed a message is told of it eight times on average, by as many peers.
    gossipFactor: 0,
    Dlazy: 4,
    mcacheGossip: 2,
    msgIdFn: messageId,
    // Each message comes several times: without this every copy's signature is checked before it is found to be known.
    fastMsgIdFn: copyId,
    fallbackToFloodsub: false,
    floodPublish: false,
    doPX: false,
    allowPublishToZeroTopicPeers: true,
    allowedTopics: [...GOSSIP_TOPICS],
    maxInboundDataLength: 4 * LIMITS.gossip,
    maxOutboundBufferSize: 1024 * 1024,
    maxTopicBytesPerPeer: 16 * 1024,
    awaitRpcHandler: true,
    awaitRpcMessageHandler: true,
    maxInboundStreams: 2,
    maxOutboundStreams: 2,
    decodeRpcLimits: {
      maxSubscriptions: 16,
      maxMessages: 64,
      maxIhaveMessageIDs: 500,
      maxIwantMessageIDs: 500,
      maxIdontwantMessageIDs: 64,
      maxControlMessages: 64,
      maxPeerInfos: 16,
    },
    scoreParams: {
      // M9: many hosts behind one address (containers, NAT) are normal here and would all be cut off.
      IPColocationFactorWeight: 0,
      topics: Object.fromEntries(GOSSIP_TOPICS.map((name) => [name, topic])),
    },
  }
}

/** The default is the author's key and its sequence number, 44 bytes; ids are most of what is said of a message already known. */
function messageId(message: Message): Uint8Array {
  if (message.type !== 'signed') throw new Error('the signature policy lets no other message in')
  const sequence = Buffer.alloc(8)
  sequence.writeBigUInt64BE(message.sequenceNumber)
  const digest = createHash('sha256').update(message.from.toMultihash().bytes).update(sequence).digest()
  return digest.subarray(0, MESSAGE_ID_BYTES)
}

/** Over everything that was signed, and the signature: only a copy of a message that was found good has its id. */
function copyId({ signature, from, seqno, topic, data }: Parameters<CopyId>[0]): string {
  const digest = createHash('sha256')
  for (const field of [signature, from, seqno, data]) digest.update(field ?? '')
  return digest.update(topic).digest('base64')
}
