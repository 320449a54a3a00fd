// Multiaddrs from outside: what may be dialled, and in which order it is worth trying. An address that a stranger gave
// counts only together with a peer id, so that nobody can point this host at some other service.
import { BlockList, isIP } from 'node:net'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { type PeerId, parsePeerId } from '@shoal/protocol/ids.ts'
import { MAX_ADDRESS_LENGTH, MAX_ADDRESSES_PER_PEER } from './questions.ts'

const HOSTS = new Set(['ip4', 'ip6', 'dns', 'dns4', 'dns6'])

/** Plain TCP to an IP address or name: no relay, no other transport. */
export function isDialable(address: Multiaddr): boolean {
  const [host, transport, ...rest] = address.getComponents().map(({ name }) => name)
  return host !== undefined && HOSTS.has(host) && transport === 'tcp' && rest.every((name) => name === 'p2p')
}

export interface ParsedAddress {
  readonly address: Multiaddr
  /** undefined when the address names no peer. */
  readonly peer: PeerId | undefined
}

/** Reads a multiaddr of TCP with an optional peer id; undefined for anything else. Never throws. */
export function parseAddress(text: string): ParsedAddress | undefined {
  if (text.length > MAX_ADDRESS_LENGTH) return undefined
  try {
    const address = multiaddr(text)
    if (!isDialable(address)) return undefined
    const peer = address.getComponents().findLast(({ name }) => name === 'p2p')?.value
    return { address, peer: peer === undefined ? undefined : parsePeerId(peer) }
  } catch {
    return undefined
  }
}

/**
 * The addresses of `peer` worth keeping, each ending in its id, best first: those on the host that it was really seen
 * at, then others. Loopback ones come last and only from a `teller` on this very host: from anyone else they would point
 * at our own services.
 * @param teller IP address of whoever told us
 * @param seenAtHost IP address that the peer itself was seen at
 */
export function addressesOfPeer(
  peer: PeerId,
  texts: readonly string[],
  teller: string,
  seenAtHost?: string,
): readonly string[] {
  const withRank: { readonly text: string; readonly rank: number }[] = []
  for (const text of texts) {
    const parsed = parseAddress(text)
    if (parsed === undefined || (parsed.peer !== undefined && parsed.peer !== peer)) continue
    const full = parsed.peer === undefined ? `${text}/p2p/${peer}` : text
    if (withRank.some((other) => other.text === full)) continue
    const host = hostOf(parsed.address)
    if (isLoopback(host) && !isLoopback(teller)) continue
    const rank = host === seenAtHost ? 0 : isLoopback(host) ? 2 : 1
    withRank.push({ text: full, rank })
  }
  return withRank
    .toSorted((a, b) => a.rank - b.rank)
    .slice(0, MAX_ADDRESSES_PER_PEER)
    .map(({ text }) => text)
}

/** The IP address or name in a multiaddr. */
export function hostOf(address: Multiaddr): string {
  return address.getComponents()[0]?.value ?? ''
}

/** Hosts of the addresses that this host listens on, each once. */
export function listenHosts(texts: readonly string[]): readonly string[] {
  const hosts = texts.flatMap((text) => {
    const parsed = parseAddress(text)
    return parsed === undefined ? [] : hostOf(parsed.address)
  })
  return [...new Set(hosts)]
}

/** IP address or name, and TCP port, in a multiaddr; 0 for none. */
export function placeOf(address: Multiaddr): [host: string, port: number] {
  const port = address.getComponents().find(({ name }) => name === 'tcp')?.value
  return [hostOf(address), Number(port ?? 0)]
}

/** Addresses of this machine only; `0.0.0.0` and `::` too, since connecting to them ends up here. */
const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8)
loopback.addSubnet('0.0.0.0', 8)
loopback.addAddress('::1', 'ipv6')
loopback.addAddress('::', 'ipv6')

/** An IP address or a name that means this machine, IPv4 within IPv6 included. */
export function isLoopback(host: string): boolean {
  const version = isIP(host)
  if (version === 0) return host === 'localhost' || host.endsWith('.localhost')
  return loopback.check(host, version === 4 ? 'ipv4' : 'ipv6')
}
