// Bytes moved with each peer, both ways. Counts payload as it moves, aborted transfers included.

const MAX_PEERS = 1024

export interface PeerTraffic {
  readonly bytesReceived: number
  readonly bytesSent: number
}

const NONE: PeerTraffic = { bytesReceived: 0, bytesSent: 0 }

export class Traffic {
  readonly #byPeer = new Map<string, PeerTraffic>()

  received(peer: string, bytes: number): void {
    const { bytesReceived, bytesSent } = this.of(peer)
    this.#set(peer, { bytesReceived: bytesReceived + bytes, bytesSent })
  }

  sent(peer: string, bytes: number): void {
    const { bytesReceived, bytesSent } = this.of(peer)
    this.#set(peer, { bytesReceived, bytesSent: bytesSent + bytes })
  }

  of(peer: string): PeerTraffic {
    return this.#byPeer.get(peer) ?? NONE
  }

  /** The peer that was quiet the longest is forgotten first. */
  #set(peer: string, traffic: PeerTraffic): void {
    this.#byPeer.delete(peer)
    this.#byPeer.set(peer, traffic)
    if (this.#byPeer.size <= MAX_PEERS) return
    const quietest = this.#byPeer.keys().next()
    if (!quietest.done) this.#byPeer.delete(quietest.value)
  }
}
