// The rivals of case `pair`: each a program of its own on both sides, told what to do before the clock runs. Every copy is proven
// after the clock has stopped. Chooses nothing in Shoal's favour.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { systemClock } from '@shoal/protocol/time.ts'
import { freePort } from '../../support/free-port.ts'
import { aria2Rivals } from './aria2.ts'
import { FILE, type Given } from './case.ts'
import type { Contestant } from './contest.ts'
import { curl, startNginx, whyNoNginx } from './nginx.ts'
import { npmRivals } from './npm-rivals.ts'
import { measuredPair, type PairGiven, peaks } from './pair-transfer.ts'
import { proveCopy, runFolder } from './places.ts'
import { endedSeconds, firstLine, peakBytes, startProgram, treeSeconds } from './processes.ts'
import { syncthingRival } from './syncthing.ts'

/** Debian's, which has the libtorrent module; another Python in PATH may not. */
const PYTHON = '/usr/bin/python3'
const LIBTORRENT_PEER = join(import.meta.dirname, '../libtorrent-peer.py')
const RAW_TLS = join(import.meta.dirname, 'peers/raw-tls.ts')
const MIB = 1024 * 1024
const TUNED = {
  aio_threads: 4,
  hashing_threads: 2,
  send_buffer_watermark: 4 * MIB,
  send_buffer_low_watermark: MIB,
  max_out_request_queue: 2000,
  max_allowed_in_request_queue: 4000,
  request_queue_time: 10,
  send_socket_buffer_size: MIB,
  recv_socket_buffer_size: MIB,
  max_queued_disk_bytes: 64 * MIB,
}

/** Those that were asked for. */
export function pairRivals(pair: PairGiven, { wants, smoke }: Given): readonly Contestant[] {
  const all: readonly (Contestant & { readonly name: string })[] = [
    nginxToCurl(pair, 'https'),
    nginxToCurl(pair, 'http'),
    libtorrent(pair, 'libtorrent', {}),
    libtorrent(pair, 'libtorrent-tuned', TUNED),
    syncthingRival(pair),
    ...aria2Rivals(pair),
    ...npmRivals(pair),
    rawTls(pair),
  ]
  return all.filter(({ name }) => (smoke ? name === 'raw-node-tls' : wants(name)))
}

function nginxToCurl(pair: PairGiven, scheme: 'http' | 'https'): Contestant {
  return {
    name: `nginx-${scheme}`,
    does: scheme === 'https' ? 'no proof, TLS 1.3, to curl' : 'no proof, no cipher, to curl',
    missing: whyNoNginx,
    async run(scope) {
      const folder = await runFolder(scope, pair.place)
      const nginx = await startNginx(scope, folder, pair.sourceFolder)
      const copy = join(folder, FILE)
      let clientPeak = 0
      const sides = { sender: () => treeSeconds(nginx.pid), receiver: endedSeconds }
      const sample = await measuredPair(pair.sizeBytes, sides, async () => {
        const got = await curl(scope, `${nginx[scheme]}/${FILE}`, copy, pair.sizeBytes, nginx.pid)
        clientPeak = got.clientPeakBytes
        return got.seconds
      })
      await proveCopy(copy, pair.sizeBytes, pair.sha256)
      return { ...sample, ...peaks(await peakBytes(nginx.pid), clientPeak) }
    },
  }
}

function libtorrent(pair: PairGiven, name: string, settings: object): Contestant {
  return {
    name,
    does: 'SHA-1, no cipher',
    missing: async () =>
      (await firstLine(PYTHON, ['-c', 'import libtorrent'])) === undefined
        ? 'python3-libtorrent is not installed'
        : undefined,
    async run(scope) {
      const folder = await runFolder(scope, pair.place)
      const torrent = join(folder, 'file.torrent')
      await writeFile(torrent, await pair.torrent('http://localhost/unused'))
      const into = join(folder, 'into')
      await mkdir(into)
      const port = await freePort()
      const peer = (target: string, at: number) => {
        const args = [LIBTORRENT_PEER, torrent, target, '127.0.0.1', String(at), JSON.stringify(settings)]
        return startProgram(scope, PYTHON, args)
      }
      const sender = peer(pair.sourceFolder, port)
      const receiver = peer(into, await freePort())
      await Promise.all([sender.said('ready'), receiver.said('ready')])
      const sides = { sender: () => treeSeconds(sender.pid), receiver: () => treeSeconds(receiver.pid) }
      const sample = await measuredPair(pair.sizeBytes, sides, async () => {
        const startedAt = systemClock.now()
        sender.tell('')
        receiver.tell(`127.0.0.1:${port}`)
        await receiver.said('done')
        return (systemClock.now() - startedAt) / 1000
      })
      const result = { ...sample, ...peaks(await peakBytes(sender.pid), await peakBytes(receiver.pid)) }
      await proveCopy(join(into, FILE), pair.sizeBytes, pair.sha256)
      return result
    },
  }
}

function rawTls({ sizeBytes }: PairGiven): Contestant {
  return {
    name: 'raw-node-tls',
    does: 'a limit: nothing proven, nothing kept; AES-256-GCM',
    async run(scope) {
      const sender = startProgram(scope, process.execPath, [RAW_TLS, 'serve'])
      const port = (await sender.said('port ')).slice('port '.length)
      const receiver = startProgram(scope, process.execPath, [RAW_TLS, 'fetch', port, String(sizeBytes)])
      await receiver.said('ready')
      const sides = { sender: () => treeSeconds(sender.pid), receiver: () => treeSeconds(receiver.pid) }
      const sample = await measuredPair(sizeBytes, sides, async () => {
        receiver.tell('')
        return Number((await receiver.said('seconds ')).slice('seconds '.length))
      })
      return { ...sample, ...peaks(await peakBytes(sender.pid), await peakBytes(receiver.pid)) }
    },
  }
}
