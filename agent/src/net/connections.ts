// Making, finding and ending connections of the node, in the words and errors of the house.
import type { Connection, Stream } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import { type PeerId, parsePeerId } from '@shoal/protocol/ids.ts'
import { type Clock, deadline } from '@shoal/protocol/time.ts'
import type { OpenConnection } from '../plan/connection-choice.ts'
import { hostOf, parseAddress, placeOf } from './addresses.ts'
import type { PeerLink } from './data-plane.ts'
import type { MeshLibp2p } from './node.ts'

const DIAL_TIMEOUT_MS = 8_000

export class Connections {
  readonly #node: MeshLibp2p
  readonly #clock: Clock

  constructor(node: MeshLibp2p, clock: Clock) {
    this.#node = node
    this.#clock = clock
  }

  peers(): readonly PeerId[] {
    return this.#node.getPeers().map((peer) => parsePeerId(peer.toString()))
  }

  /** The connection to use with a peer; undefined when there is none. */
  find(peer: PeerId): Connection | undefined {
    return this.#of(peer).find(({ status }) => status === 'open')
  }

  /** One of each peer. `isInUse` when there is a stream of a protocol of this family. */
  open(protocolPrefix: string): readonly Omit<OpenConnection, 'isGiven' | 'isNear'>[] {
    const wallTime = this.#clock.wallTime()
    return this.peers().flatMap((peer) => {
      const connection = this.find(peer)
      if (connection === undefined) return []
      return {
        peer,
        isInbound: connection.direction === 'inbound',
        isInUse: connection.streams.some(({ protocol }) => protocol.startsWith(protocolPrefix)),
        ageMs: wallTime - connection.timeline.open,
      }
    })
  }

  /** IP address that a connected peer was seen at. */
  hostOf(peer: PeerId): string | undefined {
    const connection = this.find(peer)
    return connection === undefined ? undefined : hostOf(connection.remoteAddr)
  }

  /** How a peer is connected; undefined when it is not. */
  linkOf(peer: PeerId): PeerLink | undefined {
    const connection = this.find(peer)
    if (connection === undefined) return undefined
    const [host, port] = placeOf(connection.remoteAddr)
    return { host, port, isOutbound: connection.direction === 'outbound' }
  }

  /** True when a stream that we opened to the peer speaks a protocol of this family. */
  hasOutboundStream(peer: string, protocolPrefix: string): boolean {
    return this.#of(peer).some(({ streams }) =>
      streams.some(
        ({ direction, protocol }) => direction === 'outbound' && protocol.startsWith(protocolPrefix),
      ),
    )
  }

  /** @throws ShoalError `peer-unreachable` without a connection; what libp2p throws when no stream can be opened */
  async openStream(peer: PeerId, protocol: string, signal: AbortSignal): Promise<Stream> {
    const connection = this.find(peer)
    if (connection === undefined)
      throw new ShoalError('peer-unreachable', `not connected with ${peer}`, { peer })
    return connection.newStream(protocol, { signal })
  }

  /**
   * Connects to any of `addresses`, all of one host.
   * @returns who answered, or `self` when it was this host
   * @throws ShoalError `peer-unreachable` | `bad-request` for what is no address | `aborted`
   */
  async dial(addresses: readonly string[], signal: AbortSignal): Promise<PeerId | 'self'> {
    const targets = addresses.map((text) => {
      const parsed = parseAddress(text)
      if (parsed === undefined)
        throw new ShoalError('bad-request', `not a peer address: ${JSON.stringify(text)}`)
      return parsed.address
    })
    using limit = deadline(
      this.#clock,
      DIAL_TIMEOUT_MS,
      () => new ShoalError('peer-unreachable', `no answer from ${addresses.join(', ')}`),
      signal,
    )
    try {
      const connection = await this.#node.dial(targets, { signal: limit.signal })
      return parsePeerId(connection.remotePeer.toString())
    } catch (error) {
      if (limit.signal.aborted) throw limit.signal.reason
      const reason = reasonOf(error)
      if (reason.includes('dial self')) return 'self'
      throw new ShoalError(
        'peer-unreachable',
        `could not connect to ${addresses.join(', ')}: ${reason}`,
        {},
        error,
      )
    }
  }

  /** Cuts every connection with a peer at once. */
  cut(peer: PeerId, reason: Error): void {
    for (const connection of this.#of(peer)) connection.abort(reason)
  }

  #of(peer: string): readonly Connection[] {
    return this.#node.getConnections(peerIdFromString(peer))
  }
}

/** libp2p tries several addresses and gives an error for each. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(messageOf).join('; ')
  return messageOf(error)
}
