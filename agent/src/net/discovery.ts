// Finding the other hosts: the operator's addresses, mDNS, the file of an earlier run, and what admitted peers tell.
// One known host is enough to find all. Feeds the peer book and keeps its file; decides nothing about admission.
import { isAbort, messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import { type PeerId, parsePeerId } from '@shoal/protocol/ids.ts'
import type { Tasks } from '@shoal/protocol/service.ts'
import { type Clock, type Random, sleep } from '@shoal/protocol/time.ts'
import { addressesOfPeer, parseAddress } from './addresses.ts'
import { Dialer } from './dialer.ts'
import type { MeshLog } from './mesh-log.ts'
import { PeerBook } from './peer-book.ts'
import { PeerFile } from './peer-file.ts'
import { MAX_PEERS_TOLD, type PeerAddresses, type PeersAnswer } from './questions.ts'

/** How often some peer is asked again whom it knows: heals a mesh that missed an introduction. */
const ASK_AGAIN_MS = 60_000
/** A new peer is asked a second time after about this long. */
const ASK_SOON_MS = 2_000
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
  readonly connectedPeers: () => readonly PeerId[]
  /** No dial is needed: connected, or banned for now. */
  readonly isSettled: (peer: PeerId) => boolean
  readonly isFull: () => boolean
  readonly dial: (addresses: readonly string[], signal: AbortSignal) => Promise<PeerId | 'self'>
  /** Asks a peer whom it knows. */
  readonly askPeers: (peer: PeerId, signal: AbortSignal) => Promise<PeersAnswer>
  /** IP address that a connected peer was seen at. */
  readonly hostOfPeer: (peer: PeerId) => string | undefined
}

export class Discovery {
  readonly #deps: DiscoveryDeps
  readonly #book: PeerBook
  readonly #file: PeerFile
  readonly #dialer: Dialer
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
      isSettled: deps.isSettled,
      isFull: deps.isFull,
      dial: deps.dial,
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
  }

  connected(peer: PeerId): void {
    this.#deps.tasks.run('ask a new peer whom it knows', async (signal) => {
      await this.#askPeer(peer, signal)
      // Hosts that came at the same moment did not know of each other yet.
      await sleep(this.#deps.clock, ASK_SOON_MS * (0.5 + this.#deps.random.next()), signal)
      await this.#askPeer(peer, signal)
    })
  }

  disconnected(peer: PeerId): void {
    this.#book.lost(peer, this.#deps.clock.now())
    this.#dialer.wake()
  }

  /** What we tell a peer that asks: connected peers, a random choice if there are many. */
  tell(asker: PeerId): PeersAnswer {
    const peers: PeerAddresses[] = []
    for (const peer of this.#shuffled(this.#deps.connectedPeers())) {
      const addresses = this.#book.addressesOf(peer)
      if (peer !== asker && addresses.length > 0) peers.push({ peer, addresses: [...addresses] })
      if (peers.length === MAX_PEERS_TOLD) break
    }
    return { peers }
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
    if (!this.#book.learn(peer, addresses, 'told', this.#deps.clock.now())) return
    this.#changed = true
    this.#dialer.wake()
  }

  async #askAround(signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#deps
    while (!signal.aborted) {
      await sleep(clock, ASK_AGAIN_MS * (0.5 + random.next()), signal)
      const [peer] = this.#shuffled(this.#deps.connectedPeers())
      if (peer !== undefined) await this.#askPeer(peer, signal)
    }
  }

  async #askPeer(peer: PeerId, signal: AbortSignal): Promise<void> {
    const { askPeers, hostOfPeer, log } = this.#deps
    const teller = hostOfPeer(peer)
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
