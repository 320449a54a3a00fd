// One WebTorrent peer over TCP, for the benchmark: no DHT, no trackers, no uTP. `seed TORRENT FOLDER` prints its port once it has
// checked its file; `fetch TORRENT FOLDER PORT` says ready, waits for a line, and prints the seconds to the checked file.
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { registerHooks } from 'node:module'

// Its WebRTC comes as a native library that an install script fetches; over TCP it is not used.
const NO_WEBRTC =
  'data:text/javascript,export const RTCPeerConnection=undefined,RTCSessionDescription=undefined,RTCIceCandidate=undefined'
registerHooks({
  resolve: (name, context, next) =>
    name === 'webrtc-polyfill'
      ? { url: NO_WEBRTC, format: 'module', shortCircuit: true }
      : next(name, context),
})
const { default: WebTorrent } = await import('webtorrent')

const [role, file, path, port] = process.argv.slice(2)
const client = new WebTorrent({
  dht: false,
  tracker: false,
  lsd: false,
  utp: false,
  natUpnp: false,
  natPmp: false,
})
client.on('error', fail)
const torrent = client.add(await readFile(file), { path, announce: [] })
torrent.on('error', fail)
await once(torrent, 'ready')
if (role === 'seed') {
  while (torrent.progress < 1 || client.torrentPort === 0)
    await new Promise((resolve) => setTimeout(resolve, 20))
  console.log(`port ${client.torrentPort}`)
} else {
  console.log('ready')
  await once(process.stdin, 'data')
  const startedAt = performance.now()
  torrent.addPeer(`127.0.0.1:${port}`)
  if (!torrent.done) await once(torrent, 'done')
  console.log(`seconds ${(performance.now() - startedAt) / 1000}`)
}

function fail(error) {
  console.error(error)
  process.exit(1)
}
