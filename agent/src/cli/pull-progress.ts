// How a pull looks while it runs: a bar on a terminal, a line every two seconds elsewhere; always on stderr. cli-progress is
// used here only.
import type { Clock } from '@shoal/protocol/time.ts'
import progress, { type Options, type Params } from 'cli-progress'
import type { PullShape } from '../http/node-shapes.ts'
import type { Edge } from './edge.ts'
import { count, formatBytes, formatDuration, percent } from './format.ts'
import type { Output } from './output.ts'

const LINE_EVERY_MS = 2_000
const BAR_WIDTH = 24

export interface PullDisplay {
  update(pull: PullShape): void
  /** Leaves the terminal as it was. May be called twice. */
  close(): void
}

export function pullDisplay(edge: Edge, output: Output): PullDisplay {
  return edge.stderr.isTTY === true && edge.env.TERM !== 'dumb'
    ? barDisplay(edge)
    : lineDisplay(edge.clock, output)
}

/** What is known about a running pull, in one line. Pure. */
export function progressText(pull: PullShape): string {
  if (pull.state === 'resolving') return `${pull.repo}: asking which files there are`
  const waits =
    pull.state === 'queued' ? ' | queued: others go first' : pull.state === 'paused' ? ' | paused' : ''
  const sizes = `${percent(pull.doneBytes, pull.totalBytes)} of ${formatBytes(pull.totalBytes)}`
  const rate = `${formatBytes(pull.bytesPerSecond)}/s`
  const eta = etaMs(pull)
  const left = eta === undefined ? '' : ` | ${formatDuration(eta)} left`
  return `${sizes} | ${rate}${left} | ${sourcesText(pull)} | ${pull.filesDone}/${count(pull.files, 'file')}${waits}`
}

/** `origin 1.2 GB, peers 300 MB, disk 0 B`. Pure. */
export function sourcesText(pull: Pick<PullShape, 'originBytes' | 'peerBytes' | 'diskBytes'>): string {
  return `origin ${formatBytes(pull.originBytes)}, peers ${formatBytes(pull.peerBytes)}, disk ${formatBytes(pull.diskBytes)}`
}

/** Time left at the present rate; undefined when there is none. Pure. */
export function etaMs(
  pull: Pick<PullShape, 'doneBytes' | 'totalBytes' | 'bytesPerSecond'>,
): number | undefined {
  if (pull.bytesPerSecond <= 0 || pull.totalBytes <= 0) return undefined
  return (Math.max(0, pull.totalBytes - pull.doneBytes) / pull.bytesPerSecond) * 1000
}

function barDisplay(edge: Edge): PullDisplay {
  const bar = new progress.SingleBar({
    stream: edge.stderr,
    // Ctrl-C is ours: it cancels the pull first.
    gracefulExit: false,
    clearOnComplete: true,
    hideCursor: true,
    linewrap: true,
    barsize: BAR_WIDTH,
    barCompleteChar: '#',
    barIncompleteChar: '.',
    format: (options: Options, params: Params, payload: { readonly text?: string }) =>
      `[${progress.Format.BarFormat(params.progress, options)}] ${payload.text ?? ''}`,
  })
  let open = false
  return {
    update(pull) {
      const payload = { text: progressText(pull) }
      if (!open) bar.start(pull.totalBytes, pull.doneBytes, payload)
      open = true
      bar.setTotal(Math.max(1, pull.totalBytes))
      bar.update(pull.doneBytes, payload)
    },
    close() {
      if (open) bar.stop()
      open = false
    },
  }
}

function lineDisplay(clock: Clock, output: Output): PullDisplay {
  let writtenAt: number | undefined
  return {
    update(pull) {
      if (writtenAt !== undefined && clock.now() - writtenAt < LINE_EVERY_MS) return
      writtenAt = clock.now()
      output.note(progressText(pull))
    },
    close() {},
  }
}
