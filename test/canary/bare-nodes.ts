// Stock libp2p nodes and streams, without any of our settings: what the canary tests watch.
import { generateKeyPair } from '@libp2p/crypto/keys'
import { type GossipSub, type GossipsubOpts, gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import type { Connection, Libp2p, Stream, StreamMuxerFactory } from '@libp2p/interface'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { createLibp2p } from 'libp2p'

export const ECHOLESS_PROTOCOL = '/canary/1.0.0'
export const MIB = 1024 * 1024

export interface BareOptions {
  readonly muxer?: () => StreamMuxerFactory
}

/** A listening node with Noise and yamux on defaults. Stop it. */
export async function bareNode(options: BareOptions = {}): Promise<Libp2p> {
  return createLibp2p({
    privateKey: await generateKeyPair('Ed25519'),
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [options.muxer ?? yamux()],
    connectionMonitor: { enabled: false },
  })
}

export type GossipNode = Libp2p<{ readonly pubsub: GossipSub }>

/** As {@link bareNode}, with gossipsub. */
export async function gossipNode(options: Partial<GossipsubOpts>): Promise<GossipNode> {
  return createLibp2p({
    privateKey: await generateKeyPair('Ed25519'),
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionManager: { inboundConnectionThreshold: 100 },
    connectionMonitor: { enabled: false },
    services: { identify: identify(), pubsub: gossipsub(options) },
  })
}

export interface StreamPair extends AsyncDisposable {
  /** Opened by the sending node. */
  readonly sender: Stream
  /** The same stream at the other node, with no listener yet. */
  readonly receiver: Stream
  readonly senderConnection: Connection
}

/** One stream between two stock nodes. */
export async function streamPair(options: BareOptions = {}): Promise<StreamPair> {
  const [from, to] = await Promise.all([bareNode(options), bareNode(options)])
  const arrived = Promise.withResolvers<Stream>()
  await to.handle(ECHOLESS_PROTOCOL, (stream) => arrived.resolve(stream))
  const senderConnection = await from.dial(to.getMultiaddrs())
  const sender = await senderConnection.newStream(ECHOLESS_PROTOCOL)
  return {
    sender,
    receiver: await arrived.promise,
    senderConnection,
    async [Symbol.asyncDispose]() {
      await Promise.all([from.stop(), to.stop()])
    },
  }
}

/** Resolves when the condition holds, or with false after `timeoutMs`. */
export async function holds(condition: () => boolean, timeoutMs: number): Promise<boolean> {
  const end = performance.now() + timeoutMs
  while (!condition()) {
    if (performance.now() > end) return false
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  return true
}
