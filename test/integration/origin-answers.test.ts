// Limits, failures and nonsense of an origin, over real sockets (fault matrix C24, C25, Hub JSON), and mirrors in its place.
import assert from 'node:assert/strict'
import test, { describe } from 'node:test'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { systemClock } from '@shoal/protocol/time.ts'
import { fakeOrigin, fetchChunk, type Handler, sendRaw, testClient } from '../support/origin-client.ts'
import {
  always,
  BLOB,
  COMMIT,
  CONTENT,
  code,
  FILE,
  first,
  GEOMETRY,
  honest,
  IDENTITY,
  MAIN,
  REPO,
  run,
  SECOND,
  signal,
} from '../support/origin-file.ts'

describe('limits and failures', () => {
  test('a 429 with a short Retry-After is waited for', async (t) => {
    const { origin, fetch } = await run(t, first(always(429, { 'retry-after': '0' })))
    assert.deepEqual(Buffer.from(await fetch()), SECOND)
    assert.equal(origin.seen.length, 2)
  })

  test('a 429 with a long, absurd or dated Retry-After holds everybody back at once, capped at a minute', async (t) => {
    for (const wait of ['30', '1000000000', new Date(systemClock.wallTime() + 3_600_000).toUTCString()]) {
      const { origin, client, fetch } = await run(t, always(429, { 'retry-after': wait }))
      await assert.rejects(fetch(), (error: unknown) => {
        assert.ok(code('origin-rate-limited')(error))
        const waitMs = Number((error as ShoalError).details.retryAfterMs)
        assert.ok(waitMs > 5_000 && waitMs <= 60_000, `${wait}: ${waitMs}`)
        return true
      })
      await assert.rejects(
        client.hub.revision(REPO, MAIN, { token: undefined, signal }),
        code('origin-rate-limited'),
      )
      assert.equal(origin.seen.length, 1, 'metadata waits too, without asking')
    }
  })

  test('a bucket that runs empty holds back the next request, and is reported', async (t) => {
    const { origin, client, fetch } = await run(t, (request, response) => {
      response.setHeader('ratelimit', '"resolvers";r=0;t=100')
      honest(request, response)
    })
    await fetch()
    assert.deepEqual(client.limits, ['resolvers 0'])
    await assert.rejects(fetch(), code('origin-rate-limited'))
    assert.equal(origin.seen.length, 1)
  })

  test('408, 500, 502, 503 and 504 are tried again, for metadata and for bytes', async (t) => {
    for (const status of [408, 500, 502, 503, 504]) {
      const info = JSON.stringify({ id: 'org/model', sha: COMMIT, private: false })
      const { client, origin } = await run(t, first(always(status), always(status), always(200, {}, info)))
      const found = await client.hub.revision(REPO, MAIN, { token: undefined, signal })
      assert.equal(found.commit, COMMIT)
      assert.equal(origin.seen.length, 3)
      const bytes = await run(t, first(always(status)))
      assert.deepEqual(Buffer.from(await bytes.fetch()), SECOND)
    }
  })

  test('401, 403 and 404 are not tried again', async (t) => {
    for (const [status, wanted] of [
      [401, 'repo-not-found'],
      [403, 'forbidden'],
      [404, 'repo-not-found'],
    ] as const) {
      const { client, origin } = await run(t, always(status))
      await assert.rejects(client.hub.revision(REPO, MAIN, { token: undefined, signal }), code(wanted))
      assert.equal(origin.seen.length, 1)
    }
  })

  test('an origin that never answers is given up after its read time-out', async (t) => {
    const { fetch, origin } = await run(t, () => {}, { maxRetries: 1 })
    await assert.rejects(fetch(), code('origin-unreachable'))
    assert.equal(origin.seen.length, 2)
  })

  test('an abort ends the transfer at once as aborted, and the connection with it', async (t) => {
    const stopped = Promise.withResolvers<void>()
    const { client } = await run(
      t,
      (_request, response) => {
        response.writeHead(206, {
          'content-length': 100_000,
          'content-range': `bytes 100000-199999/${CONTENT.length}`,
        })
        response.write(SECOND.subarray(0, 100))
        response.on('close', () => stopped.resolve())
        setImmediate(() => stop.abort())
      },
      { readTimeoutMs: 60_000 },
    )
    const stop = new AbortController()
    await assert.rejects(
      fetchChunk(
        client.hub.source(FILE, () => undefined),
        BLOB,
        GEOMETRY,
        1,
        stop.signal,
      ),
      code('aborted'),
    )
    await stopped.promise
  })
})

describe('metadata that makes no sense', () => {
  const bad: readonly (readonly [name: string, handler: Handler])[] = [
    ['HTML with 200', always(200, { 'content-type': 'text/html' }, '<html>log in</html>')],
    ['invalid UTF-8', (_request, response) => response.end(Buffer.from([0x7b, 0xff, 0x7d]))],
    ['a list', always(200, {}, '[]')],
    ['no commit', always(200, {}, '{"id":"org/model"}')],
    ['a commit of 39 digits', always(200, {}, JSON.stringify({ sha: 'c'.repeat(39) }))],
    ['a page over 4 MiB by its length', always(200, { 'content-length': '1073741824' })],
    [
      'a page over 4 MiB without a length',
      (_request, response) => {
        const piece = Buffer.alloc(256 * 1024, 0x20)
        const more = () => response.destroyed || response.write(piece, more)
        more()
      },
    ],
    [
      'a page cut short',
      (_request, response) => sendRaw(response, 'HTTP/1.1 200 OK\nConnection: close\n\n{"sha":"cccc'),
    ],
    ['deep nesting', always(200, {}, `{"sha":"${COMMIT}","a":${'['.repeat(5000)}${']'.repeat(5000)}}`)],
  ]
  for (const [name, handler] of bad) {
    test(`${name} is a bad answer`, async (t) => {
      const { client } = await run(t, handler, { maxRetries: 1 })
      await assert.rejects(
        client.hub.revision(REPO, MAIN, { token: undefined, signal }),
        code('origin-bad-answer'),
      )
    })
  }

  test('a tree whose next page is elsewhere, is itself, or never ends is refused', async (t) => {
    const canary = await fakeOrigin(t, always(200, {}, '[]'))
    const entry = (index: number) => ({ type: 'file', path: `f${index}`, oid: '1'.repeat(40), size: 1 })
    for (const next of [
      `${canary.url}/api/models/org/model/tree/x?cursor=1`,
      '/api/models/org/model/tree/x',
      '//evil.test/api/',
      'http://[',
    ]) {
      let pages = 0
      const { client } = await run(
        t,
        (request, response) => {
          response.setHeader('link', `<${next}>; rel="next"`)
          always(200, {}, JSON.stringify([entry(pages++)]))(request, response)
        },
        { maxRetries: 0 },
      )
      await assert.rejects(
        client.hub.tree(REPO, COMMIT, { token: 'hf_canary', signal }),
        code('origin-bad-answer'),
        next,
      )
      assert.ok(pages <= 3, `${next}: ${pages} pages`)
    }
    assert.equal(canary.connections(), 0)
    let pages = 0
    const { client } = await run(
      t,
      (request, response) => {
        response.setHeader('link', `</api/models/org/model/tree/x?cursor=${pages++}>; rel="next"`)
        always(200, {}, '[]')(request, response)
      },
      { maxRetries: 0 },
    )
    await assert.rejects(client.hub.tree(REPO, COMMIT, { token: undefined, signal }), code('too-large'))
  })

  test('a page of another commit is refused', async (t) => {
    const { client } = await run(t, always(200, { 'x-repo-commit': 'd'.repeat(40) }, '[]'), { maxRetries: 0 })
    await assert.rejects(
      client.hub.tree(REPO, COMMIT, { token: undefined, signal }),
      code('origin-bad-answer'),
    )
  })

  test('a token that an origin echoes never becomes part of an error', async (t) => {
    const { client } = await run(t, (request, response) =>
      always(403, { 'x-error-message': `no ${request.headers.authorization}` })(request, response),
    )
    await assert.rejects(
      client.hub.revision(REPO, MAIN, { token: 'hf_canary', signal }),
      (error: unknown) => {
        assert.ok(error instanceof ShoalError)
        assert.doesNotMatch(`${error.message}${JSON.stringify(error.details)}${error.stack}`, /hf_canary/)
        return error.code === 'forbidden'
      },
    )
  })
})

describe('mirrors', () => {
  test('one that lacks the repo, is broken or has other content is passed over; a refusal is final', async (t) => {
    const good = await fakeOrigin(t, honest)
    for (const fault of [
      always(404, { 'x-error-code': 'RepoNotFound' }),
      always(401, { 'x-error-code': 'RepoNotFound' }),
      always(500),
      always(302, { location: 'file:///etc/passwd' }),
      always(302, { ...IDENTITY, 'x-linked-size': '5', location: '/elsewhere' }),
    ]) {
      const bad = await fakeOrigin(t, fault)
      const { hub } = testClient(t, { upstreams: [bad.url, good.url], maxRetries: 0 })
      const { bytes } = await fetchChunk(
        hub.source(FILE, () => undefined),
        BLOB,
        GEOMETRY,
        1,
      )
      assert.deepEqual(Buffer.from(bytes), SECOND)
    }
    const asked = good.seen.length
    const gate = await fakeOrigin(t, always(403, { 'x-error-code': 'GatedRepo' }))
    const { hub } = testClient(t, { upstreams: [gate.url, good.url], maxRetries: 0 })
    await assert.rejects(
      fetchChunk(
        hub.source(FILE, () => 'hf_x'),
        BLOB,
        GEOMETRY,
        1,
      ),
      code('repo-gated'),
    )
    await assert.rejects(hub.revision(REPO, MAIN, { token: 'hf_x', signal }), code('repo-gated'))
    assert.equal(good.seen.length, asked)
  })

  test('"not found" needs every mirror to say so', async (t) => {
    const lacks = await fakeOrigin(t, always(404, { 'x-error-code': 'RepoNotFound' }))
    const broken = await fakeOrigin(t, always(502))
    const both = testClient(t, { upstreams: [lacks.url, broken.url], maxRetries: 0 })
    await assert.rejects(
      both.hub.revision(REPO, MAIN, { token: undefined, signal }),
      code('origin-unreachable'),
    )
    const all = testClient(t, { upstreams: [lacks.url, lacks.url], maxRetries: 0 })
    await assert.rejects(all.hub.revision(REPO, MAIN, { token: undefined, signal }), code('repo-not-found'))
  })
})
