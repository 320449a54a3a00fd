// Which protocols this host answers, each behind its limits, each answer as supervised work.
import { messageOf } from '@shoal/protocol/errors.ts'
import { type PeerId, parsePeerId } from '@shoal/protocol/ids.ts'
import { CHUNK_PROTOCOL, TELL_PROTOCOL } from '@shoal/protocol/messages.ts'
import type { Tasks } from '@shoal/protocol/service.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import { Answerer, MAX_ASKS_PER_PEER, type Question } from './ask.ts'
import { type ChunkServer, MAX_UNREAD_REQUEST_BYTES } from './chunk-server.ts'
import { ExactStream } from './exact-stream.ts'
import type { AnswerTurn, MeshHandlers } from './mesh.ts'
import type { MeshLog } from './mesh-log.ts'
import type { MeshLibp2p } from './node.ts'
import { MAX_STREAMS_PER_PEER } from './pipe-pool.ts'
import {
  type DataAnswer,
  type DataAsk,
  dataQuestion,
  haveQuestion,
  manifestQuestion,
  type PeersAnswer,
  peersQuestion,
  turnQuestion,
} from './questions.ts'
import { MAX_TELL_STREAMS_PER_PEER, TellServer } from './tell-server.ts'

/** Streams beyond our own limit still get a polite `busy`; beyond this libp2p resets them before they cost anything. */
const MAX_CHUNK_STREAMS_PER_CONNECTION = 2 * MAX_STREAMS_PER_PEER
const MAX_ASK_STREAMS_PER_CONNECTION = 2 * MAX_ASKS_PER_PEER
const MAX_TELL_STREAMS_PER_CONNECTION = 2 * MAX_TELL_STREAMS_PER_PEER

export interface ServingDeps {
  readonly node: MeshLibp2p
  readonly tasks: Tasks
  readonly clock: Clock
  readonly log: MeshLog
  readonly handlers: MeshHandlers
  readonly turn: AnswerTurn | undefined
  readonly tellPeers: (asker: PeerId) => PeersAnswer
  readonly tellData: (asker: PeerId, ask: DataAsk) => DataAnswer
  /** A peer broke the rules of the wire. */
  readonly onBadMessage: (peer: PeerId, reason: string) => void
  readonly chunks: ChunkServer
}

/** Registers all handlers; call before the node starts. */
export async function serveProtocols(deps: ServingDeps): Promise<void> {
  const { node, tasks, clock, log, handlers } = deps
  const { onBadMessage } = deps
  const onFailure = (error: unknown) =>
    log('error', 'a request of a peer could not be answered', { reason: messageOf(error) })

  await node.handle(
    CHUNK_PROTOCOL,
    (stream, connection) => {
      const peer = parsePeerId(connection.remotePeer.toString())
      const bytes = new ExactStream(stream, MAX_UNREAD_REQUEST_BYTES)
      tasks.run('serve chunks', (signal) => deps.chunks.serve(bytes, peer, signal))
    },
    {
      maxInboundStreams: MAX_CHUNK_STREAMS_PER_CONNECTION,
      maxOutboundStreams: MAX_CHUNK_STREAMS_PER_CONNECTION,
    },
  )

  const tells = new TellServer({ clock, told: handlers.told.bind(handlers), onBadMessage, onFailure })
  await node.handle(
    TELL_PROTOCOL,
    (stream, connection) => {
      const peer = parsePeerId(connection.remotePeer.toString())
      tasks.run('hear tells', (signal) => tells.serve(stream, peer, signal))
    },
    {
      maxInboundStreams: MAX_TELL_STREAMS_PER_CONNECTION,
      maxOutboundStreams: MAX_TELL_STREAMS_PER_CONNECTION,
    },
  )

  const answer = async <Ask extends object, Answer extends object>(
    question: Question<Ask, Answer>,
    make: (peer: PeerId, message: Ask, signal: AbortSignal) => Promise<Answer>,
  ): Promise<void> => {
    const answerer = new Answerer(question, { clock, answer: make, onBadMessage, onFailure })
    await node.handle(
      question.protocol,
      (stream, connection) => {
        const peer = parsePeerId(connection.remotePeer.toString())
        tasks.run(`answer ${question.protocol}`, (signal) => answerer.serve(stream, peer, signal))
      },
      {
        maxInboundStreams: MAX_ASK_STREAMS_PER_CONNECTION,
        maxOutboundStreams: MAX_ASK_STREAMS_PER_CONNECTION,
      },
    )
  }
  await answer(haveQuestion, handlers.have.bind(handlers))
  await answer(manifestQuestion, handlers.manifest.bind(handlers))
  if (deps.turn !== undefined) await answer(turnQuestion, deps.turn)
  await answer(peersQuestion, async (peer) => deps.tellPeers(peer))
  await answer(dataQuestion, async (peer, ask) => deps.tellData(peer, ask))
}
