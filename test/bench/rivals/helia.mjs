// One Helia node over TCP, for the benchmark: no DHT, no discovery, blocks in files. `seed FILE FOLDER` prints `at CID ADDRESS`; `fetch
// FOLDER CID ADDRESS` connects, says ready, waits for a line, prints the seconds to the last block, and then the file's SHA-256.
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { unixfs } from '@helia/unixfs'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { FsBlockstore } from 'blockstore-fs'
import { createHelia } from 'helia'
import { CID } from 'multiformats/cid'

const [role, ...rest] = process.argv.slice(2)
const folder = role === 'seed' ? rest[1] : rest[0]
const blockstore = new FsBlockstore(folder)
await blockstore.open()
const helia = createHelia({
  blockstore,
  libp2p: {
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    peerDiscovery: [],
    services: { identify: identify() },
  },
})
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
