// A lane: a worker thread that moves chunks over its own data connections and hashes them, so that the main thread need not. Decides
// nothing: whom to let in, what to give, how fast and what to believe the main thread says.
import { parentPort, workerData } from 'node:worker_threads'
import { parseGeometry } from '@shoal/protocol/chunks.ts'
import { asShoalError, messageOf } from '@shoal/protocol/errors.ts'
import type { PeerId } from '@shoal/protocol/ids.ts'
import { createTasks } from '@shoal/protocol/service.ts'
import { abortError, systemClock } from '@shoal/protocol/time.ts'
import { loadHashing } from '../hashing.ts'
import { type Pace, UNLIMITED } from '../limits-port.ts'
import { ChunkServer } from './chunk-server.ts'
import { dataCertificate } from './data-socket.ts'
import type { FromLane, LaneSettings, ToLane } from './lane-messages.ts'
import { LocalCarrier } from './local-carrier.ts'
import type { ChunkReply } from './mesh.ts'

/** Progress is told after so many bytes more, or after this time with any. */
const TELL_BYTES = 512 * 1024
const TELL_MS = 50

const settings = workerData as LaneSettings
const hashing = await loadHashing()
const running = new Map<number, AbortController>()
const replies = new Map<number, (reply: ChunkReply) => void>()
const passes = new Map<number, () => void>()
let pace: { readonly downBytes: number | undefined; readonly upBytes: number | undefined } = {
  downBytes: undefined,
  upBytes: undefined,
}
let nextId = 1

function tell(message: FromLane): void {
  parentPort?.postMessage(message)
}

const log = (
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  fields: Readonly<Record<string, string | number | boolean>>,
) => tell({ kind: 'log', level, message, fields })

const tasks = createTasks((name, error) => log('error', 'a lane failed', { name, reason: messageOf(error) }))

/** Asks the main thread before each piece, while there is a limit. */
function askingPace(way: PeerId | number, pieceBytes: () => number | undefined): Pace {
  return {
    get pieceBytes() {
      return pieceBytes() ?? Number.POSITIVE_INFINITY
    },
    pass(bytes, signal) {
      if (pieceBytes() === undefined) return undefined
      const id = nextId++
      return new Promise((resolve, reject) => {
        const onAbort = () => {
          passes.delete(id)
          reject(abortError(signal))
        }
        passes.set(id, () => {
          signal.removeEventListener('abort', onAbort)
          resolve()
        })
        signal.addEventListener('abort', onAbort, { once: true })
        tell({ kind: 'pass', id, way, bytes })
      })
    },
  }
}

const chunks = new ChunkServer({
  clock: systemClock,
  traffic: { sent: (peer, bytes) => tell({ kind: 'sent', peer: peer as PeerId, bytes }) },
  chunk: (peer, request, signal) =>
    new Promise((resolve, reject) => {
      const id = nextId++
      const onAbort = () => {
        replies.delete(id)
        tell({ kind: 'gone', id })
        reject(abortError(signal))
      }
      replies.set(id, (reply) => {
        signal.removeEventListener('abort', onAbort)
        resolve(proven(id, reply))
      })
      signal.addEventListener('abort', onAbort, { once: true })
      tell({ kind: 'asked', id, peer, request })
    }),
  onBadMessage: (peer, reason) => tell({ kind: 'broke-rules', peer, reason }),
  onFailure: (error) =>
    log('error', 'a request of a peer could not be answered', { reason: messageOf(error) }),
  maxUploads: settings.maxUploads,
  messageBytes: settings.messageBytes,
  noProgressMs: settings.noProgressMs,
  pace: (peer) => (pace.upBytes === undefined ? UNLIMITED : askingPace(peer, () => pace.upBytes)),
})

/** Never sends bytes that do not match their voucher. */
function proven(id: number, reply: ChunkReply): ChunkReply {
  const { bytes, voucher } = reply
  if (bytes === undefined || voucher === undefined) return reply
  if (Buffer.compare(hashing.blake3(bytes), voucher.digest) !== 0) {
    tell({ kind: 'rotten', id })
    tell({ kind: 'released', id })
    tell({ kind: 'reusable', id })
    return { status: 'lacks' }
  }
  return {
    ...reply,
    release: () => tell({ kind: 'released', id }),
    reuse: () => tell({ kind: 'reusable', id }),
    lost: () => tell({ kind: 'lost', id }),
  }
}

const carrier = new LocalCarrier({
  clock: systemClock,
  log,
  traffic: { received: () => {} },
  certificate: dataCertificate(settings.pair),
  serve: (peer, pipe) => tasks.run('serve chunks', (signal) => chunks.serve(pipe, peer, signal, 'data')),
  pace: undefined,
  noProgressMs: settings.noProgressMs,
  turn: settings.turn,
  port: settings.port,
})

async function run(id: number, work: (signal: AbortSignal) => Promise<FromLane>): Promise<void> {
  const abort = new AbortController()
  running.set(id, abort)
  try {
    tell(await work(abort.signal))
  } catch (error) {
    const known = asShoalError(error)
    const { code = 'internal', details = {} } = known ?? {}
    tell({ kind: 'failed', id, code, message: messageOf(error), details })
  } finally {
    running.delete(id)
  }
}

async function fetchChunk(
  message: ToLane & { readonly kind: 'fetch' },
  signal: AbortSignal,
): Promise<FromLane> {
  const { id, peer, target, blob, index, into, waitMs, grant } = message
  let toldBytes = 0
  let toldAt = systemClock.now()
  const onProgress = (filledBytes: number) => {
    const now = systemClock.now()
    if (filledBytes < toldBytes + TELL_BYTES && now < toldAt + TELL_MS) return
    toldBytes = filledBytes
    toldAt = now
    tell({ kind: 'progress', id, filledBytes })
  }
  const request = { blob, geometry: parseGeometry(message.geometry), index, into }
  const least = (bytes: number | undefined) => bytes ?? Number.POSITIVE_INFINITY
  const limited = askingPace(id, () =>
    pace.downBytes === undefined && message.pieceBytes === undefined
      ? undefined
      : Math.min(least(pace.downBytes), least(message.pieceBytes)),
  )
  const { voucher, line } = await carrier.fetch(
    peer,
    target,
    request,
    { waitMs, grant },
    { signal, onProgress, pace: limited },
  )
  return { kind: 'done', id, voucher, line, digest: hashing.blake3(into) }
}

function obey(message: ToLane): void {
  switch (message.kind) {
    case 'admit':
      carrier.admit(message.peer, message.certificate)
      return
    case 'cut':
      carrier.cut(message.peer)
      return
    case 'probe': {
      const { id, peer, target } = message
      void run(id, async (signal) => {
        await carrier.probe(peer, target, signal)
        return { kind: 'done', id, voucher: undefined, line: undefined, digest: undefined }
      })
      return
    }
    case 'fetch':
      void run(message.id, (signal) => fetchChunk(message, signal))
      return
    case 'cancel':
      running.get(message.id)?.abort()
      return
    case 'reply': {
      const { id, status, bytes, voucher } = message
      const reply: ChunkReply = {
        status,
        voucher,
        ...(message.line === undefined ? {} : { line: message.line }),
        ...(bytes === undefined ? {} : { bytes }),
      }
      const waiting = replies.get(id)
      replies.delete(id)
      if (waiting !== undefined) waiting(reply)
      else {
        // Whoever asked has gone meanwhile.
        tell({ kind: 'released', id })
        tell({ kind: 'reusable', id })
      }
      return
    }
    case 'passed':
      passes.get(message.id)?.()
      passes.delete(message.id)
      return
    case 'pace':
      pace = message
  }
}

parentPort?.on('message', obey)
tell({ kind: 'listening', ports: await carrier.start(settings.hosts) })
