// Where a program listens for HTTP: `host:port` as people write it, and which hosts only this machine can reach. Pure.
import { ShoalError } from './errors.ts'

/** `host` without brackets: an IP address or `localhost`. `port` 0 means any free one. */
export interface ListenAddress {
  readonly host: string
  readonly port: number
}

const IPV4 = /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.|$)){4}$/
const IPV6 = /^[0-9a-f:]*:[0-9a-f:.]*(?:%[0-9a-z]+)?$/i

/**
 * Reads `127.0.0.1:8001`, `[::1]:8001`, `localhost:0`.
 * @throws ShoalError `bad-config`, saying what is wrong with it
 */
export function parseListenAddress(text: string): ListenAddress {
  const match = /^(\[[^\]]*\]|[^:[\]]+):(\d{1,6})$/.exec(text)
  if (match === null) {
    const bare = text.split(':').length > 2 && !text.includes('[')
    throw new ShoalError(
      'bad-config',
      bare
        ? 'an IPv6 address needs brackets, as in "[::1]:8001"'
        : 'expected HOST:PORT, as in "127.0.0.1:8001"',
    )
  }
  const [, hostText = '', portText = ''] = match
  const port = Number(portText)
  if (port > 65_535) throw new ShoalError('bad-config', 'a port is at most 65535 (0 means any free one)')
  const host = hostText.startsWith('[') ? hostText.slice(1, -1) : hostText
  const known = hostText.startsWith('[')
    ? IPV6.test(host)
    : IPV4.test(host) || host.toLowerCase() === 'localhost'
  if (!known) throw new ShoalError('bad-config', 'expected an IP address or localhost before the port')
  return { host: host.toLowerCase(), port }
}

/** True when nothing outside this machine can reach the host: 127.0.0.0/8, ::1, localhost. */
export function isLoopbackHost(host: string): boolean {
  const plain = host.toLowerCase().replace(/^\[|\]$/g, '')
  return (
    plain === 'localhost' ||
    plain === '::1' ||
    (IPV4.test(plain) && plain.startsWith('127.')) ||
    /^::ffff:127\.\d+\.\d+\.\d+$/.test(plain)
  )
}

/** `host:port` for URLs and messages, with brackets where IPv6 needs them. */
export function formatListenAddress(address: ListenAddress): string {
  return `${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`
}
