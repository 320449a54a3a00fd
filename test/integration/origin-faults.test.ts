// What a misbehaving origin can do, over real sockets (fault matrix C24 to C33): nothing wrong is taken for right, what can be
// resumed is resumed, and what cannot be ends in an error of the table, soon.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import test, { describe, type TestContext } from 'node:test'
import { fixedSlices } from '@shoal/protocol/chunks.ts'
import { type ErrorCode, ShoalError } from '@shoal/protocol/errors.ts'
import { parseBlobId, parseCommit, parseFilePath, parseRepoSpec, parseRevision } from '@shoal/protocol/ids.ts'
import { systemClock } from '@shoal/protocol/time.ts'
import {
  type ClientOptions,
  type FakeOrigin,
  fakeOrigin,
  fetchChunk,
  type Handler,
  sendRaw,
  testClient,
} from '../support/origin-client.ts'

const signal = new AbortController().signal
const COMMIT = parseCommit('c'.repeat(40))
const REPO = parseRepoSpec('org/model').repo
const MAIN = parseRevision('main')
const CONTENT = Buffer.from(Array.from({ length: 200_000 }, (_, index) => (index * 7 + (index >> 8)) & 255))
const SHA = createHash('sha256').update(CONTENT).digest('hex')
const BLOB = parseBlobId(`sha256:${SHA}`)
const FILE = {
  repo: REPO,
  commit: COMMIT,
  entry: {
    path: parseFilePath('w.bin'),
    sizeBytes: CONTENT.length,
    blob: BLOB,
    oid: '1'.repeat(40),
    pointerBytes: 131,
  },
}
const GEOMETRY = fixedSlices(CONTENT.length, 100_000)
/** Chunk 1: bytes 100000 to 199999. */
const SECOND = CONTENT.subarray(100_000)
const IDENTITY = {
  'x-linked-etag': `"${SHA}"`,
  'x-linked-size': String(CONTENT.length),
  'x-repo-commit': COMMIT,
}

function rangeOf(header: string | undefined): readonly [start: number, end: number] {
  const match = /^bytes=(\d+)-(\d+)$/.exec(header ?? '')
  return match === null ? [0, CONTENT.length] : [Number(match[1]), Number(match[2]) + 1]
}

/** Serves the file in place, as a mirror does. */
const honest: Handler = (request, response) => {
  const [start, end] = rangeOf(request.headers.range)
  response.writeHead(request.headers.range === undefined ? 200 : 206, {
    etag: `"${SHA}"`,
    'x-repo-commit': COMMIT,
    'content-length': end - start,
    ...(request.headers.range === undefined
      ? {}
      : { 'content-range': `bytes ${start}-${end - 1}/${CONTENT.length}` }),
  })
  response.end(CONTENT.subarray(start, end))
}

/** Answers the first requests by `faults` in turn, all later ones honestly. */
function first(...faults: readonly Handler[]): Handler {
  let turn = 0
  return (request, response) => (faults[turn++] ?? honest)(request, response)
}

const always =
  (status: number, headers: Record<string, string> = {}, body = ''): Handler =>
  (_request, response) => {
    response.writeHead(status, headers)
    response.end(body)
  }

const part = (headers: string): string =>
  `HTTP/1.1 206 Partial Content\nETag: "${SHA}"\nX-Repo-Commit: ${COMMIT}\n${headers}\n\n`
const PART_RANGE = `Content-Range: bytes 100000-199999/${CONTENT.length}`

interface Run {
  readonly origin: FakeOrigin
  readonly client: ReturnType<typeof testClient>
  fetch(index?: number): Promise<Uint8Array>
}

async function run(
  context: TestContext,
  handler: Handler,
  options: Partial<ClientOptions> = {},
): Promise<Run> {
  const origin = await fakeOrigin(context, handler)
  const client = testClient(context, { readTimeoutMs: 300, ...options, upstreams: [origin.url] })
  const source = client.hub.source(FILE, () => 'hf_canary')
  return {
    origin,
    client,
    fetch: async (index = 1) => (await fetchChunk(source, BLOB, GEOMETRY, index)).bytes,
  }
}

function code(...wanted: readonly ErrorCode[]) {
  return (error: unknown) => {
    assert.ok(error instanceof ShoalError, String(error))
    assert.ok(wanted.includes(error.code), `${error.code}: ${error.message}`)
    return true
  }
}

describe('a body that ends badly is continued from where it stopped', () => {
  const cases: readonly (readonly [name: string, fault: Handler])[] = [
    [
      'a reset after 40,000 bytes',
      (_request, response) => {
        response.writeHead(206, {
          etag: `"${SHA}"`,
          'content-length': 100_000,
          'content-range': `bytes 100000-199999/${CONTENT.length}`,
        })
        response.write(SECOND.subarray(0, 40_000), () =>
          setImmediate(() => response.socket?.resetAndDestroy()),
        )
      },
    ],
    [
      'a stall after 40,000 bytes',
      (_request, response) => {
        response.writeHead(206, {
          etag: `"${SHA}"`,
          'content-length': 100_000,
          'content-range': `bytes 100000-199999/${CONTENT.length}`,
        })
        response.write(SECOND.subarray(0, 40_000))
      },
    ],
    [
      'a short body under its Content-Length',
      (_request, response) =>
        sendRaw(response, part(`${PART_RANGE}\nContent-Length: 100000`), SECOND.subarray(0, 40_000)),
    ],
    [
      'a close-delimited body cut short',
      (_request, response) =>
        sendRaw(response, part(`${PART_RANGE}\nConnection: close`), SECOND.subarray(0, 40_000)),
    ],
    [
      'a chunked body cut short',
      (_request, response) =>
        sendRaw(
          response,
          part(`${PART_RANGE}\nTransfer-Encoding: chunked`),
          Buffer.concat([Buffer.from('9c40\r\n'), SECOND.subarray(0, 40_000), Buffer.from('\r\n')]),
        ),
    ],
  ]
  for (const [name, fault] of cases) {
    test(name, async (t) => {
      const { origin, fetch } = await run(t, first(fault))
      assert.deepEqual(Buffer.from(await fetch()), SECOND)
      assert.equal(origin.seen.length, 2)
      assert.equal(origin.seen[1]?.headers.range, 'bytes=140000-199999')
    })
  }

  test('a reset after each of the first bytes leaves the right bytes', async (t) => {
    for (const cut of [0, 1, 2, 511, 512, 4095, 4096, 99_999]) {
      const { fetch } = await run(
        t,
        first((_request, response) =>
          sendRaw(response, part(`${PART_RANGE}\nContent-Length: 100000`), SECOND.subarray(0, cut)),
        ),
      )
      assert.deepEqual(Buffer.from(await fetch()), SECOND, `cut at ${cut}`)
    }
  })

  test('a drip is given up, and the whole fails when it never gets better', async (t) => {
    const drip: Handler = (request, response) => {
      const [start, end] = rangeOf(request.headers.range)
      response.writeHead(206, {
        'content-length': end - start,
        'content-range': `bytes ${start}-${end - 1}/${CONTENT.length}`,
      })
      let stop = () => {}
      const drop = () => {
        response.write('x')
        stop = systemClock.after(20, drop)
      }
      drop()
      response.on('close', () => stop())
    }
    const { origin, fetch } = await run(t, drip, {
      maxRetries: 1,
      rateFloor: { bytesPerSecond: 64 * 1024, windowMs: 100 },
    })
    await assert.rejects(fetch(), code('origin-unreachable'))
    assert.equal(origin.seen.length, 2)
  })
})

describe('lengths and framings', () => {
  test('a chunked body and a close-delimited one without Content-Length are taken when they are whole', async (t) => {
    const chunked = await run(
      t,
      first((_request, response) => {
        response.writeHead(206, {
          etag: `"${SHA}"`,
          'content-range': `bytes 100000-199999/${CONTENT.length}`,
        })
        response.write(SECOND.subarray(0, 50_000))
        response.end(SECOND.subarray(50_000))
      }),
    )
    assert.deepEqual(Buffer.from(await chunked.fetch()), SECOND)
    const closed = await run(
      t,
      first((_request, response) => sendRaw(response, part(`${PART_RANGE}\nConnection: close`), SECOND)),
    )
    assert.deepEqual(Buffer.from(await closed.fetch()), SECOND)
    assert.equal(closed.origin.seen.length, 1)
  })

  const refused: readonly (readonly [name: string, fault: Handler])[] = [
    [
      'a body longer than the range',
      (_request, response) =>
        sendRaw(
          response,
          part(`${PART_RANGE}\nConnection: close`),
          Buffer.concat([SECOND, Buffer.from('more')]),
        ),
    ],
    [
      'a Content-Length that is not the range',
      (_request, response) =>
        sendRaw(response, part(`${PART_RANGE}\nContent-Length: 99999`), SECOND.subarray(1)),
    ],
    [
      'a negative Content-Length',
      (_request, response) => sendRaw(response, part(`${PART_RANGE}\nContent-Length: -1`), SECOND),
    ],
    [
      'two Content-Lengths',
      (_request, response) =>
        sendRaw(response, part(`${PART_RANGE}\nContent-Length: 100000\nContent-Length: 5`), SECOND),
    ],
    [
      'headers over 16 KiB',
      (_request, response) =>
        sendRaw(
          response,
          part(`${PART_RANGE}\nX-Much: ${'x'.repeat(20_000)}\nContent-Length: 100000`),
          SECOND,
        ),
    ],
    ['not HTTP', (_request, response) => sendRaw(response, 'hello\n')],
    [
      'gzip',
      always(206, { 'content-encoding': 'gzip', 'content-range': `bytes 100000-199999/${CONTENT.length}` }),
    ],
    [
      'a Content-Range of other bytes',
      (_request, response) =>
        sendRaw(
          response,
          part(`Content-Range: bytes 0-99999/${CONTENT.length}\nContent-Length: 100000`),
          CONTENT.subarray(0, 100_000),
        ),
    ],
    [
      'a 206 without Content-Range',
      (_request, response) => sendRaw(response, part('Content-Length: 100000'), SECOND),
    ],
    [
      'multipart/byteranges',
      (_request, response) =>
        sendRaw(
          response,
          part('Content-Type: multipart/byteranges; boundary=x\nContent-Length: 100000'),
          SECOND,
        ),
    ],
    ['a 204', always(204)],
  ]
  for (const [name, fault] of refused) {
    test(`${name} is refused; a better answer to the next try is taken`, async (t) => {
      const once = await run(t, first(fault))
      assert.deepEqual(Buffer.from(await once.fetch()), SECOND)
      assert.equal(once.origin.seen.length, 2)
      const { fetch } = await run(t, fault, { maxRetries: 1 })
      await assert.rejects(fetch(), code('origin-bad-answer'))
    })
  }
})

describe('ranges', () => {
  const whole: Handler = (_request, response) => {
    response.writeHead(200, { etag: `"${SHA}"`, 'content-length': CONTENT.length })
    response.end(CONTENT)
  }

  test('an origin that ignores Range: the wanted bytes are cut out of the whole, at the start and further in', async (t) => {
    const { fetch } = await run(t, whole)
    assert.deepEqual(Buffer.from(await fetch(0)), CONTENT.subarray(0, 100_000))
    assert.deepEqual(Buffer.from(await fetch(1)), SECOND)
  })

  test('an origin that ignores Range far into a large file is refused, not read from the start', async (t) => {
    const { hub } = testClient(t, {
      upstreams: [
        (
          await fakeOrigin(t, (_request, response) => {
            response.writeHead(200, { etag: `"${SHA}"`, 'content-length': 40_000_000 })
            response.write(CONTENT)
          })
        ).url,
      ],
    })
    const file = { ...FILE, entry: { ...FILE.entry, sizeBytes: 40_000_000 } }
    await assert.rejects(
      fetchChunk(
        hub.source(file, () => undefined),
        BLOB,
        fixedSlices(40_000_000),
        5,
      ),
      code('origin-refused'),
    )
  })

  const changed: readonly (readonly [name: string, fault: Handler])[] = [
    ['416', always(416, { 'content-range': 'bytes */5' })],
    [
      'another total size',
      (_request, response) =>
        sendRaw(response, part('Content-Range: bytes 100000-199999/200001\nContent-Length: 100000'), SECOND),
    ],
    ['a whole of another size', always(200, { etag: `"${SHA}"`, 'content-length': '5' }, 'short')],
    [
      'another ETag',
      (_request, response) =>
        sendRaw(
          response,
          `HTTP/1.1 206 Partial Content\nETag: "${'0'.repeat(64)}"\n${PART_RANGE}\nContent-Length: 100000\n\n`,
          SECOND,
        ),
    ],
    [
      'another linked ETag',
      always(302, { ...IDENTITY, 'x-linked-etag': `"${'0'.repeat(64)}"`, location: '/elsewhere' }),
    ],
    ['another linked size', always(302, { ...IDENTITY, 'x-linked-size': '5', location: '/elsewhere' })],
    ['another commit', always(302, { ...IDENTITY, 'x-repo-commit': 'd'.repeat(40), location: '/elsewhere' })],
  ]
  for (const [name, fault] of changed) {
    test(`${name} means that the file is not the one of the manifest`, async (t) => {
      const { origin, fetch } = await run(t, fault)
      await assert.rejects(fetch(), code('origin-changed'))
      assert.equal(origin.seen.length, 1, 'nothing is asked again')
    })
  }

  test('a weak ETag and a missing one are good enough: the digest decides in the end', async (t) => {
    for (const etag of [`ETag: W/"${SHA}"\n`, '']) {
      const { fetch } = await run(
        t,
        first((_request, response) =>
          sendRaw(
            response,
            `HTTP/1.1 206 Partial Content\n${etag}${PART_RANGE}\nContent-Length: 100000\n\n`,
            SECOND,
          ),
        ),
      )
      assert.deepEqual(Buffer.from(await fetch()), SECOND, etag)
    }
  })

  test('content that changes between two parts of one link is not joined', async (t) => {
    let turn = 0
    const storage = await fakeOrigin(t, (request, response) => {
      const [start, end] = rangeOf(request.headers.range)
      response.writeHead(206, {
        etag: `"v${turn++}"`,
        'content-length': end - start,
        'content-range': `bytes ${start}-${end - 1}/${CONTENT.length}`,
      })
      response.write(CONTENT.subarray(start, start + 40_000), () =>
        setImmediate(() => response.socket?.resetAndDestroy()),
      )
    })
    const { fetch } = await run(t, always(302, { ...IDENTITY, location: `${storage.url}/blob` }))
    await assert.rejects(fetch(), code('origin-changed'))
  })
})

describe('signed links', () => {
  /** A storage host whose links are good for `uses` answers each; the Hub gives a new one for every question. */
  async function linked(t: TestContext, uses: number) {
    const used = new Map<string, number>()
    const storage = await fakeOrigin(t, (request, response) => {
      const count = (used.get(request.url ?? '') ?? 0) + 1
      used.set(request.url ?? '', count)
      if (count > uses) return always(403, {}, '<Error>AccessDenied</Error>')(request, response)
      const [start, end] = rangeOf(request.headers.range)
      response.writeHead(206, {
        'content-length': end - start,
        'content-range': `bytes ${start}-${end - 1}/${CONTENT.length}`,
      })
      // Every answer breaks after 40,000 bytes.
      response.write(CONTENT.subarray(start, Math.min(end, start + 40_000)), () =>
        end - start <= 40_000 ? response.end() : setImmediate(() => response.socket?.resetAndDestroy()),
      )
    })
    let links = 0
    const test = await run(t, (request, response) =>
      always(302, { ...IDENTITY, location: `${storage.url}/blob?signature=${++links}` })(request, response),
    )
    return { ...test, storage }
  }

  test('one that expires mid-way is asked for again and the body goes on at the same byte', async (t) => {
    const { origin, storage, fetch } = await linked(t, 1)
    assert.deepEqual(Buffer.from(await fetch()), SECOND)
    assert.deepEqual(
      storage.seen.map((request) => request.headers.range),
      [
        'bytes=100000-199999',
        'bytes=140000-199999',
        'bytes=140000-199999',
        'bytes=180000-199999',
        'bytes=180000-199999',
      ],
    )
    assert.equal(origin.seen.length, 3, 'one look-up and two renewals')
  })

  test('links that are refused from the start end in an error after two renewals', async (t) => {
    const { origin, fetch } = await linked(t, 0)
    await assert.rejects(fetch(), code('origin-unreachable'))
    assert.ok(origin.seen.length <= 4, `${origin.seen.length} look-ups`)
  })

  test('the storage host sees neither the token nor the name of the file; the Hub sees the token and the loop header', async (t) => {
    const { origin, storage, fetch } = await linked(t, 9)
    await fetch()
    for (const request of storage.seen)
      assert.doesNotMatch(JSON.stringify(request.rawHeaders), /hf_canary|authorization/i)
    assert.equal(origin.seen[0]?.headers.authorization, 'Bearer hf_canary')
    assert.equal(origin.seen[0]?.headers['x-shoal-via'], 'test-agent')
    assert.equal(origin.seen[0]?.headers['accept-encoding'], 'identity')
  })

  test('what a storage host says about rights is not what the Hub says', async (t) => {
    const storage = await fakeOrigin(t, always(403, { 'x-error-code': 'GatedRepo' }))
    const { fetch } = await run(t, always(302, { ...IDENTITY, location: `${storage.url}/blob` }), {
      maxRetries: 0,
    })
    await assert.rejects(fetch(), code('origin-unreachable'))
  })

  test('gated mid-way: the Hub refuses the renewal and its refusal comes out', async (t) => {
    const { fetch, client } = await run(
      t,
      first(
        (_request, response) =>
          sendRaw(response, part(`${PART_RANGE}\nContent-Length: 100000`), SECOND.subarray(0, 9)),
        always(403, { 'x-error-code': 'GatedRepo', 'x-error-message': 'Access is restricted' }),
      ),
    )
    await assert.rejects(fetch(), code('repo-gated'))
    assert.deepEqual(client.requests, ['resolvers 206', 'resolvers 403'])
  })
})

describe('redirects', () => {
  test('five are followed, relative ones with their query; the sixth is refused', async (t) => {
    const chain =
      (length: number): Handler =>
      (request, response) => {
        const hop = Number(new URL(request.url ?? '/', 'http://x').searchParams.get('hop') ?? 0)
        if (hop < length)
          return always(307, { location: `/api/resolve-cache/w.bin?a=%22b%22&hop=${hop + 1}` })(
            request,
            response,
          )
        assert.match(request.url ?? '', length === 0 ? /./ : /\?a=%22b%22&hop=/)
        honest(request, response)
      }
    const five = await run(t, chain(5))
    assert.deepEqual(Buffer.from(await five.fetch()), SECOND)
    assert.equal(five.origin.seen.length, 6)
    const six = await run(t, chain(6))
    await assert.rejects(six.fetch(), code('origin-refused'))
  })

  test('a circle, no location, two locations, file: and another user are refused without a second host asked', async (t) => {
    const canary = await fakeOrigin(t, honest)
    const bad: readonly (readonly [string, Handler])[] = [
      ['circle', always(302, { location: '/org/model/resolve/main/w.bin' })],
      ['none', always(302)],
      ['file', always(302, { location: 'file:///etc/passwd' })],
      ['ftp', always(302, { location: `ftp://127.0.0.1:${canary.port}/` })],
      ['user', always(302, { location: `http://u:p@127.0.0.1:${canary.port}/` })],
      ['not a URL', always(302, { location: 'http://[' })],
      [
        'two',
        (_request, response) =>
          sendRaw(
            response,
            `HTTP/1.1 302 Found\nLocation: ${canary.url}/a\nLocation: ${canary.url}/b\nContent-Length: 0\n\n`,
          ),
      ],
    ]
    for (const [name, fault] of bad) {
      const { fetch } = await run(t, fault)
      await assert.rejects(fetch(), code('origin-refused'), name)
    }
    assert.equal(canary.connections(), 0)
  })
})

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
