// Whom we let in: bans with an end, and at most two connections per peer (both sides may dial at once; more is waste
// or an attack, since libp2p counts streams per connection only). Pure: told the time and the connections, decides.

/** One dialled by each side. */
export const MAX_CONNECTIONS_PER_PEER = 2
const MAX_BANS = 1024

export class PeerGate {
  readonly #bannedUntil = new Map<string, number>()

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

  /** May another connection with `peer` be made now, besides the `open` ones? */
  admits(peer: string, open: number, now: number): boolean {
    return open < MAX_CONNECTIONS_PER_PEER && !this.isBanned(peer, now)
  }
}
