// One transfer of case `pair`, whoever makes it: what it is given, and what is measured of it on both sides.
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { MB } from './case.ts'
import type { Figure, Sample } from './contest.ts'
import type { Place } from './places.ts'

/** Work that goes on after the file was said to be there is counted too. */
const SETTLE_MS = 300

export const PAIR_FIGURES: readonly Figure[] = [
  { name: 'MB/s', better: 'more' },
  { name: 'CPU s/GB', better: 'less', digits: 2 },
  { name: 'of the sender', better: 'less', digits: 2 },
  { name: 'of the receiver', better: 'less', digits: 2 },
  { name: 'peak RSS of the sender, MB', better: 'less' },
  { name: 'of the receiver, MB', better: 'less' },
  { name: 'loop p99 of the sender, ms', better: 'less', digits: 1 },
  { name: 'of the receiver, ms', better: 'less', digits: 1 },
]

/** What a rival needs to send the file once. */
export interface PairGiven {
  readonly place: Place
  /** The file, in a folder of its own. */
  readonly source: string
  readonly sourceFolder: string
  readonly sizeBytes: number
  readonly sha256: string
  /** A torrent of the file. @param announce the tracker's URL */
  torrent(announce: string): Promise<Buffer>
}

/** Processor seconds of both sides up to now. */
export interface SidesCost {
  sender(): Promise<number>
  receiver(): Promise<number>
}

/** Runs `work`, which resolves with the seconds it took, between two looks at what both sides cost. */
export async function measuredPair(
  sizeBytes: number,
  sides: SidesCost,
  work: () => Promise<number>,
): Promise<Sample> {
  const before = [await sides.sender(), await sides.receiver()] as const
  const seconds = await work()
  await sleep(systemClock, SETTLE_MS)
  const gigabytes = sizeBytes / 1e9
  const sender = ((await sides.sender()) - before[0]) / gigabytes
  const receiver = ((await sides.receiver()) - before[1]) / gigabytes
  return {
    'MB/s': sizeBytes / MB / seconds,
    'CPU s/GB': sender + receiver,
    'of the sender': sender,
    'of the receiver': receiver,
  }
}

export function peaks(senderBytes: number, receiverBytes: number): Sample {
  return { 'peak RSS of the sender, MB': senderBytes / MB, 'of the receiver, MB': receiverBytes / MB }
}
