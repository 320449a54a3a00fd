// A member of the mesh that says on the wire what the test tells it to: the same node and secret as a host, none of the
// host's manners.
import type { Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { ExactStream } from '@shoal/agent/net/exact-stream.ts'
import { newIdentity } from '@shoal/agent/net/identity.ts'
import type { MeshSecret } from '@shoal/agent/net/mesh-secret.ts'
import { createNode, type MeshLibp2p } from '@shoal/agent/net/node.ts'
import { PeerGate } from '@shoal/agent/net/peer-gate.ts'
import { type PeerId, parsePeerId } from '@shoal/protocol/ids.ts'
import { systemClock } from '@shoal/protocol/time.ts'
import { testSecret } from './mesh-host.ts'

/** What is read from or written to one stream. */
export interface RawStream {
  readonly stream: Stream
  readonly bytes: ExactStream
}

export class RawMember implements AsyncDisposable {
  readonly node: MeshLibp2p
  readonly peer: PeerId

  private constructor(node: MeshLibp2p) {
    this.node = node
    this.peer = parsePeerId(node.peerId.toString())
  }

  static async start(secret: MeshSecret = testSecret): Promise<RawMember> {
    const node = await createNode({
      identity: newIdentity(),
      secret,
      listen: ['/ip4/127.0.0.1/tcp/0'],
      announce: [],
      mdns: false,
      gate: new PeerGate(),
      clock: systemClock,
      onRefused: () => {},
    })
    await node.start()
    return new RawMember(node)
  }

  get address(): string {
    const [address] = this.node.getMultiaddrs()
    if (address === undefined) throw new Error('the node does not listen')
    return address.toString()
  }

  /** Answers each stream of a protocol with `behave`; what that throws ends the stream. */
  async answer(protocol: string, behave: (raw: RawStream) => Promise<void>): Promise<void> {
    await this.node.handle(
      protocol,
      (stream) => {
        behave({ stream, bytes: new ExactStream(stream, 1 << 20) }).catch((error: Error) =>
          stream.abort(error),
        )
      },
      { maxInboundStreams: 64 },
    )
  }

  async dial(address: string): Promise<void> {
    await this.node.dial(multiaddr(address))
  }

  async open(peer: string, protocol: string): Promise<RawStream> {
    const connection = this.node.getConnections().find(({ remotePeer }) => remotePeer.toString() === peer)
    if (connection === undefined) throw new Error(`not connected with ${peer}`)
    const stream = await connection.newStream(protocol)
    return { stream, bytes: new ExactStream(stream, 1 << 26) }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.node.stop()
  }
}
