// Finding the other hosts: the operator's addresses, mDNS, the file of an earlier run, and what admitted peers tell.
// One known host is enough to find all. Feeds the peer book and keeps its file; decides nothing about admission. How many
// connections there are, and with whom, is decided in plan/connection-choice.ts.
import { isAbort, messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import { type PeerId, parsePeerId } from '@shoal/protocol/ids.ts'
import { CHUNK_PROTOCOL } from '@shoal/protocol/messages.ts'
import type { Tasks } from '@shoal/protocol/service.ts'
import { type Clock, type Random, sleep } from '@shoal/protocol/time.ts'
import {
  CHOSEN_CONNECTIONS,
  chooseCloses,
  chooseDials,
  KEPT_CONNECTIONS,
  VISIT_MS,
} from '../plan/connection-choice.ts'
import { addressesOfPeer, parseAddress } from './addresses.ts'
import type { Connections } from './connections.ts'
import { Dialer } from './dialer.ts'
import type { MeshLog } from './mesh-log.ts'
import { type DialTarget, PeerBook } from './peer-book.ts'
import { PeerFile } from './peer-file.ts'
import { MAX_PEERS_TOLD, type PeerAddresses, type PeersAnswer } from './questions.ts'

/** How often some peer is asked again whom it knows: heals a mesh that missed an introduction. */
const ASK_AGAIN_MS = 60_000
/** A new peer is asked a second time after about this long. */
const ASK_SOON_MS = 2_000
/** Two hosts that are told of each other at the same moment should not both dial: one of them waits so long. */
const YIELD_MS = 1_000
const SAVE_AFTER_MS = 5_000
/** Where our own file speaks from. */
const THIS_HOST = '127.0.0.1'

export interface DiscoveryDeps {
  readonly self: PeerId
  readonly staticPeers: readonly string[]
  /** File of known peers. */
  readonly path: string
  readonly clock: Clock
  readonly random: Random
  readonly tasks: Tasks
  readonly log: MeshLog
  readonly connections: Pick<Connections, 'open' | 'dial' | 'hostOf' | 'cut'>
  readonly isBanned: (peer: string) => boolean
  /** The labels of this host and the peer say that they stand near each other. */
  readonly isNear: (peer: string) => boolean
  /** Asks a peer whom it knows. */
  readonly askPeers: (peer: PeerId, signal: AbortSignal) => Promise<PeersAnswer>
}

export class Discovery {
  readonly #deps: DiscoveryDeps
  readonly #book: PeerBook
  readonly #file: PeerFile
  readonly #dialer: Dialer
  readonly #connected = new Set<PeerId>()
  #changed = false

  /** @throws ShoalError `bad-config` for a static peer that is no address */
  constructor(deps: DiscoveryDeps) {
    this.#deps = deps
    this.#book = new PeerBook(deps.random)
    this.#file = new PeerFile(deps.path)
    for (const text of deps.staticPeers) this.#learnStatic(text)
    this.#dialer = new Dialer({
      book: this.#book,
      tasks: deps.tasks,
      clock: deps.clock,
      isSettled: (peer) => this.#connected.has(peer) || deps.isBanned(peer),
      choose: (due, dialling) => this.#choose(due, dialling),
      dial: (addresses, signal) => deps.connections.dial(addresses, signal),
      onFailed: (addresses, reason) =>
        deps.log('debug', 'could not connect to a peer', { addresses: addresses.join(' '), reason }),
    })
  }

  async start(): Promise<void> {
    for (const { peer, addresses } of await this.#file.read()) this.#learn(peer, addresses, THIS_HOST)
    this.#dialer.start()
    this.#deps.tasks.run('peer exchange', (signal) => this.#askAround(signal))
    this.#deps.tasks.run('peer file', (signal) => this.#saveChanges(signal))
  }

  /** Call after the tasks have stopped. */
  async stop(): Promise<void> {
    await this.#save()
  }

  /** Somebody at the IP address `teller` said where a peer is. */
  heard(peer: string, addresses: readonly string[], teller: string): void {
    this.#learn(peer, addresses, teller)
  }

  /** A peer that was seen at the IP address `host` told its own addresses. */
  identified(peer: string, addresses: readonly string[], host: string): void {
    this.#learn(peer, addresses, host, host)
    for (const connected of this.#connected)
      if (connected === peer) this.#book.connected(connected, this.#deps.clock.now())
  }

  connected(peer: PeerId): void {
    const { tasks, clock } = this.#deps
    this.#connected.add(peer)
    this.#book.connected(peer, clock.now())
    if (this.#connected.size > KEPT_CONNECTIONS)
      tasks.run('let a visitor stay or go', async (signal) => {
        await sleep(clock, VISIT_MS, signal)
        this.#closeSurplus()
      })
    tasks.run('ask a new peer whom it knows', async (signal) => {
      await this.#askPeer(peer, signal)
      // Hosts that came at the same moment did not know of each other yet.
      await sleep(clock, ASK_SOON_MS * (0.5 + this.#deps.random.next()), signal)
      await this.#askPeer(peer, signal)
    })
  }

  disconnected(peer: PeerId): void {
    this.#connected.delete(peer)
    const isWellConnected = this.#connected.size >= CHOSEN_CONNECTIONS / 2
    this.#book.lost(peer, this.#deps.clock.now(), isWellConnected)
    this.#dialer.wake()
  }

  /** What we tell a peer that asks: connected peers, a random choice if there are many. */
  tell(asker: PeerId): PeersAnswer {
    const peers: PeerAddresses[] = []
    for (const peer of this.#shuffled([...this.#connected])) {
      const addresses = this.#book.addressesOf(peer)
      if (peer !== asker && addresses.length > 0) peers.push({ peer, addresses: [...addresses] })
      if (peers.length === MAX_PEERS_TOLD) break
    }
    return { peers }
  }

  #choose(due: readonly DialTarget[], dialling: readonly (PeerId | undefined)[]): readonly DialTarget[] {
    const { self, isNear } = this.#deps
    const coming = dialling.filter((peer) => peer === undefined || !this.#connected.has(peer))
    const all = [...this.#connected, ...coming]
    const near = all.filter((peer) => peer !== undefined && isNear(peer))
    return chooseDials(self, due, { all: all.length, near: near.length }, isNear)
  }

  #closeSurplus(): void {
    const { self, connections, isNear, log } = this.#deps
    const open = connections.open(CHUNK_PROTOCOL).map((connection) => ({
      ...connection,
      isGiven: this.#book.isGiven(connection.peer),
      isNear: isNear(connection.peer),
    }))
    for (const peer of chooseCloses(self, open)) {
      log('debug', 'connections enough: hung up on a peer', { peer })
      connections.cut(peer, new ShoalError('peer-busy', 'connections enough', { peer }))
    }
  }

  #learnStatic(text: string): void {
    const parsed = parseAddress(text)
    if (parsed === undefined)
      throw new ShoalError(
        'bad-config',
        `not a peer address: ${JSON.stringify(text)} (expected like /ip4/10.0.0.5/tcp/8002, best with /p2p/<peer id>)`,
      )
    const now = this.#deps.clock.now()
    if (parsed.peer === undefined) this.#book.learnAddress(text, now)
    else if (parsed.peer !== this.#deps.self) this.#book.learn(parsed.peer, [text], 'static', now)
  }

  #learn(peerText: string, texts: readonly string[], teller: string, seenAtHost?: string): void {
    if (peerText === this.#deps.self) return
    let peer: PeerId
    try {
      peer = parsePeerId(peerText)
    } catch {
      return
    }
    const addresses = addressesOfPeer(peer, texts, teller, seenAtHost)
    const now = this.#deps.clock.now()
    const notBeforeMs = this.#deps.self < peer ? now : now + YIELD_MS
    if (!this.#book.learn(peer, addresses, 'told', now, notBeforeMs)) return
    this.#changed = true
    this.#dialer.wake()
  }

  async #askAround(signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#deps
    while (!signal.aborted) {
      await sleep(clock, ASK_AGAIN_MS * (0.5 + random.next()), signal)
      const [peer] = this.#shuffled([...this.#connected])
      if (peer !== undefined) await this.#askPeer(peer, signal)
    }
  }

  async #askPeer(peer: PeerId, signal: AbortSignal): Promise<void> {
    const { askPeers, connections, log } = this.#deps
    const teller = connections.hostOf(peer)
    if (teller === undefined) return
    try {
      const answer = await askPeers(peer, signal)
      for (const told of answer.peers) this.#learn(told.peer, told.addresses, teller)
    } catch (error) {
      if (isAbort(error)) throw error
      log('debug', 'a peer did not tell whom it knows', { peer, reason: messageOf(error) })
    }
  }

  async #saveChanges(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(this.#deps.clock, SAVE_AFTER_MS, signal)
      await this.#save()
    }
  }

  async #save(): Promise<void> {
    if (!this.#changed) return
    this.#changed = false
    try {
      await this.#file.write(this.#book.known())
    } catch (error) {
      this.#deps.log('warn', 'could not save the known peers', { reason: messageOf(error) })
    }
  }

  #shuffled(peers: readonly PeerId[]): PeerId[] {
    return peers
      .map((peer) => ({ peer, luck: this.#deps.random.next() }))
      .toSorted((a, b) => a.luck - b.luck)
      .map(({ peer }) => peer)
  }
}
