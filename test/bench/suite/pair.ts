// Case `pair`: one file from one host to another, both freshly started, the file on a RAM disk on both sides. Ours is encrypted and
// proven, and kept by an agent; what the others do is said beside them.
import { createReadStream } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '@shoal/protocol/time.ts'
import { connected } from '../../support/agent-process.ts'
import { torrentOf } from '../../support/torrent.ts'
import { type BenchCase, FILE, type Given, REPO } from './case.ts'
import type { Contest, Contestant, Sample } from './contest.ts'
import { benchAgent, benchHub, filledStorage, loopDelayMs, SEED, stopWell } from './ours.ts'
import { pairRivals } from './pair-rivals.ts'
import { measuredPair, PAIR_FIGURES, type PairGiven, peaks, type SidesCost } from './pair-transfer.ts'
import { runFolder, writeSeeded } from './places.ts'
import { peakBytes, treeSeconds } from './processes.ts'
import type { Scope } from './scope.ts'

export const pairCase: BenchCase = {
  name: 'pair',
  about: 'one file from one host to another',
  smoke: true,
  async prepare(given) {
    const { scope, place, sizeBytes } = given
    const hub = await benchHub(given)
    const holder = await filledStorage(given, hub.url)
    const sourceFolder = await runFolder(scope, place)
    const source = join(sourceFolder, FILE)
    await writeSeeded(source, SEED, sizeBytes)
    const pairGiven: PairGiven = {
      place,
      source,
      sourceFolder,
      sizeBytes,
      sha256: await hub.control.oidOf({ repo: REPO, path: FILE }),
      torrent: (announce) =>
        torrentOf(FILE, sizeBytes, createReadStream(source), announce, torrentPieceBytes(sizeBytes)),
    }
    const contest: Contest = {
      id: given.smoke ? 'pair-smoke' : 'pair',
      title: `${Math.round(sizeBytes / 2 ** 20)} MiB from one host to another, ${place.name}`,
      figures: PAIR_FIGURES,
      contestants: [ours(given, hub.url, holder), ...pairRivals(pairGiven, given)],
      notes: [
        'Seconds run from the request to the file being complete and proven; ours gets no byte from the origin. Loop p99 is the delay of the event loop of our main threads; an idle one reads 10.',
      ],
    }
    return [contest]
  },
}

function ours(given: Given, hub: string, holder: string): Contestant {
  return {
    name: 'shoal',
    ours: true,
    does: 'BLAKE3 and SHA-256, TLS 1.3',
    run: (scope) => transfer(scope, given, hub, holder),
  }
}

async function transfer(
  scope: Scope,
  { place, sizeBytes, env }: Given,
  hub: string,
  holder: string,
): Promise<Sample> {
  const folder = await runFolder(scope, place)
  const sender = await benchAgent(scope, { hub, folder: holder, env })
  const receiver = await benchAgent(scope, { hub, folder, env, peers: [sender] })
  await connected(receiver, 1)
  await Promise.all([loopDelayMs(sender), loopDelayMs(receiver)])
  const sides: SidesCost = {
    sender: () => treeSeconds(sender.pid),
    receiver: () => treeSeconds(receiver.pid),
  }
  let loops: readonly number[] = []
  const sample = await measuredPair(sizeBytes, sides, async () => {
    const startedAt = systemClock.wallTime()
    const { endedAt, originBytes } = await receiver.pull(REPO)
    loops = await Promise.all([loopDelayMs(sender), loopDelayMs(receiver)])
    if (originBytes !== 0) throw new Error(`${originBytes} bytes came from the origin`)
    return ((endedAt ?? systemClock.wallTime()) - startedAt) / 1000
  })
  const [senderPeak, receiverPeak] = [await peakBytes(sender.pid), await peakBytes(receiver.pid)]
  await stopWell(receiver)
  await stopWell(sender)
  return {
    ...sample,
    ...peaks(senderPeak, receiverPeak),
    'loop p99 of the sender, ms': loops[0] ?? Number.NaN,
    'of the receiver, ms': loops[1] ?? Number.NaN,
  }
}

/** As libtorrent itself would choose: about 2,048 pieces of a gigabyte, a power of two. */
function torrentPieceBytes(sizeBytes: number): number {
  return Math.max(16 * 1024, 2 ** Math.round(Math.log2(sizeBytes / 2048)))
}
