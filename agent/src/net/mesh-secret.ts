// The 32 bytes that every host of a mesh shares and proves at each connection. Owns their file and their text form, and
// keeps them out of logs: nothing but `text()` gives them back.
import { createHmac, randomBytes } from 'node:crypto'
import { inspect } from 'node:util'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { readOrCreatePrivateFile, readPrivateFile, writePrivateFile } from './private-file.ts'

export const SECRET_BYTES = 32
const HIDDEN = '[mesh secret]'

export class MeshSecret {
  readonly #bytes: Uint8Array

  /** @throws ShoalError `bad-config` unless exactly 32 bytes */
  constructor(bytes: Uint8Array) {
    if (bytes.byteLength !== SECRET_BYTES)
      throw new ShoalError('bad-config', `a mesh secret has ${SECRET_BYTES} bytes, not ${bytes.byteLength}`)
    this.#bytes = Uint8Array.from(bytes)
  }

  static generate(): MeshSecret {
    return new MeshSecret(randomBytes(SECRET_BYTES))
  }

  /** Reads 64 hex digits, white space around them allowed. @throws ShoalError `bad-config` (never quoting the text) */
  static parse(text: string): MeshSecret {
    const hex = text.trim()
    if (!/^[0-9a-fA-F]{64}$/.test(hex))
      throw new ShoalError(
        'bad-config',
        'a mesh secret is 64 hexadecimal digits (make one with: openssl rand -hex 32)',
      )
    return new MeshSecret(Buffer.from(hex, 'hex'))
  }

  /** HMAC-SHA256 over `message`, 32 bytes. */
  mac(message: Uint8Array): Uint8Array {
    return createHmac('sha256', this.#bytes).update(message).digest()
  }

  /** The secret as 64 hex digits: for its file and for invites, nothing else. */
  text(): string {
    return Buffer.from(this.#bytes).toString('hex')
  }

  toString(): string {
    return HIDDEN
  }

  toJSON(): string {
    return HIDDEN
  }

  [inspect.custom](): string {
    return HIDDEN
  }
}

/**
 * The mesh secret from its file (mode 0600), made on first use.
 * @throws ShoalError `bad-config` when others may read the file or it holds no secret
 */
export async function loadMeshSecret(path: string): Promise<MeshSecret> {
  return fromFile(path, await readOrCreatePrivateFile(path, () => fileText(MeshSecret.generate())))
}

/** The same without making one: undefined when there is no file. */
export async function readMeshSecret(path: string): Promise<MeshSecret | undefined> {
  const content = await readPrivateFile(path)
  return content === undefined ? undefined : fromFile(path, content)
}

/** Replaces the secret: this host leaves the mesh of the old one. */
export async function writeMeshSecret(path: string, secret: MeshSecret): Promise<void> {
  await writePrivateFile(path, fileText(secret))
}

function fileText(secret: MeshSecret): string {
  return `${secret.text()}\n`
}

function fromFile(path: string, content: Buffer): MeshSecret {
  try {
    return MeshSecret.parse(content.toString('latin1'))
  } catch {
    throw new ShoalError(
      'bad-config',
      `${path} holds no mesh secret (64 hexadecimal digits). Restore it from another host of the mesh or join again.`,
    )
  }
}
