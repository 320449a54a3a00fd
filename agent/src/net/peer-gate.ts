// Whom we let in: bans with an end, and at most two connections per peer (both sides may dial at once; more is waste
// or an attack, since libp2p counts streams per connection only). Pure: told the time and the connections, decides.

/** One dialled by each side. */
export const MAX_CONNECTIONS_PER_PEER = 2
const MAX_BANS = 1024

export class PeerGate {
  readonly #bannedUntil = new Map<string, number>()
  readonly #connections = new Map<string, number>()

  /** @param untilMs on the clock that `now` is read from */
  ban(peer: string, untilMs: number): void {
    this.#bannedUntil.delete(peer)
    this.#bannedUntil.set(peer, untilMs)
    if (this.#bannedUntil.size <= MAX_BANS) return
    const oldest = this.#bannedUntil.keys().next()
    if (!oldest.done) this.#bannedUntil.delete(oldest.value)
  }

  isBanned(peer: string, now: number): boolean {
    const until = this.#bannedUntil.get(peer)
    if (until === undefined) return false
    if (now < until) return true
    this.#bannedUntil.delete(peer)
    return false
  }

  /** May another connection with `peer` be made now? */
  admits(peer: string, now: number): boolean {
    return !this.isBanned(peer, now) && (this.#connections.get(peer) ?? 0) < MAX_CONNECTIONS_PER_PEER
  }

  /** A connection is up. False if it is one too many (several were admitted at the same moment): close it. */
  opened(peer: string): boolean {
    const count = (this.#connections.get(peer) ?? 0) + 1
    this.#connections.set(peer, count)
    return count <= MAX_CONNECTIONS_PER_PEER
  }

  closed(peer: string): void {
    const count = (this.#connections.get(peer) ?? 0) - 1
    if (count > 0) this.#connections.set(peer, count)
    else this.#connections.delete(peer)
  }
}
