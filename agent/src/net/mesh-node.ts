// The Mesh port on libp2p: puts node, admission, exchange, gossip and discovery together and gives each what it needs.
// Holds no rules of its own beyond who is connected.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Connection } from '@libp2p/interface'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { type PeerId, parsePeerId } from '@shoal/protocol/ids.ts'
import {
  CHUNK_PROTOCOL,
  type ChunkRequestMessage,
  type GossipHave,
  type GossipOrigin,
  type HaveAnswer,
  type HaveAsk,
  type ManifestAnswer,
  type ManifestAsk,
  type Tell,
  type TurnAnswer,
  type TurnAsk,
} from '@shoal/protocol/messages.ts'
import { createTasks, type Tasks } from '@shoal/protocol/service.ts'
import type { Clock, Random } from '@shoal/protocol/time.ts'
import type { MeshPace } from '../limits-port.ts'
import type { ChunkRequest, FetchedChunk, FetchOptions } from '../sources/source.ts'
import { hostOf, isLoopback } from './addresses.ts'
import { Asker } from './ask.ts'
import { ChunkClient } from './chunk-client.ts'
import { Connections } from './connections.ts'
import { Discovery } from './discovery.ts'
import { Gossip, type GossipName, gossipName } from './gossip.ts'
import type { HostIdentity } from './identity.ts'
import { Listeners } from './listeners.ts'
import type { AnswerTurn, HealthFigures, Mesh, MeshHandlers, MeshListener, PeerStatus } from './mesh.ts'
import type { MeshLog } from './mesh-log.ts'
import type { MeshSecret } from './mesh-secret.ts'
import { createNode, GOSSIP_PROTOCOLS, type MeshLibp2p } from './node.ts'
import { PeerGate } from './peer-gate.ts'
import { haveQuestion, manifestQuestion, peersQuestion, turnQuestion } from './questions.ts'
import { RefusalReport } from './refusal-report.ts'
import { serveProtocols } from './serving.ts'
import { TellClient } from './tell-client.ts'
import { Traffic } from './traffic.ts'

export interface MeshOptions {
  /** Multiaddrs to listen on, such as `/ip4/192.168.1.5/tcp/8002`. */
  readonly listen: readonly string[]
  /** What others are told instead, for hosts behind NAT or a port mapping. */
  readonly announce?: readonly string[]
  /** Multiaddrs of hosts to dial, best with their peer ids. Read at each start. */
  readonly staticPeers: () => Promise<readonly string[]>
  readonly mdns: boolean
  /** Read at each start: a host that joins another mesh is stopped and started. */
  readonly secret: () => Promise<MeshSecret>
  /** Directory for `peers.json`. */
  readonly storagePath: string
  /** For measurements; the defaults are right. */
  readonly tuning?: {
    readonly messageBytes?: number
    readonly windowBytes?: number
    readonly maxUploads?: number
    readonly noProgressMs?: number
    readonly keepAliveMs?: number
  }
}

export interface MeshDeps {
  readonly identity: HostIdentity
  readonly handlers: MeshHandlers
  /** Keeps turns for others; without it this host keeps none. */
  readonly turn?: AnswerTurn
  readonly clock: Clock
  readonly random: Random
  readonly log: MeshLog
  /** Bandwidth limits; none without it. */
  readonly pace?: MeshPace
  /** For metrics: every gossip message that came. */
  readonly onGossip?: (topic: GossipName, verdict: 'accept' | 'ignore' | 'reject') => void
  /** Told of background work that failed unexpectedly. */
  readonly onFailure: (name: string, error: unknown) => void
}

/** Counts since the start of the program, for metrics. */
export interface MeshCounters {
  readonly connectionsAdmitted: number
  readonly connectionsRefused: number
  readonly badMessages: number
  readonly gossipRejected: number
}

export interface MeshNode extends Mesh {
  counters(): MeshCounters
}

/** No I/O before `start()`. @throws ShoalError `bad-config` at start, for addresses that cannot be used */
export function createMesh(options: MeshOptions, deps: MeshDeps): MeshNode {
  return new LibP2PMesh(options, deps)
}

/** What exists while the mesh runs. */
interface Running {
  readonly node: MeshLibp2p
  readonly connections: Connections
  readonly tasks: Tasks
  readonly gossip: Gossip
  readonly discovery: Discovery
  readonly client: ChunkClient
  readonly teller: TellClient
  readonly asker: Asker
}

class LibP2PMesh implements MeshNode {
  readonly name = 'mesh'
  readonly self: PeerId
  readonly #options: MeshOptions
  readonly #deps: MeshDeps
  readonly #gate = new PeerGate()
  readonly #traffic = new Traffic()
  readonly #listeners: Listeners
  readonly #connectedSince = new Map<PeerId, number>()
  readonly #roundTripMs = new Map<PeerId, number>()
  readonly #refusals: RefusalReport
  readonly #counters = { connectionsAdmitted: 0, badMessages: 0, gossipRejected: 0 }
  #running: Running | undefined
  #turn: Promise<void> = Promise.resolve()

  constructor(options: MeshOptions, deps: MeshDeps) {
    this.#options = options
    this.#deps = deps
    this.self = deps.identity.peer
    this.#listeners = new Listeners(deps.onFailure)
    this.#refusals = new RefusalReport(deps.clock, deps.log)
  }

  start(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#running === undefined) await this.#start()
    })
  }

  stop(): Promise<void> {
    return this.#inTurn(() => this.#stop())
  }

  addresses(): readonly string[] {
    return this.#running?.node.getMultiaddrs().map((address) => address.toString()) ?? []
  }

  peers(): readonly PeerStatus[] {
    const running = this.#running
    if (running === undefined) return []
    return running.connections.peers().flatMap((peer) => {
      const connection = running.connections.find(peer)
      return connection === undefined ? [] : [this.#status(peer, connection, running)]
    })
  }

  isConnected(peer: PeerId): boolean {
    return this.#running?.connections.find(peer) !== undefined
  }

  listen(listener: MeshListener): () => void {
    return this.#listeners.add(listener)
  }

  async fetchChunk(
    peer: PeerId,
    request: ChunkRequest,
    extra: Pick<ChunkRequestMessage, 'waitMs' | 'grant'>,
    options: FetchOptions,
  ): Promise<FetchedChunk> {
    return this.#up().client.fetch(peer, request, extra, options)
  }

  async askHave(peer: PeerId, message: HaveAsk, signal: AbortSignal): Promise<HaveAnswer> {
    return this.#up().asker.ask(haveQuestion, peer, message, signal)
  }

  async askManifest(peer: PeerId, message: ManifestAsk, signal: AbortSignal): Promise<ManifestAnswer> {
    return this.#up().asker.ask(manifestQuestion, peer, message, signal)
  }

  async askTurn(peer: PeerId, message: TurnAsk, signal: AbortSignal): Promise<TurnAnswer> {
    return this.#up().asker.ask(turnQuestion, peer, message, signal)
  }

  async tell(peer: PeerId, blobs: Tell['blobs'], signal: AbortSignal, line?: number): Promise<boolean> {
    return this.#up().teller.tell(peer, blobs, signal, line)
  }

  async announce(blobs: GossipHave['blobs']): Promise<void> {
    await this.#up().gossip.announce(blobs)
  }

  hostsKnown(): number {
    return this.#running?.gossip.hostsKnown() ?? 1
  }

  async publishHealth(health: HealthFigures, lifetimeMs: number): Promise<void> {
    await this.#up().gossip.publishHealth(health, lifetimeMs)
  }

  async publishOrigin(budgets: GossipOrigin['budgets']): Promise<void> {
    await this.#up().gossip.publishOrigin(budgets)
  }

  ban(peer: PeerId, durationMs: number, reason: string): void {
    this.#deps.log('warn', 'peer banned', { peer, durationMs, reason })
    this.#gate.ban(peer, this.#deps.clock.now() + durationMs)
    this.#running?.client.close(peer)
    this.#running?.teller.close(peer)
    this.#running?.connections.cut(peer, new ShoalError('peer-unreachable', 'the peer is banned', { peer }))
  }

  async dial(address: string, signal: AbortSignal): Promise<PeerId> {
    const peer = await this.#up().connections.dial([address], signal)
    if (peer === 'self') throw new ShoalError('peer-unreachable', `${address} is this host itself`)
    return peer
  }

  counters(): MeshCounters {
    return { ...this.#counters, connectionsRefused: this.#refusals.count }
  }

  /** Starts and stops happen one after the other, in the order they were asked for. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(work)
    this.#turn = done.catch(() => {})
    return done
  }

  async #start(): Promise<void> {
    const { clock, random, log, identity } = this.#deps
    const tuning = this.#options.tuning ?? {}
    await mkdir(this.#options.storagePath, { recursive: true, mode: 0o700 })
    const staticPeers = await this.#options.staticPeers()
    const tasks = createTasks(this.#deps.onFailure)
    const node = await createNode({
      identity,
      secret: await this.#options.secret(),
      listen: this.#options.listen,
      announce: this.#options.announce ?? [],
      mdns: this.#options.mdns,
      gate: this.#gate,
      clock,
      onRefused: this.#refusals.refused.bind(this.#refusals),
      onMuxer: () => this.#counters.connectionsAdmitted++,
      windowBytes: tuning.windowBytes,
      keepAliveMs: tuning.keepAliveMs,
    })
    const connections = new Connections(node, clock)
    const openStream = connections.openStream.bind(connections)
    const asker = new Asker({ clock, openStream })
    const isBanned = (peer: string) => this.#gate.isBanned(peer, clock.now())
    const running: Running = {
      node,
      connections,
      tasks,
      gossip: new Gossip({
        pubsub: node.services.pubsub,
        clock,
        isBanned,
        hasGossipStream: (peer) => connections.hasOutboundStream(peer, GOSSIP_PROTOCOLS),
        onHave: (author, announcement) =>
          this.#listeners.tell((listener) => listener.have(author, announcement)),
        onOrigin: (author, word) => this.#listeners.tell((listener) => listener.origin?.(author, word)),
        onVerdict: (topic, verdict) => this.#deps.onGossip?.(gossipName(topic), verdict),
        onRejected: (author, topic, reason) => {
          this.#counters.gossipRejected++
          log('debug', 'gossip rejected', { author, topic, reason })
        },
        onPublishFailure: (topic, reason) => log('debug', 'gossip not published', { topic, reason }),
      }),
      discovery: new Discovery({
        self: this.self,
        staticPeers,
        path: join(this.#options.storagePath, 'peers.json'),
        clock,
        random,
        tasks,
        log,
        connections,
        isBanned,
        isNear: (peer) => running.gossip.isNear(peer),
        askPeers: (peer, signal) => asker.ask(peersQuestion, peer, {}, signal),
      }),
      client: new ChunkClient({
        clock,
        traffic: this.#traffic,
        openStream: (peer, signal) => openStream(peer, CHUNK_PROTOCOL, signal),
        noProgressMs: tuning.noProgressMs,
        pace: this.#deps.pace?.downloads,
      }),
      teller: new TellClient({ clock, openStream, timeoutMs: tuning.noProgressMs }),
      asker,
    }
    this.#running = running
    try {
      this.#watch(running)
      await serveProtocols({
        node,
        tasks,
        clock,
        log,
        traffic: this.#traffic,
        handlers: this.#deps.handlers,
        turn: this.#deps.turn,
        pace: this.#deps.pace,
        tellPeers: (asker) => running.discovery.tell(asker),
        onBadMessage: () => this.#counters.badMessages++,
        messageBytes: tuning.messageBytes,
        maxUploads: tuning.maxUploads,
        noProgressMs: tuning.noProgressMs,
      })
      await node.start()
      running.gossip.start()
      await running.discovery.start()
    } catch (error) {
      await this.#stop()
      throw error
    }
    log('info', 'mesh is up', { peer: this.self, addresses: this.addresses().join(' ') })
  }

  async #stop(): Promise<void> {
    const running = this.#running
    this.#running = undefined
    if (running === undefined) return
    const { node, tasks, gossip, discovery, client, teller } = running
    client.closeAll()
    teller.closeAll()
    await tasks.stop()
    await discovery.stop()
    if (node.status === 'started') gossip.stop()
    await node.stop()
    this.#connectedSince.clear()
    this.#roundTripMs.clear()
  }

  #watch({ node, tasks, discovery, gossip, client, teller }: Running): void {
    node.addEventListener('peer:connect', ({ detail }) => {
      const peer = parsePeerId(detail.toString())
      this.#connectedSince.set(peer, this.#deps.clock.wallTime())
      discovery.connected(peer)
      gossip.connected(peer)
      tasks.run('measure the round trip', (signal) => this.#measure(node, peer, signal))
      this.#listeners.tell((listener) => listener.peerUp(peer))
    })
    node.addEventListener('peer:disconnect', ({ detail }) => {
      const peer = parsePeerId(detail.toString())
      this.#connectedSince.delete(peer)
      this.#roundTripMs.delete(peer)
      client.close(peer)
      teller.close(peer)
      discovery.disconnected(peer)
      gossip.disconnected(peer)
      this.#listeners.tell((listener) => listener.peerDown(peer))
    })
    node.addEventListener('peer:identify', ({ detail }) => {
      const addresses = detail.listenAddrs.map((address) => address.toString())
      discovery.identified(detail.peerId.toString(), addresses, hostOf(detail.connection.remoteAddr))
    })
    node.addEventListener('peer:discovery', ({ detail }) => {
      // Anyone on the network may have said it, about this machine too, unless nobody but this machine hears us.
      const own = node.getMultiaddrs().map(hostOf)
      const teller = own.every(isLoopback) ? '127.0.0.1' : 'the network'
      const addresses = detail.multiaddrs.map((address) => address.toString())
      discovery.heard(detail.id.toString(), addresses, teller)
    })
  }

  async #measure(node: MeshLibp2p, peer: PeerId, signal: AbortSignal): Promise<void> {
    const connection = this.#running?.connections.find(peer)
    if (connection === undefined) return
    try {
      this.#roundTripMs.set(peer, await node.services.ping.ping(connection.remotePeer, { signal }))
    } catch {
      // Only a figure to show; the connection monitor watches over the peer.
    }
  }

  #status(peer: PeerId, connection: Connection, running: Running): PeerStatus {
    return {
      peer,
      addresses: [connection.remoteAddr.toString()],
      direction: connection.direction,
      connectedSince: this.#connectedSince.get(peer) ?? connection.timeline.open,
      roundTripMs: connection.rtt ?? this.#roundTripMs.get(peer),
      health: running.gossip.health(peer),
      ...this.#traffic.of(peer),
    }
  }

  /** @throws ShoalError `not-running` */
  #up(): Running {
    if (this.#running === undefined) throw new ShoalError('not-running', 'the mesh is not running')
    return this.#running
  }
}
