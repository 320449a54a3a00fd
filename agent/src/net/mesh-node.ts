// The Mesh port on libp2p: puts node, admission, exchange, gossip and discovery together and gives each what it needs.
// Holds no rules of its own beyond who is connected.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Connection } from '@libp2p/interface'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { type PeerId, parsePeerId } from '@shoal/protocol/ids.ts'
import type {
  ChunkRequestMessage,
  GossipHave,
  GossipOrigin,
  HaveAnswer,
  HaveAsk,
  ManifestAnswer,
  ManifestAsk,
  Tell,
  TurnAnswer,
  TurnAsk,
} from '@shoal/protocol/messages.ts'
import { createTasks } from '@shoal/protocol/service.ts'
import type { Clock, Random } from '@shoal/protocol/time.ts'
import type { MeshPace } from '../limits-port.ts'
import type { ChunkRequest, FetchedChunk, FetchOptions } from '../sources/source.ts'
import { hostOf, isLoopback, listenHosts, placeOf } from './addresses.ts'
import { type GossipName, gossipName } from './gossip.ts'
import type { HostIdentity } from './identity.ts'
import { Listeners } from './listeners.ts'
import type { AnswerTurn, HealthFigures, Mesh, MeshHandlers, MeshListener, PeerStatus } from './mesh.ts'
import type { MeshLog } from './mesh-log.ts'
import { buildParts, type MeshTuning, type Running } from './mesh-parts.ts'
import type { MeshSecret } from './mesh-secret.ts'
import { createNode, type MeshLibp2p } from './node.ts'
import { PeerGate } from './peer-gate.ts'
import { haveQuestion, manifestQuestion, turnQuestion } from './questions.ts'
import { RefusalReport } from './refusal-report.ts'
import { serveProtocols } from './serving.ts'
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
  /** Worker threads that move chunks; 0, the default: none, chunks are moved in this one. */
  readonly lanes?: number
  /** For measurements; the defaults are right. */
  readonly tuning?: MeshTuning
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
  /** Chunks fetched over data connections since the mesh was started. */
  readonly chunksByData: number
}

export interface MeshNode extends Mesh {
  counters(): MeshCounters
}

/** No I/O before `start()`. @throws ShoalError `bad-config` at start, for addresses that cannot be used */
export function createMesh(options: MeshOptions, deps: MeshDeps): MeshNode {
  return new LibP2PMesh(options, deps)
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
    const { data, client } = this.#up()
    return data.fetch(peer, request, extra, options, client.fetch.bind(client))
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
    this.#running?.data.disconnected(peer)
    this.#running?.teller.close(peer)
    this.#running?.connections.cut(peer, new ShoalError('peer-unreachable', 'the peer is banned', { peer }))
  }

  async dial(address: string, signal: AbortSignal): Promise<PeerId> {
    const peer = await this.#up().connections.dial([address], signal)
    if (peer === 'self') throw new ShoalError('peer-unreachable', `${address} is this host itself`)
    return peer
  }

  counters(): MeshCounters {
    return {
      ...this.#counters,
      connectionsRefused: this.#refusals.count,
      chunksByData: this.#running?.data.fetched ?? 0,
    }
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
    const running = await buildParts({
      self: this.self,
      identity,
      node,
      tasks,
      clock,
      random,
      log,
      traffic: this.#traffic,
      handlers: this.#deps.handlers,
      pace: this.#deps.pace,
      tuning,
      lanes: this.#options.lanes ?? 0,
      staticPeers,
      peersFile: join(this.#options.storagePath, 'peers.json'),
      isBanned: (peer) => this.#gate.isBanned(peer, clock.now()),
      onHave: (author, word) => this.#listeners.tell((listener) => listener.have(author, word)),
      onOrigin: (author, word) => this.#listeners.tell((listener) => listener.origin?.(author, word)),
      onVerdict: (topic, verdict) => this.#deps.onGossip?.(gossipName(topic), verdict),
      onRejected: () => this.#counters.gossipRejected++,
      onBadMessage: () => this.#counters.badMessages++,
    })
    this.#running = running
    try {
      this.#watch(running)
      await serveProtocols({
        node,
        tasks,
        clock,
        log,
        handlers: this.#deps.handlers,
        turn: this.#deps.turn,
        tellPeers: (asker) => running.discovery.tell(asker),
        tellData: (asker, ask) => running.data.answer(asker, ask),
        onBadMessage: running.onBadMessage,
        chunks: running.chunks,
      })
      await running.data.start(listenHosts(this.#options.listen))
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
    const { node, tasks, gossip, discovery, client, teller, data } = running
    client.closeAll()
    teller.closeAll()
    await data.stop()
    await tasks.stop()
    await discovery.stop()
    if (node.status === 'started') gossip.stop()
    await node.stop()
    this.#connectedSince.clear()
    this.#roundTripMs.clear()
  }

  #watch({ node, tasks, discovery, gossip, client, teller, data }: Running): void {
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
      data.disconnected(peer)
      teller.close(peer)
      discovery.disconnected(peer)
      gossip.disconnected(peer)
      this.#listeners.tell((listener) => listener.peerDown(peer))
    })
    node.addEventListener('peer:identify', ({ detail }) => {
      const addresses = detail.listenAddrs.map((address) => address.toString())
      discovery.identified(detail.peerId.toString(), addresses, hostOf(detail.connection.remoteAddr))
      data.identified(
        parsePeerId(detail.peerId.toString()),
        detail.listenAddrs.map((address) => placeOf(address).join(' ')),
      )
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
