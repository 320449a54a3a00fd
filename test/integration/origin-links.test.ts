// Where an origin sends us, over real sockets (fault matrix C29, C30, C33): links that expire, redirects that lead astray, and who
// sees the token.
import assert from 'node:assert/strict'
import test, { describe, type TestContext } from 'node:test'
import { fakeOrigin, fetchChunk, type Handler, sendRaw, testClient } from '../support/origin-client.ts'
import {
  always,
  BLOB,
  CONTENT,
  code,
  FILE,
  first,
  GEOMETRY,
  honest,
  IDENTITY,
  MAIN,
  PART_RANGE,
  part,
  REPO,
  rangeOf,
  run,
  SECOND,
  signal,
} from '../support/origin-file.ts'

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

  test('reserved addresses are refused even for an upstream on loopback, and the host they name is not asked', async (t) => {
    const canary = await fakeOrigin(t, honest)
    for (const host of ['169.254.169.254', '0.0.0.0', '[::]', '[fe80::1]', '2852039166', '0']) {
      const { fetch } = await run(
        t,
        always(302, { ...IDENTITY, location: `http://${host}:${canary.port}/blob` }),
      )
      await assert.rejects(fetch(), code('origin-refused'), host)
    }
    assert.equal(canary.connections(), 0)
  })

  test('an upstream by name is reached where its name leads; a name that leads to a reserved address is not asked', async (t) => {
    const origin = await fakeOrigin(t, honest)
    const names: Record<string, string> = { 'hub.test': '127.0.0.1', 'cdn.test': '169.254.169.254' }
    const resolveHost = async (name: string) => [{ address: names[name] ?? '0.0.0.0', family: 4 }]
    const good = testClient(t, { upstreams: [`http://hub.test:${origin.port}`], resolveHost })
    const { bytes } = await fetchChunk(
      good.hub.source(FILE, () => undefined),
      BLOB,
      GEOMETRY,
      1,
    )
    assert.deepEqual(Buffer.from(bytes), SECOND)
    const bad = testClient(t, { upstreams: [`http://cdn.test:${origin.port}`], resolveHost })
    await assert.rejects(bad.hub.revision(REPO, MAIN, { token: 'hf_canary', signal }), code('origin-refused'))
    assert.equal(origin.seen.length, 1)
  })
})
