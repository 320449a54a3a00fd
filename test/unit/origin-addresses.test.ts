// Which addresses the origin side may connect to, in every spelling that a redirect, a literal or a DNS answer may use.
import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import test, { describe } from 'node:test'
import {
  type AddressClass,
  classifyAddress,
  literalAddress,
  type Reach,
  reachOf,
  withinReach,
} from '@shoal/agent/sources/addresses.ts'
import { createConnectGuard, type HostAddress } from '@shoal/agent/sources/connect-guard.ts'
import { hasCode } from '@shoal/protocol/errors.ts'
import fc from 'fast-check'

const ADDRESSES: readonly (readonly [address: string, kind: AddressClass])[] = [
  ['8.8.8.8', 'public'],
  ['1.1.1.1', 'public'],
  ['99.255.255.255', 'public'],
  ['100.63.255.255', 'public'],
  ['100.128.0.0', 'public'],
  ['172.15.255.255', 'public'],
  ['172.32.0.0', 'public'],
  ['192.167.255.255', 'public'],
  ['192.169.0.0', 'public'],
  ['223.255.255.255', 'public'],
  ['2606:4700::1111', 'public'],
  ['2a00:1450:4001:81b::200e', 'public'],
  ['::ffff:8.8.8.8', 'public'],
  ['64:ff9b::808:808', 'public'],
  ['2002:808:808::1', 'public'],
  ['10.0.0.1', 'private'],
  ['10.255.255.255', 'private'],
  ['172.16.0.1', 'private'],
  ['172.31.255.255', 'private'],
  ['192.168.0.1', 'private'],
  ['100.64.0.1', 'private'],
  ['100.127.255.255', 'private'],
  ['198.18.0.1', 'private'],
  ['fd00::1', 'private'],
  ['fc00::1', 'private'],
  ['fdff:ffff::1', 'private'],
  ['::ffff:10.0.0.1', 'private'],
  ['::ffff:a00:1', 'private'],
  ['64:ff9b::10.0.0.1', 'private'],
  ['2002:a00:1::', 'private'],
  ['127.0.0.1', 'loopback'],
  ['127.255.255.254', 'loopback'],
  ['::1', 'loopback'],
  ['0:0:0:0:0:0:0:1', 'loopback'],
  ['::ffff:127.0.0.1', 'loopback'],
  ['::ffff:7f00:1', 'loopback'],
  ['64:ff9b::7f00:1', 'loopback'],
  ['2002:7f00:1::', 'loopback'],
  ['0.0.0.0', 'forbidden'],
  ['0.1.2.3', 'forbidden'],
  ['::', 'forbidden'],
  ['::127.0.0.1', 'forbidden'],
  ['::ffff:0.0.0.0', 'forbidden'],
  ['::ffff:0:7f00:1', 'forbidden'],
  ['169.254.169.254', 'forbidden'],
  ['::ffff:169.254.169.254', 'forbidden'],
  ['::ffff:a9fe:a9fe', 'forbidden'],
  ['64:ff9b::169.254.169.254', 'forbidden'],
  ['64:ff9b:1::1', 'forbidden'],
  ['2002:a9fe:a9fe::', 'forbidden'],
  ['2001::1', 'forbidden'],
  ['2001:db8::1', 'forbidden'],
  ['3fff::1', 'forbidden'],
  ['fe80::1', 'forbidden'],
  ['fe80::1%eth0', 'forbidden'],
  ['fec0::1', 'forbidden'],
  ['ff02::1', 'forbidden'],
  ['100::1', 'forbidden'],
  ['5f00::1', 'forbidden'],
  ['192.0.0.192', 'forbidden'],
  ['192.0.2.1', 'forbidden'],
  ['192.88.99.1', 'forbidden'],
  ['198.51.100.1', 'forbidden'],
  ['203.0.113.1', 'forbidden'],
  ['224.0.0.1', 'forbidden'],
  ['240.0.0.1', 'forbidden'],
  ['255.255.255.255', 'forbidden'],
  ['localhost', 'forbidden'],
  ['', 'forbidden'],
  ['127.1', 'forbidden'],
  ['1.2.3.4.5', 'forbidden'],
]

/** URL spellings of loopback and metadata addresses that `new URL` folds: the guard sees the folded form. */
const SPELLINGS: readonly string[] = [
  'http://127.1/',
  'http://127.0.1/',
  'http://0x7f.1/',
  'http://0x7f000001/',
  'http://2130706433/',
  'http://017700000001/',
  'http://0177.0.0.1/',
  'http://①②⑦.⓪.⓪.①/',
  'http://127。0。0。1/',
  'http://127.0.0.1./',
  'http://[::1]/',
  'http://[0:0:0:0:0:0:0:1]/',
  'http://[::ffff:127.0.0.1]/',
  'http://[::ffff:7f00:1]/',
  'http://[64:ff9b::127.0.0.1]/',
  'http://[::]/',
  'http://0/',
  'http://0.0.0.0/',
  'http://169.254.169.254/',
  'http://2852039166/',
  'http://0xa9fea9fe/',
  'http://[::ffff:169.254.169.254]/',
  'http://[fe80::1]/',
  'http://10.0.0.1/',
  'http://167772161/',
  'http://192.168.1.1/',
  'http://[fd00::1]/',
]

describe('addresses', () => {
  for (const [address, kind] of ADDRESSES) {
    test(`${JSON.stringify(address)} is ${kind}`, () => assert.equal(classifyAddress(address), kind))
  }

  test('no spelling of an inside address in a URL is within reach of a public upstream', () => {
    const guard = createConnectGuard(new URL('https://hub.test'), () =>
      Promise.reject(new Error('not asked')),
    )
    for (const spelling of SPELLINGS) {
      const { hostname } = new URL(spelling)
      assert.notEqual(literalAddress(hostname), undefined, spelling)
      assert.throws(
        () => guard.checkHost(hostname),
        (error) => hasCode(error, 'origin-refused'),
        spelling,
      )
    }
  })

  test('every IPv4 address is of the same class when it is mapped into IPv6', () => {
    fc.assert(
      fc.property(fc.ipV4(), (address) => {
        const parts = address.split('.').map(Number)
        const [a = 0, b = 0, c = 0, d = 0] = parts
        const hex = `::ffff:${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`
        assert.equal(classifyAddress(hex), classifyAddress(address))
        assert.equal(classifyAddress(`::ffff:${address}`), classifyAddress(address))
      }),
    )
  })

  test('any text is classified without an error', () => {
    fc.assert(fc.property(fc.oneof(fc.string(), fc.ipV6()), (text) => assert.ok(classifyAddress(text))))
  })

  test('a farther reach includes the nearer ones, and nothing includes forbidden addresses', () => {
    const reaches: readonly Reach[] = ['public', 'private', 'loopback']
    const samples = { public: '8.8.8.8', private: '10.0.0.1', loopback: '127.0.0.1' }
    for (const [rank, reach] of reaches.entries()) {
      for (const [other, kind] of reaches.entries())
        assert.equal(withinReach(samples[kind], reach), other <= rank)
      assert.equal(withinReach('169.254.169.254', reach), false)
    }
  })

  test('a name with public and inside addresses reaches only what is public', () => {
    assert.equal(reachOf(['127.0.0.1', '8.8.8.8']), 'public')
    assert.equal(reachOf(['127.0.0.1', '10.0.0.1']), 'private')
    assert.equal(reachOf(['::1']), 'loopback')
    assert.equal(reachOf(['0.0.0.0', 'fe80::1']), undefined)
  })
})

describe('the guard of an upstream', () => {
  const address = (text: string): HostAddress => ({ address: text, family: text.includes(':') ? 6 : 4 })
  function lookup(guard: ReturnType<typeof createConnectGuard>, hostname: string): Promise<unknown> {
    return new Promise((resolve, reject) =>
      guard.lookup(hostname, { all: true }, (error, found) => (error ? reject(error) : resolve(found))),
    )
  }
  const refused = (error: unknown) => hasCode(error, 'origin-refused')

  test('DNS that first says public and then private is refused (rebinding)', async () => {
    let turn = 0
    const answers = [['93.184.216.34'], ['10.0.0.5'], ['127.0.0.1'], ['169.254.169.254']]
    const guard = createConnectGuard(new URL('https://hub.test'), async () =>
      (answers[turn++] ?? []).map(address),
    )
    assert.deepEqual(await lookup(guard, 'hub.test'), [address('93.184.216.34')])
    for (let again = 0; again < 3; again++) await assert.rejects(lookup(guard, 'hub.test'), refused)
  })

  test('an upstream inside lets its redirects stay inside, but not come nearer', async () => {
    const names: Record<string, string[]> = {
      'mirror.lan': ['10.0.0.1'],
      'cdn.lan': ['10.0.0.2', '127.0.0.1'],
      'self.lan': ['127.0.0.1'],
      'cdn.test': ['93.184.216.34'],
    }
    const guard = createConnectGuard(new URL('http://mirror.lan'), async (name) =>
      (names[name] ?? []).map(address),
    )
    assert.deepEqual(await lookup(guard, 'cdn.lan'), [address('10.0.0.2')])
    assert.deepEqual(await lookup(guard, 'cdn.test'), [address('93.184.216.34')])
    await assert.rejects(lookup(guard, 'self.lan'), refused)
    assert.throws(() => guard.checkHost('127.0.0.1'), refused)
    guard.checkHost('10.9.9.9')
  })

  test('only the allowed ones of several addresses are used, in one form or the other', async () => {
    const guard = createConnectGuard(new URL('https://hub.test'), async () =>
      ['127.0.0.1', '::1', '93.184.216.34', '2606:4700::1111'].map(address),
    )
    assert.deepEqual(await lookup(guard, 'hub.test'), [address('93.184.216.34'), address('2606:4700::1111')])
    const one = await new Promise((resolve, reject) =>
      guard.lookup('hub.test', { family: 6 }, (error, found, family) =>
        error ? reject(error) : resolve([found, family]),
      ),
    )
    assert.deepEqual(one, ['2606:4700::1111', 6])
  })

  test('a socket that ended up elsewhere is refused', () => {
    const guard = createConnectGuard(new URL('https://8.8.8.8'), async () => [])
    const connected = (remoteAddress: string) => ({ remoteAddress }) as Socket
    guard.checkSocket(connected('8.8.4.4'))
    assert.throws(() => guard.checkSocket(connected('127.0.0.1')), refused)
    assert.throws(() => guard.checkSocket(connected('::ffff:10.0.0.1')), refused)
  })

  test('an upstream at a forbidden address is not asked at all', () => {
    for (const host of ['0.0.0.0', '169.254.169.254', '[::]']) {
      const url = new URL(`http://${host}:80`)
      const guard = createConnectGuard(url, async () => [])
      assert.throws(() => guard.checkHost(url.hostname), refused, host)
    }
  })

  test('a failing look-up fails as it is', async () => {
    const guard = createConnectGuard(new URL('https://hub.test'), () =>
      Promise.reject(new Error('ENOTFOUND hub.test')),
    )
    await assert.rejects(lookup(guard, 'hub.test'), /ENOTFOUND/)
  })
})
