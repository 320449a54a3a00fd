// Live progress of several hosts: lines that are rewritten on a terminal, a line a second elsewhere. Only prints.
import { formatBytes, percent } from '@shoal/agent/cli/format.ts'
import type { PullShape } from '@shoal/agent/http/node-shapes.ts'
import type { Clock } from '@shoal/protocol/time.ts'

const LINE_EVERY_MS = 1_000
const BAR_WIDTH = 24

export interface Progress {
  update(host: string, pulls: readonly PullShape[]): void
  /** Leaves the last state on the screen. */
  close(): void
}

export function createProgress(clock: Clock, out: NodeJS.WriteStream): Progress {
  const latest = new Map<string, string>()
  const live = out.isTTY === true && process.env.TERM !== 'dumb'
  let shownLines = 0
  let writtenAt = Number.NEGATIVE_INFINITY
  const show = () => {
    if (shownLines > 0) out.write(`\x1b[${shownLines}A`)
    for (const line of latest.values()) out.write(`\x1b[2K${line.slice(0, (out.columns ?? 100) - 1)}\n`)
    shownLines = latest.size
  }
  const print = () => {
    writtenAt = clock.now()
    for (const line of latest.values()) out.write(`${line}\n`)
  }
  return {
    update(host, pulls) {
      latest.set(host, progressLine(host, pulls))
      if (live) show()
      else if (clock.now() - writtenAt >= LINE_EVERY_MS) print()
    },
    close() {
      if (!live) print()
      latest.clear()
      shownLines = 0
    },
  }
}

/** `  host-2 [####....] 45% of 260 MB | 120 MB/s | origin 0 B, peers 117 MB, disk 0 B`. Pure. */
export function progressLine(host: string, pulls: readonly PullShape[]): string {
  const add = (
    field: 'totalBytes' | 'doneBytes' | 'bytesPerSecond' | 'originBytes' | 'peerBytes' | 'diskBytes',
  ) => pulls.reduce((total, pull) => total + pull[field], 0)
  const total = add('totalBytes')
  const done = add('doneBytes')
  const filled = total === 0 ? 0 : Math.floor((done / total) * BAR_WIDTH)
  const bar = '#'.repeat(filled).padEnd(BAR_WIDTH, '.')
  const sources = `origin ${formatBytes(add('originBytes'))}, peers ${formatBytes(add('peerBytes'))}, disk ${formatBytes(add('diskBytes'))}`
  return `  ${host} [${bar}] ${percent(done, total)} of ${formatBytes(total)} | ${formatBytes(add('bytesPerSecond'))}/s | ${sources}`
}
