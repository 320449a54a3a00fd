// What BitTorrent programs need to be measured beside: a .torrent of one file (BEP 3) and a tracker that knows them all.
// For tests and benchmarks only.
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import { atEnd } from './cleanups.ts'

export const PIECE_BYTES = 256 * 1024
/** Soon enough that a peer which missed one round is in the next. */
const INTERVAL_SECONDS = 2
const COMPACT_PORT_BYTES = 2

type Bencode = number | string | Uint8Array | { readonly [key: string]: Bencode }

/**
 * @param pieces the file, in pieces of any length
 * @param pieceBytes of the torrent
 */
export async function torrentOf(
  name: string,
  sizeBytes: number,
  pieces: AsyncIterable<Uint8Array>,
  announce: string,
  pieceBytes = PIECE_BYTES,
): Promise<Buffer> {
  const digests: Buffer[] = []
  let hash = createHash('sha1')
  let inPiece = 0
  const close = () => {
    digests.push(hash.digest())
    hash = createHash('sha1')
    inPiece = 0
  }
  for await (const piece of pieces)
    for (let at = 0; at < piece.byteLength; ) {
      const part = piece.subarray(at, at + pieceBytes - inPiece)
      hash.update(part)
      inPiece += part.byteLength
      at += part.byteLength
      if (inPiece === pieceBytes) close()
    }
  if (inPiece > 0) close()
  const info = { length: sizeBytes, name, 'piece length': pieceBytes, pieces: Buffer.concat(digests) }
  return encode({ announce, info })
}

/** Keys of a dictionary in the order of their bytes, as BEP 3 wants them. */
function encode(value: Bencode): Buffer {
  if (typeof value === 'number') return Buffer.from(`i${value}e`)
  if (typeof value === 'string') return encode(Buffer.from(value))
  if (value instanceof Uint8Array) return Buffer.concat([Buffer.from(`${value.byteLength}:`), value])
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1))
  return Buffer.concat([
    Buffer.from('d'),
    ...entries.flatMap(([key, item]) => [encode(key), encode(item)]),
    Buffer.from('e'),
  ])
}

export interface Tracker {
  readonly url: string
  /** Resolves when that many peers have asked. */
  heardFrom(peers: number): Promise<void>
}

/**
 * A tracker that gives everybody everybody (BEP 23), and answers nobody before all are there: they start together.
 * @param addressOf where peers reach the one that asked from this address
 */
export async function startTracker(
  context: Pick<TestContext, 'after'>,
  listenAddress: string,
  peersExpected: number,
  addressOf: (asker: string) => string,
): Promise<Tracker> {
  const peers = new Map<string, number>()
  const all = Promise.withResolvers<void>()
  const waiters: { readonly count: number; readonly resolve: () => void }[] = []
  const server = createServer(async (request, response) => {
    const port = Number(new URL(request.url ?? '/', 'http://tracker').searchParams.get('port'))
    peers.set(addressOf(request.socket.remoteAddress ?? ''), port)
    if (peers.size >= peersExpected) all.resolve()
    for (const { count, resolve } of waiters) if (peers.size >= count) resolve()
    await all.promise
    const list = [...peers].map(([address, at]) => {
      const compact = Buffer.alloc(4 + COMPACT_PORT_BYTES)
      compact.set(address.split('.').map(Number))
      compact.writeUInt16BE(at, 4)
      return compact
    })
    response.end(encode({ interval: INTERVAL_SECONDS, peers: Buffer.concat(list) }))
  }).listen(0, listenAddress)
  await once(server, 'listening')
  atEnd(context, () => {
    server.closeAllConnections()
    server.close()
  })
  return {
    url: `http://${listenAddress}:${(server.address() as AddressInfo).port}/announce`,
    heardFrom: (count) =>
      new Promise((resolve) => {
        if (peers.size >= count) resolve()
        else waiters.push({ count, resolve })
      }),
  }
}
