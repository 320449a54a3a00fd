// Admission: both ends of a secured connection prove the mesh secret to each other before anything else may happen on
// it, above all before a muxer is built. Wraps a libp2p connection encrypter and knows nothing of how that one works.
import { randomBytes, timingSafeEqual } from 'node:crypto'
import type {
  ConnectionEncrypter,
  MessageStream,
  SecureConnectionOptions,
  SecuredConnection,
} from '@libp2p/interface'
import { type ByteStream, byteStream } from '@libp2p/utils'
import { asShoalError, ShoalError } from '@shoal/protocol/errors.ts'
import { abortError, type Clock, deadline } from '@shoal/protocol/time.ts'
import { joinWrites } from './joined-writes.ts'
import type { MeshSecret } from './mesh-secret.ts'

export const NONCE_BYTES = 32
export const MAC_BYTES = 32
/** Both proofs must be made within this time after the connection is secured. */
export const ADMISSION_TIMEOUT_MS = 3_000
/** First byte of a hello. Another value is another version of this exchange. */
const HELLO_VERSION = 1
const HELLO_BYTES = 1 + NONCE_BYTES
/** Nobody has reason to send more than this before being admitted, except a muxer's first frames right behind the proof. */
const MAX_EARLY_BYTES = 64 * 1024

export type Role = 'initiator' | 'responder'

/** Everything that a proof is bound to: it fits this connection, this direction and this moment only. */
export interface AdmissionContext {
  readonly initiator: string
  readonly responder: string
  readonly initiatorNonce: Uint8Array
  readonly responderNonce: Uint8Array
}

/** The proof that `role` has to give: HMAC-SHA256 over the role and the context, each field preceded by its length. */
export function admissionProof(secret: MeshSecret, role: Role, context: AdmissionContext): Uint8Array {
  const fields = [
    Buffer.from('shoal-admission-1'),
    Buffer.from(role),
    Buffer.from(context.initiator),
    Buffer.from(context.responder),
    context.initiatorNonce,
    context.responderNonce,
  ]
  const parts = fields.flatMap((field) => {
    const length = Buffer.alloc(2)
    length.writeUInt16BE(field.byteLength)
    return [length, field]
  })
  return secret.mac(Buffer.concat(parts))
}

/** Constant-time comparison of a proof with what came. */
export function proofMatches(expected: Uint8Array, received: Uint8Array): boolean {
  return expected.byteLength === received.byteLength && timingSafeEqual(expected, received)
}

export interface AdmissionOptions {
  readonly secret: MeshSecret
  /** This host's peer id. */
  readonly self: string
  readonly clock: Clock
  readonly timeoutMs?: number
  /** False for a host that is refused whatever it proves. It learns so before it counts itself connected. */
  readonly admits: (remote: string) => boolean
  /** Told of each connection that was not admitted; `reason` never holds anything secret. */
  readonly onRefused: (remote: string, role: Role, reason: string) => void
}

/**
 * Wraps an encrypter: its connection is handed on only after both sides have proven the secret. The protocol id is our
 * own (`/shoal/tls/1.0.0` for `/tls/1.0.0`), so that a stock libp2p node does not even get to the handshake.
 */
export function admitted<Components>(
  inner: (components: Components) => ConnectionEncrypter,
  options: AdmissionOptions,
): (components: Components) => ConnectionEncrypter {
  return (components) => {
    const encrypter = inner(components)
    return {
      protocol: `/shoal${encrypter.protocol}`,
      async secureInbound(connection, secureOptions) {
        joinWrites(connection)
        const secured = await encrypter.secureInbound(connection, secureOptions)
        return admit(secured, 'responder', options, secureOptions)
      },
      async secureOutbound(connection, secureOptions) {
        joinWrites(connection)
        const secured = await encrypter.secureOutbound(connection, secureOptions)
        return admit(secured, 'initiator', options, secureOptions)
      },
    }
  }
}

async function admit(
  secured: SecuredConnection,
  role: Role,
  options: AdmissionOptions,
  secureOptions: SecureConnectionOptions | undefined,
): Promise<SecuredConnection> {
  joinWrites(secured.connection)
  const remote = secured.remotePeer.toString()
  using limit = deadline(
    options.clock,
    options.timeoutMs ?? ADMISSION_TIMEOUT_MS,
    () => new ShoalError('not-admitted', 'the other host did not prove the mesh secret in time'),
    secureOptions?.signal,
  )
  const bytes = byteStream(secured.connection, { maxBufferSize: MAX_EARLY_BYTES })
  try {
    if (!options.admits(remote))
      throw new ShoalError('not-admitted', 'the host is banned or has connections enough')
    await exchangeProofs(bytes, role, remote, options, limit.signal)
  } catch (error) {
    const refused = refusal(error, limit.signal)
    secured.connection.abort(refused)
    options.onRefused(remote, role, refused.message)
    throw refused
  }
  // What came behind the proof belongs to the muxer: unwrap() puts it back at the front.
  bytes.unwrap()
  return secured
}

/** The dialler proves first, so that a stranger who dials gets nothing but a nonce. */
async function exchangeProofs(
  bytes: ByteStream<MessageStream>,
  role: Role,
  remote: string,
  options: AdmissionOptions,
  signal: AbortSignal,
): Promise<void> {
  const ownNonce = randomBytes(NONCE_BYTES)
  const hello = Buffer.concat([Uint8Array.of(HELLO_VERSION), ownNonce])
  if (role === 'initiator') {
    await bytes.write(hello, { signal })
    const context = {
      initiator: options.self,
      responder: remote,
      initiatorNonce: ownNonce,
      responderNonce: await readHello(bytes, signal),
    }
    await bytes.write(admissionProof(options.secret, 'initiator', context), { signal })
    await expectProof(bytes, admissionProof(options.secret, 'responder', context), signal)
    return
  }
  const context = {
    initiator: remote,
    responder: options.self,
    initiatorNonce: await readHello(bytes, signal),
    responderNonce: ownNonce,
  }
  await bytes.write(hello, { signal })
  await expectProof(bytes, admissionProof(options.secret, 'initiator', context), signal)
  await bytes.write(admissionProof(options.secret, 'responder', context), { signal })
}

async function readHello(bytes: ByteStream<MessageStream>, signal: AbortSignal): Promise<Uint8Array> {
  const hello = (await bytes.read({ bytes: HELLO_BYTES, signal })).subarray()
  if (hello[0] !== HELLO_VERSION)
    throw new ShoalError(
      'not-admitted',
      `the other host speaks admission version ${hello[0]}, not ${HELLO_VERSION}`,
    )
  return hello.slice(1)
}

async function expectProof(
  bytes: ByteStream<MessageStream>,
  expected: Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  const received = (await bytes.read({ bytes: MAC_BYTES, signal })).subarray()
  if (!proofMatches(expected, received))
    throw new ShoalError('not-admitted', 'the other host does not have the secret of this mesh')
}

function refusal(error: unknown, signal: AbortSignal): ShoalError {
  if (signal.aborted) return abortError(signal)
  return (
    asShoalError(error) ??
    new ShoalError(
      'not-admitted',
      'the other host hung up during admission: most likely the two do not have the same mesh secret, or one is banned',
    )
  )
}
