// Bytes from a misbehaving origin, over real sockets (fault matrix C26, C27, C28, C31): nothing wrong is taken for right, and what
// can be resumed is resumed.
import assert from 'node:assert/strict'
import test, { describe } from 'node:test'
import { fixedSlices } from '@shoal/protocol/chunks.ts'
import { systemClock } from '@shoal/protocol/time.ts'
import { fakeOrigin, fetchChunk, type Handler, sendRaw, testClient } from '../support/origin-client.ts'
import {
  always,
  BLOB,
  CONTENT,
  code,
  FILE,
  first,
  IDENTITY,
  PART_RANGE,
  part,
  rangeOf,
  run,
  SECOND,
  SHA,
} from '../support/origin-file.ts'

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
      'a Content-Range that begins a byte too early',
      (_request, response) =>
        sendRaw(
          response,
          part(`Content-Range: bytes 99999-199999/${CONTENT.length}\nConnection: close`),
          CONTENT.subarray(99_999, 199_999),
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
        fixedSlices(40_000_000, 4_000_000),
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
