// Invite tokens: what a new host needs to join a mesh, as one line of text to paste. Whoever holds one can join until
// the secret changes; the expiry only stops old copies from being used by mistake.
import { createHash } from 'node:crypto'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { decodeMessage, encodeMessage } from '@shoal/protocol/messages.ts'
import { z } from 'zod'
import { MeshSecret, SECRET_BYTES } from './mesh-secret.ts'

const PREFIX = 'shoal1-'
const CHECKSUM_BYTES = 8
const MAX_INVITE_BYTES = 4096
export const MAX_INVITE_ADDRESSES = 8

export interface Invite {
  readonly secret: MeshSecret
  /** Multiaddrs of hosts to dial first, best with their peer ids. */
  readonly addresses: readonly string[]
  /** The coordinator's URL, if the mesh has one. */
  readonly coordinator?: string | undefined
  /** Unix time in milliseconds. */
  readonly expires: number
}

const schema = z.strictObject({
  s: z.custom<Uint8Array>((value) => value instanceof Uint8Array && value.byteLength === SECRET_BYTES),
  a: z.array(z.string().min(1).max(256)).max(MAX_INVITE_ADDRESSES),
  c: z
    .url({ protocol: /^https?$/ })
    .max(512)
    .optional(),
  e: z.int().min(0),
})

/** One line, `shoal1-` and base64url of CBOR and a checksum. @throws ShoalError `bad-request` */
export function encodeInvite(invite: Invite): string {
  const fields = {
    s: new Uint8Array(Buffer.from(invite.secret.text(), 'hex')),
    a: [...invite.addresses],
    c: invite.coordinator,
    e: invite.expires,
  }
  if (!schema.safeParse(fields).success)
    throw new ShoalError(
      'bad-request',
      `an invite takes at most ${MAX_INVITE_ADDRESSES} addresses and an http(s) coordinator URL`,
    )
  const payload = encodeMessage(fields, MAX_INVITE_BYTES)
  return PREFIX + Buffer.concat([payload, checksum(payload)]).toString('base64url')
}

/**
 * Reads an invite; white space that mail or a terminal put in is ignored.
 * @param wallTime Unix time in milliseconds
 * @throws ShoalError `bad-request`, whose message never quotes the token
 */
export function decodeInvite(text: string, wallTime: number): Invite {
  const compact = text.replaceAll(/\s+/g, '')
  if (!compact.startsWith(PREFIX)) {
    throw /^shoal\d+-/.test(compact)
      ? new ShoalError(
          'bad-request',
          'this invite is of another version of shoal; make one with this version',
        )
      : new ShoalError('bad-request', `not an invite: an invite starts with ${PREFIX}`)
  }
  const encoded = compact.slice(PREFIX.length)
  const bytes = Buffer.from(encoded, 'base64url')
  const payload = bytes.subarray(0, -CHECKSUM_BYTES)
  const whole =
    bytes.byteLength > CHECKSUM_BYTES &&
    bytes.toString('base64url') === encoded &&
    checksum(payload).equals(bytes.subarray(-CHECKSUM_BYTES))
  if (!whole)
    throw new ShoalError('bad-request', 'this invite is damaged or cut short; copy the whole line again')
  const fields = readFields(payload)
  if (fields.e <= wallTime)
    throw new ShoalError(
      'bad-request',
      `this invite expired at ${new Date(fields.e).toISOString()}; ask for a new one (and check this host's clock)`,
    )
  return { secret: new MeshSecret(fields.s), addresses: fields.a, coordinator: fields.c, expires: fields.e }
}

function readFields(payload: Uint8Array): z.infer<typeof schema> {
  try {
    return decodeMessage(schema, payload, MAX_INVITE_BYTES)
  } catch {
    throw new ShoalError('bad-request', 'this invite has contents that this version of shoal does not know')
  }
}

function checksum(payload: Uint8Array): Buffer {
  return createHash('sha256').update('shoal-invite-1\n').update(payload).digest().subarray(0, CHECKSUM_BYTES)
}
