// The yamux muxer with its windows set and with a guard that the library lacks: its decoder buffers a whole data frame
// before it checks any window, so one hostile header could make it hold 4 GiB. The guard refuses such a header at once.
// Reaches into private fields of @libp2p/yamux: a canary test holds the attack and fails if an upgrade moves them.
import type { MessageStream, StreamMuxer, StreamMuxerFactory } from '@libp2p/interface'
import { yamux } from '@libp2p/yamux'
import { MAX_CHUNK_BYTES } from '@shoal/protocol/chunks.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'

const HEADER_BYTES = 12
const DATA_FRAME = 0

/** How much a stream's sender may have under way: about bandwidth times round trip of the fastest link we aim at. */
export const STREAM_WINDOW_BYTES = 4 * 1024 * 1024
/** Must exceed the window, or a reader that is late for a moment gets its stream reset. */
const READ_BUFFER_BYTES = 2 * STREAM_WINDOW_BYTES
/** One answer may wait as a whole: the bytes are not copied, only referred to. */
const WRITE_BUFFER_BYTES = MAX_CHUNK_BYTES + 1024 * 1024
const MAX_STREAMS = 48

export interface MuxerSettings {
  readonly windowBytes?: number | undefined
  /** Told of every muxer built: one for each connection that was admitted. */
  readonly onMuxer?: () => void
}

/** The muxer factory of every node. No honest data frame is longer than the largest window. */
export function guardedYamux(settings: MuxerSettings = {}): () => StreamMuxerFactory {
  const windowBytes = settings.windowBytes ?? STREAM_WINDOW_BYTES
  const build = yamux({
    maxInboundStreams: MAX_STREAMS,
    maxOutboundStreams: MAX_STREAMS,
    maxEarlyStreams: 4,
    keepAliveInterval: 15_000,
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
        guardFrames(muxer, windowBytes)
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

function guardFrames(muxer: StreamMuxer, maxFrameBytes: number): void {
  const decoder = decoderOf(muxer)
  const readFrame = decoder.readFrame.bind(decoder)
  decoder.readFrame = () => {
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
