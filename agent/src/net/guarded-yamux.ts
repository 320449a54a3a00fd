// The yamux muxer with its windows set and with guards that the library lacks. Its decoder buffers a whole data frame
// before it checks any window, so one hostile header could make it hold 4 GiB: such a header is refused at once. It
// answers pings of a peer that reads nothing, without limit: such a peer is cut. And a peer that falls silent is cut.
// Reaches into private fields of @libp2p/yamux: a canary test holds the attack and fails if an upgrade moves them.
import type { MessageStream, StreamMuxer, StreamMuxerFactory } from '@libp2p/interface'
import { yamux } from '@libp2p/yamux'
import { MAX_CHUNK_BYTES } from '@shoal/protocol/chunks.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
import type { Clock } from '@shoal/protocol/time.ts'

const HEADER_BYTES = 12
const DATA_FRAME = 0

/** How much a stream's sender may have under way: about bandwidth times round trip of the fastest link we aim at. */
export const STREAM_WINDOW_BYTES = 4 * 1024 * 1024
/** Must exceed the window, or a reader that is late for a moment gets its stream reset. */
const READ_BUFFER_BYTES = 2 * STREAM_WINDOW_BYTES
/** One answer may wait as a whole: the bytes are not copied, only referred to. */
const WRITE_BUFFER_BYTES = MAX_CHUNK_BYTES + 1024 * 1024
const MAX_STREAMS = 48
/** Unsent answers of a connection, beyond what its streams may queue themselves. No honest peer comes near. */
const MAX_UNSENT_BYTES = 8 * 1024 * 1024
/** Each side pings so often, so a live peer is never silent for longer, however slow the link and deep its queues. */
const KEEP_ALIVE_MS = 4_000
/** So many keep-alive times in a row without one byte from the peer, and it is given up. */
const MAX_SILENT_TIMES = 3

export interface MuxerSettings {
  readonly clock: Clock
  readonly windowBytes?: number | undefined
  readonly keepAliveMs?: number | undefined
  /** Told of every muxer built: one for each connection that was admitted. */
  readonly onMuxer?: () => void
}

/** The muxer factory of every node. No honest data frame is longer than the largest window. */
export function guardedYamux(settings: MuxerSettings): () => StreamMuxerFactory {
  const windowBytes = settings.windowBytes ?? STREAM_WINDOW_BYTES
  const keepAliveMs = settings.keepAliveMs ?? KEEP_ALIVE_MS
  const build = yamux({
    maxInboundStreams: MAX_STREAMS,
    maxOutboundStreams: MAX_STREAMS,
    maxEarlyStreams: 4,
    keepAliveInterval: keepAliveMs,
    streamOptions: {
      maxStreamWindowSize: windowBytes,
      maxReadBufferLength: READ_BUFFER_BYTES,
      maxWriteBufferLength: WRITE_BUFFER_BYTES,
      inactivityTimeout: 30_000,
    },
  })
  return () => {
    const factory = build()
    return {
      protocol: factory.protocol,
      createStreamMuxer(connection: MessageStream): StreamMuxer {
        const muxer = factory.createStreamMuxer(connection)
        const heard = watchSilence(muxer, connection, settings.clock, keepAliveMs)
        guardFrames(muxer, connection, windowBytes, heard)
        settings.onMuxer?.()
        return muxer
      },
    }
  }
}

interface FrameDecoder {
  readonly buffer: { readonly byteLength: number; subarray(start: number, end: number): Uint8Array }
  readFrame: () => unknown
}

/**
 * A ping that must be answered within a time would end connections whose queues are long; any byte proves life as well.
 * Counts times rather than measures them, so that a host that slept does not cut everybody when it wakes.
 * @returns to be called when something came
 */
function watchSilence(
  muxer: StreamMuxer,
  connection: MessageStream,
  clock: Clock,
  keepAliveMs: number,
): () => void {
  let silentTimes = 0
  let cancel = () => {}
  const look = () => {
    if (silentTimes++ < MAX_SILENT_TIMES) {
      cancel = clock.after(keepAliveMs, look)
      return
    }
    const gone = new ShoalError('peer-timeout', `nothing came for ${MAX_SILENT_TIMES * keepAliveMs} ms`)
    muxer.abort(gone)
    connection.abort(gone)
  }
  look()
  connection.addEventListener('close', () => cancel(), { once: true })
  return () => {
    silentTimes = 0
  }
}

function guardFrames(
  muxer: StreamMuxer,
  connection: MessageStream,
  maxFrameBytes: number,
  heard: () => void,
): void {
  const decoder = decoderOf(muxer)
  const readFrame = decoder.readFrame.bind(decoder)
  decoder.readFrame = () => {
    heard()
    if (connection.writeBufferLength > MAX_UNSENT_BYTES)
      throw new ShoalError('bad-message', 'the peer makes us answer and takes no answers')
    if (decoder.buffer.byteLength >= HEADER_BYTES) {
      const header = decoder.buffer.subarray(0, HEADER_BYTES)
      const length = new DataView(header.buffer, header.byteOffset, HEADER_BYTES).getUint32(8)
      if (header[1] === DATA_FRAME && length > maxFrameBytes)
        throw new ShoalError(
          'bad-message',
          `a yamux frame of ${length} bytes is over the limit of ${maxFrameBytes}`,
        )
    }
    return readFrame()
  }
}

function decoderOf(muxer: object): FrameDecoder {
  const decoder: unknown = Reflect.get(muxer, 'decoder')
  if (!isFrameDecoder(decoder))
    throw new Error(
      '@libp2p/yamux has changed inside: its frame decoder cannot be guarded, so it must not be used',
    )
  return decoder
}

function isFrameDecoder(value: unknown): value is FrameDecoder {
  return (
    typeof value === 'object' &&
    value !== null &&
    'buffer' in value &&
    'readFrame' in value &&
    typeof value.readFrame === 'function'
  )
}
