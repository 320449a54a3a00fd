// PURE. Which requests the coordinator answers at all, on every method: a Host that is its own name, and no page of another
// site behind it. There is no CORS: no page but its own may talk to it.
import { type ErrorCode, ShoalError } from '@shoal/protocol/errors.ts'
import { formatListenAddress, type ListenAddress } from '@shoal/protocol/listen-address.ts'

/**
 * Values of Host that are ours, lower case: the loopback names and the listening address with the port, and what is
 * configured (which gets the port too unless it names one).
 */
export function allowedHosts(address: ListenAddress, configured: readonly string[]): ReadonlySet<string> {
  const own = address.host === '0.0.0.0' || address.host === '::' ? [] : [withoutPort(address)]
  const hosts = new Set<string>()
  for (const name of ['127.0.0.1', 'localhost', '[::1]', ...own, ...configured]) {
    const lower = name.toLowerCase()
    if (/[^:]:\d+$/.test(lower) && !lower.endsWith(']')) hosts.add(lower)
    else hosts.add(`${lower}:${address.port}`)
    // Clients leave out the port that the scheme implies.
    if (address.port === 80) hosts.add(lower)
  }
  return hosts
}

export interface RequestHeaders {
  readonly host: string | undefined
  readonly origin: string | undefined
  readonly fetchSite: string | undefined
}

/** Why a request is refused before it is routed; undefined when it is not. */
export function refusal(headers: RequestHeaders, hosts: ReadonlySet<string>): ShoalError | undefined {
  const host = headers.host?.toLowerCase()
  if (host === undefined) return refused('bad-request', 'a Host header is needed')
  if (!hosts.has(host))
    return refused(
      'misdirected',
      'the coordinator does not answer for that host name; see coordinator.allowed_hosts',
    )
  if (headers.fetchSite !== undefined && headers.fetchSite !== 'same-origin' && headers.fetchSite !== 'none')
    return refused('forbidden', 'a page of another site may not use the coordinator')
  if (headers.origin !== undefined && headers.origin.toLowerCase() !== `http://${host}`)
    return refused('forbidden', 'a page of another origin may not use the coordinator')
  return undefined
}

function withoutPort(address: ListenAddress): string {
  return formatListenAddress(address).replace(/:\d+$/, '')
}

function refused(code: ErrorCode, message: string): ShoalError {
  return new ShoalError(code, message)
}
