// The limit of TLS in Node: one process writes bytes into a TLS socket, another reads them and throws them away. Nothing is proven
// and nothing kept. Prints its port, or the seconds it took. Arguments: `serve`, or `fetch PORT BYTES`.

import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { connect, createServer } from 'node:tls'
import { systemClock } from '@shoal/protocol/time.ts'

/** A shared key instead of a certificate: the bulk cipher is the one that TLS 1.3 chooses too. */
const KEY = Buffer.alloc(32, 7)
const SHARED = { ciphers: 'PSK-AES256-GCM-SHA384', maxVersion: 'TLSv1.2' } as const
const PIECE = Buffer.alloc(1024 * 1024, 1)

const [role, port, bytes] = process.argv.slice(2)
if (role === 'serve') await serve()
else await fetchAll(Number(port), Number(bytes))

async function serve(): Promise<void> {
  const server = createServer({ ...SHARED, pskCallback: () => KEY }, async (socket) => {
    socket.on('error', () => {})
    const [asked] = (await once(socket, 'data')) as [Buffer]
    for (let left = Number(asked.toString()); left > 0; left -= PIECE.byteLength)
      if (!socket.write(PIECE.subarray(0, left))) await once(socket, 'drain')
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  console.log(`port ${(server.address() as AddressInfo).port}`)
}

/** Connects, waits for a line, and then stays until it is ended: what it cost can be asked. */
async function fetchAll(at: number, sizeBytes: number): Promise<void> {
  const pskCallback = () => ({ psk: KEY, identity: 'bench' })
  const socket = connect({
    ...SHARED,
    pskCallback,
    checkServerIdentity: () => undefined,
    port: at,
    host: '127.0.0.1',
  })
  await once(socket, 'secureConnect')
  console.log('ready')
  await once(process.stdin, 'data')
  const startedAt = systemClock.now()
  socket.write(String(sizeBytes))
  let received = 0
  for await (const piece of socket) {
    received += (piece as Buffer).byteLength
    if (received >= sizeBytes) break
  }
  console.log(`seconds ${(systemClock.now() - startedAt) / 1000}`)
}
