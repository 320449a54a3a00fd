// The small questions hosts ask each other and their limits. `peers` is the mesh's own: a new host that knows one other
// finds the rest by asking it.
import {
  HAVE_PROTOCOL,
  type HaveAnswer,
  type HaveAsk,
  haveAnswerSchema,
  haveAskSchema,
  LIMITS,
  MANIFEST_PROTOCOL,
  type ManifestAnswer,
  type ManifestAsk,
  manifestAnswerSchema,
  manifestAskSchema,
  TURN_PROTOCOL,
  type TurnAnswer,
  type TurnAsk,
  turnAnswerSchema,
  turnAskSchema,
} from '@shoal/protocol/messages.ts'
import { z } from 'zod'
import type { Question } from './ask.ts'

export const PEERS_PROTOCOL = '/shoal/peers/1.0.0'
export const DATA_PROTOCOL = '/shoal/data/1.0.0'
export const MAX_PEERS_TOLD = 32
export const MAX_ADDRESSES_PER_PEER = 4
export const MAX_ADDRESS_LENGTH = 256

export const haveQuestion: Question<HaveAsk, HaveAnswer> = {
  protocol: HAVE_PROTOCOL,
  ask: haveAskSchema,
  askLimitBytes: LIMITS.haveAsk,
  answer: haveAnswerSchema,
  answerLimitBytes: LIMITS.haveAnswer,
}

export const manifestQuestion: Question<ManifestAsk, ManifestAnswer> = {
  protocol: MANIFEST_PROTOCOL,
  ask: manifestAskSchema,
  askLimitBytes: LIMITS.manifestAsk,
  answer: manifestAnswerSchema,
  answerLimitBytes: LIMITS.manifestAnswer,
}

export const turnQuestion: Question<TurnAsk, TurnAnswer> = {
  protocol: TURN_PROTOCOL,
  ask: turnAskSchema,
  askLimitBytes: LIMITS.turnAsk,
  answer: turnAnswerSchema,
  answerLimitBytes: LIMITS.turnAnswer,
}

/** Where a host can be reached: each address is a multiaddr that ends in its peer id. */
export const peerAddressesSchema = z.strictObject({
  peer: z.string().max(128),
  addresses: z.array(z.string().max(MAX_ADDRESS_LENGTH)).max(MAX_ADDRESSES_PER_PEER),
})
export type PeerAddresses = z.infer<typeof peerAddressesSchema>

const peersAskSchema = z.strictObject({})
const peersAnswerSchema = z.strictObject({ peers: z.array(peerAddressesSchema).max(MAX_PEERS_TOLD) })
export type PeersAnswer = z.infer<typeof peersAnswerSchema>

export const peersQuestion: Question<z.infer<typeof peersAskSchema>, PeersAnswer> = {
  protocol: PEERS_PROTOCOL,
  ask: peersAskSchema,
  askLimitBytes: 16,
  answer: peersAnswerSchema,
  // 32 peers of four addresses with their peer ids.
  answerLimitBytes: 64 * 1024,
}

const MAX_DATA_PORTS = 32
const certificateDigestSchema = z.custom<Uint8Array>(
  (value) => value instanceof Uint8Array && value.byteLength === 32,
  'expected 32 bytes',
)

const dataAskSchema = z.strictObject({ certificate: certificateDigestSchema })
export type DataAsk = z.infer<typeof dataAskSchema>
const dataAnswerSchema = z.strictObject({
  certificate: certificateDigestSchema,
  ports: z.array(z.int().min(1).max(65_535)).max(MAX_DATA_PORTS),
})
export type DataAnswer = z.infer<typeof dataAnswerSchema>

/** Where a host takes data connections, and the certificates (SHA-256 of each) by which the two know each other there. */
export const dataQuestion: Question<DataAsk, DataAnswer> = {
  protocol: DATA_PROTOCOL,
  ask: dataAskSchema,
  askLimitBytes: 128,
  answer: dataAnswerSchema,
  answerLimitBytes: 512,
}
