// PURE. Which network addresses the origin side may connect to. Knows ranges only: resolves nothing, connects nowhere.
// The rule is applied to the address that a socket is about to use, never to a name, so that no redirect, no literal
// and no DNS answer leads inside (reliability note M20). Ranges: IANA special-purpose registries for IPv4 and IPv6.
import { isIP } from 'node:net'

/** How far inside an upstream reaches. Each includes the ones before it. */
export type Reach = 'public' | 'private' | 'loopback'

/** `forbidden`: unspecified, link-local, multicast, broadcast, documentation and reserved ranges; never connected to. */
export type AddressClass = Reach | 'forbidden'

const V4_RANGES: readonly (readonly [base: string, prefix: number, kind: AddressClass])[] = [
  ['0.0.0.0', 8, 'forbidden'],
  ['10.0.0.0', 8, 'private'],
  ['100.64.0.0', 10, 'private'],
  ['127.0.0.0', 8, 'loopback'],
  ['169.254.0.0', 16, 'forbidden'],
  ['172.16.0.0', 12, 'private'],
  ['192.0.0.0', 24, 'forbidden'],
  ['192.0.2.0', 24, 'forbidden'],
  ['192.88.99.0', 24, 'forbidden'],
  ['192.168.0.0', 16, 'private'],
  ['198.18.0.0', 15, 'private'],
  ['198.51.100.0', 24, 'forbidden'],
  ['203.0.113.0', 24, 'forbidden'],
  ['224.0.0.0', 3, 'forbidden'],
]

/** What kind of address this text is. Anything that is not a plain IP address is `forbidden`. */
export function classifyAddress(address: string): AddressClass {
  const zone = address.indexOf('%')
  const bare = zone === -1 ? address : address.slice(0, zone)
  const family = isIP(bare)
  if (family === 4) return classifyV4(v4Number(bare))
  if (family === 6) return classifyV6(v6Groups(bare))
  return 'forbidden'
}

/** True when an address may be connected to on behalf of an upstream that reaches so far. */
export function withinReach(address: string, reach: Reach): boolean {
  const kind = classifyAddress(address)
  if (kind === 'forbidden') return false
  return rank(kind) <= rank(reach)
}

/**
 * How far an upstream reaches, judged by the addresses its own name stands for: the nearest to `public` among them,
 * so that a name with public and private addresses never opens the inside. undefined when all are forbidden.
 */
export function reachOf(addresses: readonly string[]): Reach | undefined {
  let reach: Reach | undefined
  for (const address of addresses) {
    const kind = classifyAddress(address)
    if (kind !== 'forbidden' && (reach === undefined || rank(kind) < rank(reach))) reach = kind
  }
  return reach
}

/** The IP address in a URL's host name (brackets removed), or undefined when it is a name. */
export function literalAddress(hostname: string): string | undefined {
  const bare = hostname.startsWith('[') && hostname.endsWith(']') ? hostname.slice(1, -1) : hostname
  return isIP(bare) === 0 ? undefined : bare
}

function rank(reach: Reach): number {
  return reach === 'public' ? 0 : reach === 'private' ? 1 : 2
}

function classifyV4(value: number): AddressClass {
  for (const [base, prefix, kind] of V4_RANGES) {
    if (Math.floor(value / 2 ** (32 - prefix)) === Math.floor(v4Number(base) / 2 ** (32 - prefix)))
      return kind
  }
  return 'public'
}

function classifyV6(groups: readonly number[]): AddressClass {
  const [first = 0, second = 0, third = 0] = groups
  const embedded = (groups[6] ?? 0) * 65_536 + (groups[7] ?? 0)
  const zeroUpTo = (count: number) => groups.slice(0, count).every((group) => group === 0)
  if (zeroUpTo(7) && groups[7] === 1) return 'loopback'
  if (zeroUpTo(5) && groups[5] === 0xffff) return classifyV4(embedded)
  if (first === 0x64 && second === 0xff9b) {
    return groups.slice(2, 6).every((group) => group === 0) ? classifyV4(embedded) : 'forbidden'
  }
  if (first === 0x2002) return classifyV4(second * 65_536 + third)
  if (first === 0x2001 && (second === 0 || second === 0xdb8)) return 'forbidden'
  if (first >= 0xfc00 && first <= 0xfdff) return 'private'
  if (first === 0x3fff && second < 0x1000) return 'forbidden'
  return first >= 0x2000 && first <= 0x3fff ? 'public' : 'forbidden'
}

function v4Number(address: string): number {
  return address.split('.').reduce((value, part) => value * 256 + Number(part), 0)
}

/** The eight 16-bit groups of a valid IPv6 text. */
function v6Groups(address: string): readonly number[] {
  const [head = '', tail] = address.split('::')
  const left = groupsOf(head)
  if (tail === undefined) return left
  const right = groupsOf(tail)
  return [...left, ...Array.from({ length: 8 - left.length - right.length }, () => 0), ...right]
}

function groupsOf(text: string): readonly number[] {
  if (text === '') return []
  return text.split(':').flatMap((part) => {
    if (!part.includes('.')) return [Number.parseInt(part, 16)]
    const value = v4Number(part)
    return [Math.floor(value / 65_536), value % 65_536]
  })
}
