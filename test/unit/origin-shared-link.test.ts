// Links that other hosts found: only what can lead to nothing but the file is followed. And budgets: named so that no token can be read.
import assert from 'node:assert/strict'
import test, { describe } from 'node:test'
import { OriginBudgets } from '@shoal/agent/sources/origin-budgets.ts'
import { checkedLink } from '@shoal/agent/sources/shared-link.ts'
import { parseFilePath } from '@shoal/protocol/ids.ts'
import { seededRandom } from '@shoal/protocol/time.ts'
import { FILE, SHA } from '../support/origin-file.ts'
import { virtualClock } from '../support/virtual-clock.ts'

const XET = 'e'.repeat(64)
const file = { ...FILE, entry: { ...FILE.entry, xetHash: XET } }
const HUB = 'https://huggingface.co'
const none = () => false

describe('a link from a peer', () => {
  const good = [
    `https://cas-bridge.xethub.hf.co/xet-bridge-us/6/${XET}?Expires=9`,
    `https://us.aws.cdn.hf.co/xet-bridge-us/6/${XET}?Expires=9`,
    `https://cdn-lfs-us-1.hf.co/repos/a/b/${SHA}?Signature=x`,
    `${HUB}/api/resolve-cache/models/org/model/${FILE.commit}/w.bin?etag=x`,
  ]
  for (const link of good)
    test(`is followed: ${link}`, () => assert.equal(checkedLink(link, file, HUB, none)?.href, link))

  const bad = [
    `https://cas-bridge.xethub.hf.co/xet-bridge-us/6/${'f'.repeat(64)}?Expires=9`,
    `https://cas-bridge.xethub.hf.co/xet-bridge-us/6/${XET}/other`,
    `https://cas-bridge.xethub.hf.co/other?x=/${XET}`,
    `https://cas-bridge.xethub.hf.co.evil.example/6/${XET}`,
    `https://evilhf.co/6/${XET}`,
    `https://hub-ci.hf.co/mallory/repo/resolve/main/${XET}`,
    `http://cas-bridge.xethub.hf.co/xet-bridge-us/6/${XET}`,
    `https://user:pass@cas-bridge.xethub.hf.co/6/${XET}`,
    `ftp://cas-bridge.xethub.hf.co/6/${XET}`,
    `${HUB}/mallory/repo/resolve/main/${XET}`,
    `${HUB}/api/whoami-v2`,
    `${HUB}/api/resolve-cache/models/org/model/${'d'.repeat(40)}/w.bin`,
    `${HUB}/api/resolve-cache/models/org/model/${FILE.commit}/other.bin`,
    `https://10.0.0.1/6/${XET}`,
    'no link',
    '',
    `https://cas-bridge.xethub.hf.co/${'a'.repeat(9_000)}/${XET}`,
  ]
  for (const link of bad)
    test(`is not followed: ${link.slice(0, 90)}`, () =>
      assert.equal(checkedLink(link, file, HUB, none), undefined))

  test('to a mirror’s storage host is followed once the mirror itself has led there', () => {
    const link = `https://s3.corp.example/models/${SHA}`
    const mirror = 'https://mirror.corp.example'
    assert.equal(checkedLink(link, file, mirror, none), undefined)
    assert.equal(checkedLink(link, file, mirror, (host) => host === 's3.corp.example')?.href, link)
    assert.equal(checkedLink(`https://mirror.corp.example:9000/x/${SHA}`, file, mirror, none)?.port, '9000')
    const plain = { ...FILE, entry: { ...FILE.entry, path: parseFilePath('a b/ü.txt') } }
    const cached = `${mirror}/api/resolve-cache/models/org/model/${FILE.commit}/a%20b/%C3%BC.txt`
    assert.equal(checkedLink(cached, plain, mirror, none)?.href, cached)
  })
})

describe('budgets', () => {
  const deps = { clock: virtualClock(), random: seededRandom(1), self: 'me' }
  const refused = {
    status: 429,
    retryAfterMs: undefined,
    rateLimits: [{ bucket: 'api', remaining: 0, resetSeconds: 30 }],
  }

  test('are told by a digest of eight bytes, and never by the token', () => {
    const budgets = new OriginBudgets({ ...deps, site: undefined })
    budgets.answered(HUB, 'hf_secret', 'api', refused)
    const [word] = budgets.words(16)
    assert.equal(word?.budget.byteLength, 8)
    assert.ok(!JSON.stringify(budgets.words(16)).includes('hf_secret'))
  })

  test('of a refusal that names no empty bucket are everybody’s, others the asker’s own', () => {
    const budgets = new OriginBudgets({ ...deps, site: undefined })
    budgets.answered(HUB, 'hf_one', 'api', refused)
    assert.ok(budgets.delay(HUB, 'hf_one', 'api') > 0)
    assert.equal(budgets.delay(HUB, 'hf_two', 'api'), 0)
    assert.equal(budgets.delay(HUB, undefined, 'api'), 0)
    budgets.answered(HUB, 'hf_one', 'api', { status: 429, retryAfterMs: 5_000, rateLimits: [] })
    for (const token of ['hf_one', 'hf_two', undefined]) assert.ok(budgets.delay(HUB, token, 'api') >= 5_000)
    assert.equal(budgets.delay('https://mirror.example', undefined, 'api'), 0)
  })

  test('that are made up push out none that is used', () => {
    const budgets = new OriginBudgets({ ...deps, site: undefined })
    budgets.answered(HUB, undefined, 'api', refused)
    for (let one = 0; one < 10_000; one++) {
      const budget = new Uint8Array(8)
      new DataView(budget.buffer).setUint32(0, one)
      budgets.hear('liar', [{ budget, bucket: 'api', blockedMs: 60_000 }])
    }
    assert.ok(budgets.delay(HUB, undefined, 'api') > 29_000)
    assert.equal(budgets.words(16).length, 1)
  })

  test('a host that first uses a budget keeps to what it heard of it before', () => {
    const [one, two] = [
      new OriginBudgets({ ...deps, site: 'x' }),
      new OriginBudgets({ ...deps, self: 'b', site: 'x' }),
    ]
    one.answered(HUB, undefined, 'api', refused)
    two.hear('a', one.words(16))
    assert.ok(two.delay(HUB, undefined, 'api') > 29_000)
  })
})
