// Who this host is: one Ed25519 key, its libp2p peer id, and statements signed with it. Also the way back: from a
// peer id or a raw public key to a check of somebody else's statement. Keeps the key to itself.
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto'
import { privateKeyFromRaw, publicKeyFromRaw } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { peerIdFromPublicKey, peerIdFromString } from '@libp2p/peer-id'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { type PeerId, parsePeerId } from '@shoal/protocol/ids.ts'
import { readOrCreatePrivateFile } from './private-file.ts'

const PUBLIC_KEY_BYTES = 32
const SIGNATURE_BYTES = 64
/** What stands before the 32 raw bytes in a DER SubjectPublicKeyInfo of an Ed25519 key (RFC 8410). */
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex')

/** What others may use of this host's key. */
export interface Identity {
  readonly peer: PeerId
  /** Raw Ed25519 public key, 32 bytes: how vouchers name their author. */
  readonly publicKey: Uint8Array
  /** Ed25519 signature over `statement`, 64 bytes. */
  sign(statement: Uint8Array): Uint8Array
}

/** An identity that can also run a libp2p node. */
export class HostIdentity implements Identity {
  readonly peer: PeerId
  readonly publicKey: Uint8Array
  readonly #key: KeyObject
  readonly #seed: Uint8Array

  /** @param key an Ed25519 private key @throws ShoalError `bad-config` for any other */
  constructor(key: KeyObject) {
    const { d, x } = key.asymmetricKeyType === 'ed25519' ? key.export({ format: 'jwk' }) : {}
    if (d === undefined || x === undefined)
      throw new ShoalError('bad-config', 'the host key is not an Ed25519 key')
    this.#key = key
    this.#seed = Buffer.from(d, 'base64url')
    this.publicKey = new Uint8Array(Buffer.from(x, 'base64url'))
    this.peer = peerOfPublicKey(this.publicKey)
  }

  sign(statement: Uint8Array): Uint8Array {
    return sign(null, statement, this.#key)
  }

  /** The key in libp2p's form. For the node alone. */
  nodeKey(): PrivateKey {
    return privateKeyFromRaw(Buffer.concat([this.#seed, this.publicKey]))
  }
}

/** A new identity that is not kept anywhere. */
export function newIdentity(): HostIdentity {
  return new HostIdentity(generateKeyPairSync('ed25519').privateKey)
}

/**
 * The host's identity from its key file (PEM, PKCS #8, mode 0600), made on first use.
 * @throws ShoalError `bad-config` when the file is readable by others or is no Ed25519 key
 */
export async function loadIdentity(path: string): Promise<HostIdentity> {
  const text = await readOrCreatePrivateFile(path, () =>
    generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  )
  try {
    return new HostIdentity(createPrivateKey({ key: text, format: 'pem' }))
  } catch {
    // The cause is left out: it may quote the file.
    throw new ShoalError(
      'bad-config',
      `${path} holds no Ed25519 key in PEM form. Restore it, or remove it to join the mesh as a new host.`,
    )
  }
}

/** True if `signature` is `author`'s over `statement`. False for anything malformed; never throws. */
export function verifyStatement(
  authorPublicKey: Uint8Array,
  statement: Uint8Array,
  signature: Uint8Array,
): boolean {
  if (authorPublicKey.byteLength !== PUBLIC_KEY_BYTES || signature.byteLength !== SIGNATURE_BYTES)
    return false
  try {
    return verify(null, statement, keyObjectOf(authorPublicKey), signature)
  } catch {
    return false
  }
}

const keyObjects = new Map<string, KeyObject>()
const MAX_KEY_OBJECTS = 256

/** The same few authors sign thousands of statements, and reading a key costs as much as checking a signature. */
function keyObjectOf(publicKey: Uint8Array): KeyObject {
  const name = Buffer.from(publicKey).toString('base64')
  const known = keyObjects.get(name)
  if (known !== undefined) return known
  const der = Buffer.concat([SPKI_PREFIX, publicKey])
  const key = createPublicKey({ key: der, format: 'der', type: 'spki' })
  const oldest = keyObjects.size >= MAX_KEY_OBJECTS ? keyObjects.keys().next() : undefined
  if (oldest?.done === false) keyObjects.delete(oldest.value)
  keyObjects.set(name, key)
  return key
}

/** The peer id of a raw Ed25519 public key (32 bytes). */
export function peerOfPublicKey(publicKey: Uint8Array): PeerId {
  return parsePeerId(peerIdFromPublicKey(publicKeyFromRaw(publicKey)).toString())
}

/** The raw Ed25519 public key inside a peer id; undefined when the id is of another kind. Never throws. */
export function publicKeyOfPeer(peer: PeerId): Uint8Array | undefined {
  try {
    const id = peerIdFromString(peer)
    return id.type === 'Ed25519' ? id.publicKey.raw : undefined
  } catch {
    return undefined
  }
}
