// Where a socket of the origin side may go. The rule is applied to the address a socket is about to use and again to the
// one it got, so no redirect, literal address or DNS answer leads inside. Decides by addresses.ts; opens nothing itself.
import { lookup as systemLookup } from 'node:dns/promises'
import type { LookupFunction, Socket } from 'node:net'
import { messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import { classifyAddress, literalAddress, type Reach, reachOf, withinReach } from './addresses.ts'

export interface HostAddress {
  readonly address: string
  readonly family: number
}

/** Turns a host name into its addresses. */
export type ResolveHost = (hostname: string) => Promise<readonly HostAddress[]>

export const systemResolve: ResolveHost = (hostname) => systemLookup(hostname, { all: true })

export interface ConnectGuard {
  /** Refuses a literal address out of reach: those are never looked up. @throws ShoalError `origin-refused` */
  checkHost(hostname: string): void
  /** For `net.connect`: only addresses within reach come out of it. */
  readonly lookup: LookupFunction
  /** The address a connected socket really has. @throws ShoalError `origin-refused` */
  checkSocket(socket: Socket): void
}

/**
 * The guard of one upstream. What the upstream's own name stands for when it is first looked up decides how far it and
 * everything it redirects to may reach; a later answer of its DNS never widens that.
 */
export function createConnectGuard(upstream: URL, resolve: ResolveHost): ConnectGuard {
  const literal = literalAddress(upstream.hostname)
  let reach: Reach | undefined = literal === undefined ? undefined : reachOfLiteral(literal)
  const refused = (host: string, why: string) =>
    new ShoalError('origin-refused', `a connection to ${host} was refused: ${why}`, { host })

  async function addressesOf(hostname: string): Promise<readonly HostAddress[]> {
    if (reach === undefined && hostname !== upstream.hostname) await addressesOf(upstream.hostname)
    const found = await resolve(hostname)
    if (reach === undefined && hostname === upstream.hostname)
      reach = reachOf(found.map((one) => one.address))
    const allowed = found.filter((one) => reach !== undefined && withinReach(one.address, reach))
    if (allowed.length === 0) throw refused(hostname, 'its addresses are inside this network or reserved')
    return allowed
  }

  return {
    checkHost(hostname) {
      const address = literalAddress(hostname)
      if (address === undefined) return
      const limit = reach ?? 'public'
      if (classifyAddress(address) === 'forbidden' || !withinReach(address, limit))
        throw refused(hostname, 'the address is inside this network or reserved')
    },
    lookup(hostname, options, callback) {
      addressesOf(hostname).then(
        (found) => {
          const family = options.family === 'IPv4' ? 4 : options.family === 'IPv6' ? 6 : options.family
          const usable = found.filter((one) => !family || one.family === family)
          const [first] = usable
          if (first === undefined) callback(refused(hostname, 'it has no usable address'), '', 0)
          else if (options.all) callback(null, [...usable])
          else callback(null, first.address, first.family)
        },
        (error: unknown) => callback(asError(error), '', 0),
      )
    },
    checkSocket(socket) {
      const address = socket.remoteAddress
      if (address === undefined) return
      if (!withinReach(address, reach ?? 'public'))
        throw refused(address, 'the address is inside this network or reserved')
    },
  }
}

function reachOfLiteral(address: string): Reach {
  const kind = classifyAddress(address)
  return kind === 'forbidden' ? 'public' : kind
}

function asError(error: unknown): NodeJS.ErrnoException {
  return error instanceof Error ? error : new Error(messageOf(error))
}
