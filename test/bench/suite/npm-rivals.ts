// Rivals of case `pair` that npm brings: WebTorrent and Helia, from a folder of their own with its own lock file. Installed only when
// they are measured: they are large, and no part of the product or its tests.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { FILE } from './case.ts'
import type { Contestant, Sample } from './contest.ts'
import { measuredPair, type PairGiven, peaks } from './pair-transfer.ts'
import { proveCopy, runFolder } from './places.ts'
import { type Program, peakBytes, startProgram, treeSeconds } from './processes.ts'

const FOLDER = join(import.meta.dirname, '../rivals')
/** npm writes it last. */
const INSTALLED = join(FOLDER, 'node_modules/.package-lock.json')

export function npmRivals(pair: PairGiven): readonly Contestant[] {
  return [webTorrent(pair), helia(pair)]
}

/** Installs what the lock file says, once. @returns why that did not work */
async function whyNotInstalled(): Promise<string | undefined> {
  if (!existsSync(INSTALLED)) {
    console.error('installing the rivals that npm brings (needs the package registry) …')
    const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']
    const child = spawn('npm', args, { cwd: FOLDER, stdio: ['ignore', 'ignore', 'inherit'] })
    await once(child, 'exit').catch(() => {})
  }
  return existsSync(INSTALLED) ? undefined : 'npm could not install it'
}

function webTorrent(pair: PairGiven): Contestant {
  return {
    name: 'webtorrent',
    does: 'SHA-1, no cipher',
    missing: whyNotInstalled,
    async run(scope) {
      const folder = await runFolder(scope, pair.place)
      const torrent = join(folder, 'file.torrent')
      await writeFile(torrent, await pair.torrent('http://127.0.0.1:9/unused'))
      const into = join(folder, 'into')
      await mkdir(into)
      const start = (...args: string[]) =>
        startProgram(scope, process.execPath, ['webtorrent.mjs', ...args], { cwd: FOLDER })
      const sender = start('seed', torrent, pair.sourceFolder)
      const port = (await sender.said('port ')).slice('port '.length)
      const receiver = start('fetch', torrent, into, port)
      const sample = await transfer(pair, sender, receiver)
      await proveCopy(join(into, FILE), pair.sizeBytes, pair.sha256)
      return sample
    },
  }
}

function helia(pair: PairGiven): Contestant {
  return {
    name: 'helia',
    does: 'SHA-256 of blocks, Noise',
    missing: whyNotInstalled,
    async run(scope) {
      const folder = await runFolder(scope, pair.place)
      const start = (...args: string[]) =>
        startProgram(scope, process.execPath, ['helia.mjs', ...args], { cwd: FOLDER })
      const sender = start('seed', pair.source, join(folder, 'sender'))
      const [, cid = '', address = ''] = (await sender.said('at ')).split(' ')
      const receiver = start('fetch', join(folder, 'receiver'), cid, address)
      const sample = await transfer(pair, sender, receiver)
      receiver.tell('')
      const said = await receiver.said('sha256 ')
      if (said !== `sha256 ${pair.sha256}`) throw new Error('the copy has other bytes')
      return sample
    },
  }
}

/** A receiver that is ready, starts at a line, and says the seconds. */
async function transfer({ sizeBytes }: PairGiven, sender: Program, receiver: Program): Promise<Sample> {
  await receiver.said('ready')
  const sides = { sender: () => treeSeconds(sender.pid), receiver: () => treeSeconds(receiver.pid) }
  const sample = await measuredPair(sizeBytes, sides, async () => {
    receiver.tell('')
    return Number((await receiver.said('seconds ')).slice('seconds '.length))
  })
  return { ...sample, ...peaks(await peakBytes(sender.pid), await peakBytes(receiver.pid)) }
}
