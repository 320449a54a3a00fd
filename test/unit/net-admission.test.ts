// The proof that admits a host: it fits one secret, one pair of hosts, one direction and one moment only.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inspect } from 'node:util'
import {
  type AdmissionContext,
  admissionProof,
  MAC_BYTES,
  NONCE_BYTES,
  proofMatches,
  type Role,
} from '@shoal/agent/net/admission.ts'
import { MeshSecret } from '@shoal/agent/net/mesh-secret.ts'
import fc from 'fast-check'

interface Case {
  readonly secret: Uint8Array
  readonly role: Role
  readonly context: AdmissionContext
}

const nonce = fc.uint8Array({ minLength: NONCE_BYTES, maxLength: NONCE_BYTES })
const anyCase: fc.Arbitrary<Case> = fc.record({
  secret: fc.uint8Array({ minLength: 32, maxLength: 32 }),
  role: fc.constantFrom<Role>('initiator', 'responder'),
  context: fc.record({
    initiator: fc.string({ maxLength: 60 }),
    responder: fc.string({ maxLength: 60 }),
    initiatorNonce: nonce,
    responderNonce: nonce,
  }),
})

function proofOf({ secret, role, context }: Case): Uint8Array {
  return admissionProof(new MeshSecret(secret), role, context)
}

test('both ends compute the same proof from the same facts', () => {
  fc.assert(
    fc.property(anyCase, (facts) => {
      assert.equal(proofOf(facts).byteLength, MAC_BYTES)
      assert.ok(proofMatches(proofOf(facts), proofOf(structuredClone(facts))))
    }),
  )
})

test('a proof fits no other facts', () => {
  fc.assert(
    fc.property(anyCase, anyCase, (one, other) => {
      fc.pre(inspect(one) !== inspect(other))
      assert.ok(!proofMatches(proofOf(one), proofOf(other)))
    }),
  )
})

test('a change of any single part makes another proof', () => {
  fc.assert(
    fc.property(anyCase, fc.nat({ max: 31 }), fc.nat({ max: 7 }), (facts, byte, bit) => {
      const flip = (bytes: Uint8Array) => bytes.map((value, at) => (at === byte ? value ^ (1 << bit) : value))
      const { context } = facts
      const changed: Case[] = [
        { ...facts, secret: flip(facts.secret) },
        { ...facts, role: facts.role === 'initiator' ? 'responder' : 'initiator' },
        { ...facts, context: { ...context, initiatorNonce: flip(context.initiatorNonce) } },
        { ...facts, context: { ...context, responderNonce: flip(context.responderNonce) } },
        { ...facts, context: { ...context, initiator: `${context.initiator}x` } },
        { ...facts, context: { ...context, responder: `x${context.responder}` } },
      ]
      for (const [at, other] of changed.entries())
        assert.ok(!proofMatches(proofOf(facts), proofOf(other)), `change ${at}`)
    }),
  )
})

test('characters moved from one name to the other make another proof', () => {
  fc.assert(
    fc.property(anyCase, fc.string({ minLength: 1, maxLength: 20 }), (facts, moved) => {
      const { initiator, responder } = facts.context
      const left = { ...facts, context: { ...facts.context, initiator: initiator + moved, responder } }
      const right = { ...facts, context: { ...facts.context, initiator, responder: moved + responder } }
      assert.ok(!proofMatches(proofOf(left), proofOf(right)))
    }),
  )
})

test('a proof that is too short, too long or empty does not match and does not throw', () => {
  const facts: Case = {
    secret: new Uint8Array(32),
    role: 'initiator',
    context: {
      initiator: 'a',
      responder: 'b',
      initiatorNonce: new Uint8Array(32),
      responderNonce: new Uint8Array(32),
    },
  }
  const proof = proofOf(facts)
  for (const length of [0, 1, MAC_BYTES - 1])
    assert.equal(proofMatches(proof, proof.subarray(0, length)), false)
  assert.equal(proofMatches(proof, Buffer.concat([proof, proof])), false)
})

test('a secret shows itself in no text but its own', () => {
  const secret = MeshSecret.generate()
  const texts = [
    `${secret}`,
    String(secret),
    JSON.stringify({ secret }),
    inspect({ secret }, { showHidden: true, depth: 9 }),
  ]
  for (const text of texts) {
    assert.ok(!text.includes(secret.text()), text)
    assert.match(text, /\[mesh secret\]/)
  }
  assert.equal(MeshSecret.parse(` ${secret.text().toUpperCase()}\n`).text(), secret.text())
  for (const wrong of ['', 'a'.repeat(63), 'a'.repeat(65), 'g'.repeat(64)])
    assert.throws(
      () => MeshSecret.parse(wrong),
      (error: Error) => wrong === '' || !error.message.includes(wrong),
    )
})
