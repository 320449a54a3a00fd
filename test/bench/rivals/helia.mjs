// One Helia node over TCP, for the benchmark: no DHT, no discovery, blocks in files. `seed FILE FOLDER` prints `at CID ADDRESS`; `fetch
// FOLDER CID ADDRESS` connects, says ready, waits for a line, prints the seconds to the last block, and then the file's SHA-256.
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { withBitswap } from '@helia/bitswap'
import { withLibp2pLight } from '@helia/libp2p'
import { unixfs } from '@helia/unixfs'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { FsBlockstore } from 'blockstore-fs'
import { createHeliaLight } from 'helia'
import { CID } from 'multiformats/cid'

const [role, ...rest] = process.argv.slice(2)
const folder = role === 'seed' ? rest[1] : rest[0]
const blockstore = new FsBlockstore(folder)
await blockstore.open()
// No gateways and no routers over HTTP: waiting for them would only cost it time here.
const helia = withBitswap(
  withLibp2pLight(createHeliaLight({ blockstore }), {
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { identify: identify() },
  }),
)
await helia.start()
const files = unixfs(helia)

if (role === 'seed') {
  const cid = await files.addByteStream(createReadStream(rest[0], { highWaterMark: 1024 * 1024 }))
  console.log(`at ${cid} ${helia.libp2p.getMultiaddrs()[0]}`)
} else {
  const cid = CID.parse(rest[1])
  await helia.libp2p.dial(multiaddr(rest[2]))
  console.log('ready')
  await once(process.stdin, 'data')
  const startedAt = performance.now()
  for await (const _ of files.cat(cid));
  console.log(`seconds ${(performance.now() - startedAt) / 1000}`)
  await once(process.stdin, 'data')
  const hash = createHash('sha256')
  for await (const piece of files.cat(cid, { offline: true })) hash.update(piece)
  console.log(`sha256 ${hash.digest('hex')}`)
}
