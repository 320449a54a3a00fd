// aria2 as a rival of case `pair`: as BitTorrent (sender and receiver), and as an HTTP client of nginx that checks the digest.
import { existsSync } from 'node:fs'
import { mkdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { freePort } from '../../support/free-port.ts'
import { startTracker } from '../../support/torrent.ts'
import { FILE } from './case.ts'
import type { Contestant } from './contest.ts'
import { startNginx, whyNoNginx } from './nginx.ts'
import { measuredPair, type PairGiven, peaks } from './pair-transfer.ts'
import { proveCopy, runFolder } from './places.ts'
import { endedSeconds, peakBytes, startProgram, treeSeconds, whyNotProgram } from './processes.ts'

const QUIET = ['--quiet', '--no-conf', '--file-allocation=none']
const CONNECTIONS = 8
const ASK_MS = 20

export function aria2Rivals(pair: PairGiven): readonly Contestant[] {
  return [bitTorrent(pair), overHttp(pair)]
}

function bitTorrent(pair: PairGiven): Contestant {
  return {
    name: 'aria2-bittorrent',
    does: 'SHA-1, no cipher',
    missing: () => whyNotProgram('aria2c'),
    async run(scope) {
      const folder = await runFolder(scope, pair.place)
      const into = join(folder, 'into')
      await mkdir(into)
      const tracker = await startTracker(scope, '127.0.0.1', 2, (asker) => asker)
      const torrent = join(folder, 'file.torrent')
      await writeFile(torrent, await pair.torrent(tracker.url))
      const hook = join(folder, 'done.sh')
      await writeFile(hook, `#!/bin/sh\n: > '${join(folder, 'done')}'\n`, { mode: 0o755 })
      const peer = async (target: string, address: string, options: readonly string[]) => {
        const own = [`--dir=${target}`, `--listen-port=${await freePort()}`, `--interface=${address}`]
        const bt = [
          '--seed-ratio=0.0',
          '--enable-dht=false',
          '--bt-enable-lpd=false',
          '--bt-detach-seed-only=true',
        ]
        return startProgram(scope, 'aria2c', [...QUIET, ...own, ...bt, ...options, torrent])
      }
      const sender = await peer(pair.sourceFolder, '127.0.0.1', ['--check-integrity=true'])
      await tracker.heardFrom(1)
      const receiver = await peer(into, '127.0.0.2', [`--on-bt-download-complete=${hook}`])
      await tracker.heardFrom(2)
      const sides = { sender: () => treeSeconds(sender.pid), receiver: () => treeSeconds(receiver.pid) }
      const sample = await measuredPair(pair.sizeBytes, sides, async () => {
        // It looks at what the tracker said once a second: the clock starts with the first byte that it keeps.
        while (!(await hasBytes(join(into, FILE)))) await sleep(systemClock, ASK_MS)
        const startedAt = systemClock.now()
        while (!existsSync(join(folder, 'done'))) await sleep(systemClock, ASK_MS)
        return (systemClock.now() - startedAt) / 1000
      })
      const result = { ...sample, ...peaks(await peakBytes(sender.pid), await peakBytes(receiver.pid)) }
      await proveCopy(join(into, FILE), pair.sizeBytes, pair.sha256)
      return result
    },
  }
}

function overHttp(pair: PairGiven): Contestant {
  return {
    name: 'aria2-http',
    does: `SHA-256, no cipher, from nginx by ${CONNECTIONS} connections`,
    missing: async () => (await whyNotProgram('aria2c')) ?? (await whyNoNginx()),
    async run(scope) {
      const folder = await runFolder(scope, pair.place)
      const into = join(folder, 'into')
      await mkdir(into)
      const nginx = await startNginx(scope, folder, pair.sourceFolder)
      let peak = 0
      const sides = { sender: () => treeSeconds(nginx.pid), receiver: endedSeconds }
      const sample = await measuredPair(pair.sizeBytes, sides, async () => {
        const startedAt = systemClock.now()
        const split = [`-x${CONNECTIONS}`, `-s${CONNECTIONS}`, `--checksum=sha-256=${pair.sha256}`]
        const client = startProgram(scope, 'aria2c', [
          ...QUIET,
          ...split,
          `--dir=${into}`,
          `${nginx.http}/${FILE}`,
        ])
        await client.done()
        peak = client.peakBytes()
        return (systemClock.now() - startedAt) / 1000
      })
      await proveCopy(join(into, FILE), pair.sizeBytes, pair.sha256)
      return { ...sample, ...peaks(await peakBytes(nginx.pid), peak) }
    },
  }
}

async function hasBytes(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined)
  return found !== undefined && found.blocks > 0
}
