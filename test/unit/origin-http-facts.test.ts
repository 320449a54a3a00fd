// What is read from headers of an origin: redirects, rate limits, ranges, links, expiry. No header makes it throw but a redirect
// that must not be followed.
import assert from 'node:assert/strict'
import test, { describe } from 'node:test'
import {
  bareEtag,
  MAX_BACKOFF_MS,
  parseContentRange,
  parseNextLink,
  parseRateLimit,
  parseRetryAfter,
  parseSize,
  redirectTarget,
  signedUrlExpiry,
} from '@shoal/agent/sources/http-facts.ts'
import { createLoopGuard } from '@shoal/agent/sources/loop-guard.ts'
import { hasCode } from '@shoal/protocol/errors.ts'
import fc from 'fast-check'
import { virtualClock } from '../support/virtual-clock.ts'

describe('redirects', () => {
  const from = new URL('https://hub.test/a/b?c=d')

  test('relative, absolute and scheme-relative locations are followed, with their query and without fragment', () => {
    assert.equal(redirectTarget(from, '/x?y=%22z%22#f', 0).href, 'https://hub.test/x?y=%22z%22')
    assert.equal(redirectTarget(from, 'https://cdn.test/x?a=b%2Fc', 4).href, 'https://cdn.test/x?a=b%2Fc')
    assert.equal(redirectTarget(from, '//cdn.test/x', 0).href, 'https://cdn.test/x')
    assert.equal(redirectTarget(new URL('http://a.test/'), 'https://a.test/', 0).href, 'https://a.test/')
  })

  const refused: readonly (readonly [location: string | undefined, hops: number])[] = [
    [undefined, 0],
    ['', 0],
    ['http://hub.test/x', 0],
    ['file:///etc/passwd', 0],
    ['ftp://hub.test/', 0],
    ['javascript:alert(1)', 0],
    ['data:text/plain,x', 0],
    ['https://user@hub.test/', 0],
    ['https://:pass@hub.test/', 0],
    ['https://[', 0],
    [`/${'x'.repeat(9000)}`, 0],
    ['/x', 5],
  ]
  for (const [location, hops] of refused) {
    test(`${JSON.stringify(location?.slice(0, 40))} after ${hops} hops is refused`, () => {
      assert.throws(
        () => redirectTarget(from, location, hops),
        (error) => hasCode(error, 'origin-refused'),
      )
    })
  }
})

describe('limits', () => {
  test('RateLimit is read with several buckets, spaces and unknown parameters, and nonsense is left out', () => {
    assert.deepEqual(parseRateLimit('"resolvers";r=2998;t=172'), [
      { bucket: 'resolvers', remaining: 2998, resetSeconds: 172 },
    ])
    assert.deepEqual(parseRateLimit(' "api" ; r=0 ; t=5 , "pages";t=1;r=7;q=9, junk, "x";r=-1, "y";t=3'), [
      { bucket: 'api', remaining: 0, resetSeconds: 5 },
      { bucket: 'pages', remaining: 7, resetSeconds: 1 },
    ])
    assert.deepEqual(parseRateLimit('"a";r=1'), [{ bucket: 'a', remaining: 1, resetSeconds: 0 }])
    assert.deepEqual(parseRateLimit('x'.repeat(600)), [])
  })

  test('Retry-After is read as seconds and as a date, and is never longer than a minute', () => {
    const now = Date.UTC(2026, 0, 1)
    const cases: readonly (readonly [string | undefined, number | undefined])[] = [
      ['0', 0],
      [' 7 ', 7_000],
      ['1000000000', MAX_BACKOFF_MS],
      ['99999999999999999999', MAX_BACKOFF_MS],
      [new Date(now + 5_000).toUTCString(), 5_000],
      [new Date(now - 5_000).toUTCString(), 0],
      [new Date(now + 1e10).toUTCString(), MAX_BACKOFF_MS],
      [undefined, undefined],
      ['', undefined],
      ['-1', undefined],
      ['1.5', undefined],
      ['soon', undefined],
    ]
    for (const [text, wanted] of cases) assert.equal(parseRetryAfter(text, now), wanted, text)
  })
})

describe('ranges, sizes and tags', () => {
  test('Content-Range is read strictly', () => {
    assert.deepEqual(parseContentRange('bytes 0-0/1'), { start: 0, end: 1, totalBytes: 1 })
    assert.deepEqual(parseContentRange('bytes 5-9/*'), { start: 5, end: 10, totalBytes: undefined })
    for (const bad of [
      'bytes 5-4/9',
      'bytes 0-9/5',
      'bytes */9',
      'items 0-1/2',
      'bytes=0-1/2',
      'bytes 0-1',
      'bytes -1-1/2',
      'bytes 0-9007199254740992/*',
      'bytes 0-1/2, bytes 3-4/5',
      '',
    ])
      assert.equal(parseContentRange(bad), undefined, bad)
  })

  test('sizes that are no sizes are told from absent ones', () => {
    assert.equal(parseSize('12'), 12)
    assert.equal(parseSize(undefined), undefined)
    for (const bad of ['', '-1', '1e3', '1.0', ' 1', '9007199254740993', '1, 1'])
      assert.ok(Number.isNaN(parseSize(bad)), bad)
  })

  test('ETags are bare whether quoted, weak or neither', () => {
    for (const text of ['abc', '"abc"', 'W/"abc"', ' "abc" ']) assert.equal(bareEtag(text), 'abc', text)
    for (const text of [undefined, '', '""', 'W/""']) assert.equal(bareEtag(text), undefined, text)
  })

  test('the next page is found among other links', () => {
    assert.equal(parseNextLink('<https://h/1>; rel="next"'), 'https://h/1')
    assert.equal(
      parseNextLink('<https://h/0>; rel="prev", <https://h/2?a=1,2>;rel=next'),
      'https://h/2?a=1,2',
    )
    for (const bad of [
      undefined,
      '<x>; rel="prev"',
      'https://h/1; rel="next"',
      '<x>',
      `<${'x'.repeat(9000)}>; rel="next"`,
    ])
      assert.equal(parseNextLink(bad), undefined)
  })

  test('no header text makes a reader throw', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 200 }), (text) => {
        parseRateLimit(text)
        parseRetryAfter(text, 0)
        parseContentRange(text)
        parseNextLink(text)
        parseSize(text)
        bareEtag(text)
      }),
    )
  })
})

describe('signed links', () => {
  test('the end is read from CloudFront, its policy and S3', () => {
    const at = Date.UTC(2026, 0, 2, 3, 4, 5)
    const policy = Buffer.from(
      `{"Statement":[{"Condition":{"DateLessThan":{"AWS:EpochTime": ${at / 1000}}}}]}`,
    )
      .toString('base64')
      .replaceAll('+', '-')
      .replaceAll('=', '_')
      .replaceAll('/', '~')
    for (const query of [
      `Expires=${at / 1000}&Signature=x`,
      `expires=${at / 1000}`,
      `Policy=${policy}&Key-Pair-Id=k`,
      'X-Amz-Date=20260102T020405Z&X-Amz-Expires=3600&X-Amz-Signature=y',
    ])
      assert.equal(signedUrlExpiry(new URL(`https://cdn.test/x?${query}`)), at, query)
  })

  test('a link that does not say, or says nonsense, has no known end', () => {
    for (const query of [
      '',
      'Expires=soon',
      'Expires=1',
      'Policy=%%%',
      'Policy=e30_',
      'X-Amz-Expires=3600',
      'X-Amz-Date=x&X-Amz-Expires=1',
    ])
      assert.equal(signedUrlExpiry(new URL(`https://cdn.test/x?${query}`)), undefined, query)
  })
})

describe('the loop guard', () => {
  test('an agent refuses its own request, direct or through another one', () => {
    const clock = virtualClock()
    const [a, b, c] = ['a', 'b', 'c'].map((id) => createLoopGuard(id, clock))
    assert.ok(a && b && c)
    assert.equal(a.admits(undefined), true)
    assert.equal(a.admits(a.outgoing()), false)
    // a asks b, b asks c, c asks a.
    assert.equal(b.admits(a.outgoing()), true)
    assert.equal(c.admits(b.outgoing()), true)
    assert.equal(a.admits(c.outgoing()), false)
  })

  test('who asked is forgotten after ten minutes, and never more than sixteen are remembered', async () => {
    const clock = virtualClock()
    const guard = createLoopGuard('me', clock)
    for (let index = 0; index < 100; index++) guard.admits(`x${index}, bad id!, `)
    assert.equal(guard.outgoing().split(', ').length, 17)
    assert.match(guard.outgoing(), /x99/)
    await clock.advance(10 * 60_000)
    assert.equal(guard.outgoing(), 'me')
  })
})
