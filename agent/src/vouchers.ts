// Who says what a chunk's bytes are. Makes this host's own vouchers and checks everybody's: the one place where a chunk that
// did not come from the origin is proven. Holds no key: signing and checking signatures are handed in.
import type { ChunkGeometry } from '@shoal/protocol/chunks.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
import type { BlobId } from '@shoal/protocol/ids.ts'
import { type ChunkVoucher, voucherStatement } from '@shoal/protocol/messages.ts'

/** This host's key, and everybody's public ones. Ed25519. */
export interface Signatures {
  /** Raw public key, 32 bytes. */
  readonly publicKey: Uint8Array
  sign(statement: Uint8Array): Uint8Array
  /** False for anything malformed; never throws. */
  verify(publicKey: Uint8Array, statement: Uint8Array, signature: Uint8Array): boolean
}

export interface ChunkPlace {
  readonly blob: BlobId
  readonly geometry: ChunkGeometry
  readonly index: number
}

export class Vouchers {
  readonly #signatures: Signatures
  readonly #digest: (bytes: Uint8Array) => Uint8Array

  /** @param digest BLAKE3, 32 bytes */
  constructor(signatures: Signatures, digest: (bytes: Uint8Array) => Uint8Array) {
    this.#signatures = signatures
    this.#digest = digest
  }

  /** BLAKE3, 32 bytes. */
  digest(bytes: Uint8Array): Uint8Array {
    return this.#digest(bytes)
  }

  /** Vouches for bytes that this host has from the origin, or out of a file whose whole digest it has checked. */
  make(place: ChunkPlace, bytes: Uint8Array): ChunkVoucher {
    const digest = this.#digest(bytes)
    const statement = voucherStatement(place.blob, place.geometry.text, place.index, digest)
    return {
      digest,
      author: this.#signatures.publicKey,
      signature: this.#signatures.sign(statement),
    }
  }

  /**
   * Checks what a peer sent against the voucher it sent along.
   * @param digest BLAKE3 of the bytes, where it is known already
   * @throws ShoalError `chunk-corrupt` when the bytes are not what the voucher says, `bad-message` when it is not signed
   */
  check(
    place: ChunkPlace,
    bytes: Uint8Array,
    voucher: ChunkVoucher | undefined,
    digest: Uint8Array = this.#digest(bytes),
  ): ChunkVoucher {
    if (voucher === undefined)
      throw new ShoalError(
        'bad-message',
        `chunk ${place.index} came without a voucher: nobody says what it is`,
      )
    const statement = voucherStatement(place.blob, place.geometry.text, place.index, voucher.digest)
    if (!this.#signatures.verify(voucher.author, statement, voucher.signature))
      throw new ShoalError('bad-message', `the voucher of chunk ${place.index} is not signed by its author`)
    if (!sameBytes(digest, voucher.digest))
      throw new ShoalError('chunk-corrupt', `chunk ${place.index} is not what its voucher says`)
    return voucher
  }

  /** True when `bytes` have the voucher's digest. Whoever signed it is not looked at. */
  matches(bytes: Uint8Array, voucher: ChunkVoucher): boolean {
    return sameBytes(this.#digest(bytes), voucher.digest)
  }

  isOwn(voucher: ChunkVoucher): boolean {
    return sameBytes(voucher.author, this.#signatures.publicKey)
  }
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}
