// Invites: what goes in comes out, and damage is noticed.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decodeInvite, encodeInvite, MAX_INVITE_ADDRESSES } from '@shoal/agent/net/invite.ts'
import { MeshSecret } from '@shoal/agent/net/mesh-secret.ts'
import fc from 'fast-check'

const NOW = 1_750_000_000_000
const secret = new MeshSecret(new Uint8Array(32).map((_, at) => at))
const invite = {
  secret,
  addresses: ['/ip4/10.0.0.5/tcp/8002/p2p/12D3KooWJ9F5GqLFgPz4m5jvVJ7oFz8yqMqq8rJ8wHkRkq5TnXnQ'],
  coordinator: 'https://coordinator.example:8443',
  expires: NOW + 3_600_000,
}
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'

test('every invite comes back as it was made', () => {
  const anyInvite = fc.record({
    secret: fc.uint8Array({ minLength: 32, maxLength: 32 }),
    addresses: fc.array(fc.string({ minLength: 1, maxLength: 256 }), { maxLength: MAX_INVITE_ADDRESSES }),
    coordinator: fc.option(fc.webUrl({ validSchemes: ['http', 'https'], size: 'small' }), { nil: undefined }),
    expires: fc.integer({ min: NOW + 1, max: 2 ** 52 }),
  })
  fc.assert(
    fc.property(anyInvite, (fields) => {
      const back = decodeInvite(encodeInvite({ ...fields, secret: new MeshSecret(fields.secret) }), NOW)
      assert.equal(back.secret.text(), Buffer.from(fields.secret).toString('hex'))
      assert.deepEqual(
        { addresses: back.addresses, coordinator: back.coordinator, expires: back.expires },
        { addresses: fields.addresses, coordinator: fields.coordinator, expires: fields.expires },
      )
    }),
  )
})

test('white space that a terminal or a mail put in does no harm', () => {
  const token = encodeInvite(invite)
  const wrapped = `  ${token.match(/.{1,20}/g)?.join('\r\n\t')}\n`
  assert.equal(decodeInvite(wrapped, NOW).secret.text(), secret.text())
})

test('every changed character is noticed', () => {
  const token = encodeInvite(invite)
  for (let at = 0; at < token.length; at++) {
    for (const other of [ALPHABET[(at * 7) % 64], 'A', '_', '!', '=', 'é']) {
      if (other === undefined || other === token[at]) continue
      const damaged = token.slice(0, at) + other + token.slice(at + 1)
      assert.throws(() => decodeInvite(damaged, NOW), { code: 'bad-request' }, `character ${at} as ${other}`)
    }
  }
})

test('every lost, doubled or swapped character is noticed', () => {
  const token = encodeInvite(invite)
  for (let at = 0; at < token.length; at++) {
    const lost = token.slice(0, at) + token.slice(at + 1)
    const doubled = token.slice(0, at) + token.slice(at, at + 1) + token.slice(at)
    const swapped =
      token.slice(0, at) +
      token
        .slice(at, at + 2)
        .split('')
        .toReversed()
        .join('') +
      token.slice(at + 2)
    for (const damaged of [lost, doubled, swapped]) {
      if (damaged === token) continue
      assert.throws(() => decodeInvite(damaged, NOW), { code: 'bad-request' }, `at ${at}: ${damaged}`)
    }
    assert.throws(() => decodeInvite(token.slice(0, at), NOW), { code: 'bad-request' }, `cut at ${at}`)
  }
})

test('a refusal never quotes the token or the secret in it', () => {
  const token = encodeInvite(invite)
  const wrong = [token.slice(0, -1), `x${token}`, token.replace('shoal1-', 'shoal2-'), token.slice(7)]
  for (const text of wrong) {
    assert.throws(
      () => decodeInvite(text, NOW),
      (error: Error) =>
        !error.message.includes(token.slice(10, 30)) && !error.message.includes(secret.text()),
    )
  }
})

test('an expired invite says when it expired', () => {
  const token = encodeInvite({ ...invite, expires: NOW })
  assert.throws(() => decodeInvite(token, NOW), { code: 'bad-request', message: /expired at 2025-06-15T/ })
  assert.doesNotThrow(() => decodeInvite(token, NOW - 1))
})

test('an invite of a later version is told apart from garbage', () => {
  assert.throws(() => decodeInvite('shoal2-abcdef', NOW), { message: /another version/ })
  assert.throws(() => decodeInvite('', NOW), { message: /not an invite/ })
})

test('an invite that could not be read back is not made', () => {
  const nine = Array.from({ length: MAX_INVITE_ADDRESSES + 1 }, () => '/ip4/10.0.0.1/tcp/1')
  assert.throws(() => encodeInvite({ ...invite, addresses: nine }), { code: 'bad-request' })
  assert.throws(() => encodeInvite({ ...invite, coordinator: 'ftp://x' }), { code: 'bad-request' })
})
