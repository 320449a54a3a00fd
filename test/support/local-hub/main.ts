// The local Hub as a process of its own: `node test/support/local-hub/main.ts [OPTIONS-AS-JSON]`. Prints one line of JSON with
// its URLs once it listens, and ends on SIGTERM, SIGINT, or when its standard input closes (so it never outlives a test).
import { systemClock } from '@shoal/protocol/time.ts'
import { controlHandler, hubControl, type RepoJson } from './control.ts'
import { type LocalHubOptions, startLocalHub } from './hub.ts'
import { Listener } from './listener.ts'

export interface HubProcessOptions extends Omit<LocalHubOptions, 'clock' | 'repos'> {
  readonly repos?: readonly RepoJson[]
  /** Address that control listens on; default 127.0.0.1. */
  readonly controlHost?: string
}

const { repos = [], controlHost, ...options } = JSON.parse(process.argv[2] ?? '{}') as HubProcessOptions
const hub = await startLocalHub(options)
const control = hubControl(hub)
for (const repo of repos) await control.addRepo(repo)
const server = new Listener(systemClock, controlHandler(control), 0, controlHost)
await server.open()

console.log(
  JSON.stringify({
    url: hub.url,
    cdnUrl: hub.cdnUrl,
    mirrorUrl: hub.mirrorUrl,
    controlUrl: server.url,
    pid: process.pid,
  }),
)

const stop = () => {
  Promise.all([hub.stop(), server.close()]).then(
    () => process.exit(0),
    (error: unknown) => {
      console.error(error)
      process.exit(1)
    },
  )
}
process.once('SIGTERM', stop)
process.once('SIGINT', stop)
process.stdin.once('end', stop).resume()
