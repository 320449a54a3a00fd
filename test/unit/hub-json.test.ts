// The Hub's JSON as a hostile origin might send it: a tree is taken whole and right or not at all, and repo info carries nothing
// that hurts a reader or leads a client to Xet storage.
import assert from 'node:assert/strict'
import test, { describe } from 'node:test'
import { refusalError } from '@shoal/agent/sources/hub-errors.ts'
import { parseHubJson, parseRevision, TreeReader } from '@shoal/agent/sources/hub-json.ts'
import { type ErrorCode, hasCode, ShoalError } from '@shoal/protocol/errors.ts'
import { manifestSchema } from '@shoal/protocol/manifest.ts'
import fc from 'fast-check'

const OID = '1'.repeat(40)
const SHA = 'a'.repeat(64)
const COMMIT = 'c'.repeat(40)

function read(...pages: readonly unknown[]) {
  const reader = new TreeReader('hub.test')
  for (const page of pages) reader.add(page)
  return reader.finish()
}

const file = (change: Record<string, unknown> = {}) => ({
  type: 'file',
  path: 'a/b.bin',
  oid: OID,
  size: 5,
  ...change,
})
const lfs = (change: Record<string, unknown> = {}) =>
  file({ lfs: { oid: SHA, size: 5, pointerSize: 126, ...change } })
const badAnswer = (error: unknown) => hasCode(error, 'origin-bad-answer')

describe('trees', () => {
  test('plain files have their Git id, LFS files the digest of their content; what is unknown is left out', () => {
    const tree = read(
      [
        file({ path: 'x.txt', xetHash: 'ff', lastCommit: { id: 1 }, lfs: null }),
        { type: 'directory', path: 'a', oid: OID, size: 0 },
      ],
      [lfs(), { type: 'unknown', path: 'submodule' }],
    )
    assert.deepEqual(tree.files, [
      { path: 'x.txt', sizeBytes: 5, blob: `git-sha1:${OID}`, oid: OID },
      { path: 'a/b.bin', sizeBytes: 5, blob: `sha256:${SHA}`, oid: OID, pointerBytes: 126 },
    ])
    assert.deepEqual(tree.directories, [{ path: 'a', oid: OID }])
  })

  test('a missing pointer size is that of a standard pointer', () => {
    assert.equal(read([lfs({ pointerSize: undefined })]).files[0]?.pointerBytes, 126)
  })

  const refused: readonly (readonly [name: string, page: unknown])[] = [
    ['an object', {}],
    ['null', null],
    ['a text', 'x'],
    ['an entry that is null', [null]],
    ['an entry that is a list', [[]]],
    ['no type', [file({ type: undefined })]],
    ['no path', [file({ path: undefined })]],
    ['no oid', [file({ oid: undefined })]],
    ['no size', [file({ size: undefined })]],
    ['an oid of 39 digits', [file({ oid: '1'.repeat(39) })]],
    ['an oid in upper case', [file({ oid: 'A'.repeat(40) })]],
    ['a size as text', [file({ size: '5' })]],
    ['a negative size', [file({ size: -1 })]],
    ['half a byte', [file({ size: 0.5 })]],
    ['a size of 2^63', [file({ size: 2 ** 63 })]],
    ['NaN', [file({ size: Number.NaN })]],
    ['an LFS digest that is not hexadecimal', [lfs({ oid: 'g'.repeat(64) })]],
    ['an LFS digest that is too long', [lfs({ oid: 'a'.repeat(65) })]],
    ['two sizes', [lfs({ size: 6 })]],
    ['a pointer of a megabyte', [lfs({ pointerSize: 1e6 })]],
    ['lfs as text', [file({ lfs: 'x' })]],
    ['the same file twice', [file(), file()]],
    ['a file that is a directory', [file({ path: 'a' }), { type: 'directory', path: 'a', oid: OID }]],
    ['a file inside a file', [file({ path: 'a' }), file()]],
    ...[
      '../x',
      '/etc/passwd',
      'a/../b',
      'a//b',
      './a',
      '',
      'a/',
      'C:\\x',
      'C:x',
      'a\\b',
      'a\u0000b',
      'a\nb',
      '\ud800',
      'x'.repeat(256),
      `${'a/'.repeat(600)}b`,
    ].map((path) => [`the path ${JSON.stringify(path.slice(0, 20))}`, [file({ path })]] as const),
    ['a bad directory', [{ type: 'directory', path: '..', oid: OID }]],
  ]
  for (const [name, page] of refused) {
    test(`${name} refuses the whole tree`, () => {
      assert.throws(() => read([file({ path: 'good' })], page), badAnswer)
    })
  }

  test('the message names the path that is refused', () => {
    assert.throws(() => read([file({ path: '../x' })]), /"\.\.\/x"/)
  })

  test('one file over a hundred thousand, or a file over 5 TiB, is too large', () => {
    const files = (count: number) => Array.from({ length: count }, (_, index) => file({ path: `f${index}` }))
    assert.equal(read(files(100_000)).files.length, 100_000)
    assert.throws(
      () => read(files(100_001)),
      (error) => hasCode(error, 'too-large'),
    )
    assert.throws(
      () => read([file({ size: 5 * 1024 ** 4 + 1 })]),
      (error) => hasCode(error, 'too-large'),
    )
  })

  test('any JSON gives a tree whose entries a manifest takes, or a refusal', () => {
    const entry = fc.record(
      {
        type: fc.constantFrom('file', 'directory', 'unknown', 'x'),
        path: fc.oneof(fc.string(), fc.constantFrom('a', 'a/b', 'c.bin', '..')),
        oid: fc.constantFrom(OID, 'x', SHA),
        size: fc.oneof(fc.nat(), fc.double(), fc.string()),
        lfs: fc.oneof(fc.constant({ oid: SHA, size: 5, pointerSize: 126 }), fc.jsonValue()),
      },
      { requiredKeys: [] },
    )
    fc.assert(
      fc.property(fc.oneof(fc.array(entry, { maxLength: 4 }), fc.jsonValue()), (page) => {
        try {
          const { files, directories } = read(page)
          const repo = { kind: 'model', id: 'org/model' }
          const base = { repo, commit: COMMIT, access: 'public', info: {}, learnedAt: 0 }
          manifestSchema.parse({ ...base, files, directories })
        } catch (error) {
          assert.ok(hasCode(error, 'origin-bad-answer') || hasCode(error, 'too-large'), String(error))
        }
      }),
    )
  })
})

describe('repo info', () => {
  const info = (change: Record<string, unknown> = {}) => ({
    id: 'org/model',
    sha: COMMIT,
    private: false,
    gated: false,
    ...change,
  })

  test('siblings and everything of Xet are left out at every depth, the rest is kept', () => {
    const found = parseRevision(
      info({
        siblings: [{ rfilename: 'x' }],
        xetEnabled: true,
        cardData: { tags: ['a', { xetHash: 'ff', keep: 1 }] },
        downloads: 7,
      }),
      'hub.test',
      true,
    )
    assert.deepEqual(found.info, info({ cardData: { tags: ['a', { keep: 1 }] }, downloads: 7 }))
  })

  test('who may read: private, gated in all its spellings, public', () => {
    const cases: readonly (readonly [change: Record<string, unknown>, anonymous: boolean, access: string])[] =
      [
        [{}, true, 'public'],
        [{}, false, 'public'],
        [{ private: true }, false, 'private'],
        [{ private: true, gated: 'auto' }, false, 'private'],
        [{ gated: 'auto' }, true, 'gated'],
        [{ gated: 'manual' }, false, 'gated'],
        [{ gated: true }, true, 'gated'],
        [{ gated: 'something new' }, true, 'gated'],
        [{ private: undefined, gated: undefined }, true, 'public'],
        [{ private: undefined, gated: undefined }, false, 'private'],
        [{ private: 'no' }, false, 'private'],
      ]
    for (const [change, anonymous, access] of cases)
      assert.equal(parseRevision(info(change), 'hub.test', anonymous).access, access, JSON.stringify(change))
  })

  test('no object, no commit, or nesting without end is refused', () => {
    for (const bad of [
      null,
      [],
      'x',
      5,
      {},
      info({ sha: 'main' }),
      info({ sha: COMMIT.toUpperCase() }),
      info({ sha: [COMMIT] }),
    ])
      assert.throws(() => parseRevision(bad, 'hub.test', true), badAnswer)
    const deep = parseHubJson(
      Buffer.from(`{"sha":"${COMMIT}","a":${'{"a":'.repeat(100)}1${'}'.repeat(101)}`),
      'hub.test',
    )
    assert.throws(() => parseRevision(deep, 'hub.test', true), badAnswer)
  })

  test('a __proto__ key changes nothing', () => {
    const raw = parseHubJson(
      Buffer.from(`{"sha":"${COMMIT}","__proto__":{"polluted":1},"constructor":2}`),
      'hub.test',
    )
    const found = parseRevision(raw, 'hub.test', true)
    assert.equal((found.info as { polluted?: unknown }).polluted, undefined)
    assert.equal(Object.getPrototypeOf(found.info), Object.prototype)
  })

  test('a byte order mark is taken, broken UTF-8 and non-JSON are not', () => {
    assert.deepEqual(parseHubJson(Buffer.from('\ufeff[1]'), 'hub.test'), [1])
    for (const bad of [
      Buffer.from([0x22, 0xff, 0x22]),
      Buffer.from('<html>'),
      Buffer.from(''),
      Buffer.from('[1'),
    ])
      assert.throws(() => parseHubJson(bad, 'hub.test'), badAnswer)
  })
})

describe('refusals', () => {
  const refusal = (change: Partial<Parameters<typeof refusalError>[0]>) =>
    refusalError({
      status: 404,
      host: 'hub.test',
      errorCode: undefined,
      errorMessage: undefined,
      body: '',
      token: undefined,
      absent: 'file-not-found',
      ...change,
    })

  const cases: readonly (readonly [change: Partial<Parameters<typeof refusalError>[0]>, code: ErrorCode])[] =
    [
      [{ status: 401, errorCode: 'RepoNotFound' }, 'repo-not-found'],
      [{ status: 404, errorCode: 'RepoNotFound' }, 'repo-not-found'],
      [{ status: 401, errorCode: 'GatedRepo' }, 'repo-gated'],
      [{ status: 403, errorCode: 'GatedRepo' }, 'repo-gated'],
      [{ status: 404, errorCode: 'RevisionNotFound' }, 'revision-not-found'],
      [{ status: 404, errorCode: 'EntryNotFound' }, 'file-not-found'],
      [{ status: 404, errorCode: 'toString' }, 'file-not-found'],
      [{ status: 404 }, 'file-not-found'],
      [{ status: 404, absent: 'repo-not-found' }, 'repo-not-found'],
      [{ status: 410 }, 'file-not-found'],
      [{ status: 401 }, 'repo-not-found'],
      [{ status: 401, errorMessage: 'Invalid credentials in Authorization header' }, 'unauthorized'],
      [{ status: 401, body: '{"error":"Invalid credentials in Authorization header"}' }, 'unauthorized'],
      [{ status: 403, errorMessage: 'Access to this resource is disabled.' }, 'repo-disabled'],
      [{ status: 403 }, 'forbidden'],
      [{ status: 429 }, 'origin-rate-limited'],
      [{ status: 429, errorCode: 'RepoNotFound' }, 'origin-rate-limited'],
      [{ status: 500 }, 'origin-unreachable'],
      [{ status: 503, errorCode: 'RepoNotFound' }, 'origin-unreachable'],
      [{ status: 408 }, 'origin-unreachable'],
      [{ status: 400 }, 'origin-bad-answer'],
      [{ status: 418 }, 'origin-bad-answer'],
    ]
  for (const [change, code] of cases) {
    test(`${JSON.stringify(change)} is ${code}`, () => {
      const error = refusal(change)
      assert.equal(error.code, code)
      assert.equal(error.details.httpStatus, change.status ?? 404)
    })
  }

  test("the Hub's words are kept, without control characters, at most 300 of them, and never the token", () => {
    assert.equal(refusal({ body: '{"error":"Repository not found"}' }).message, 'Repository not found')
    assert.equal(refusal({ errorMessage: 'a\r\nb\u001b[31m' }).message, 'a b [31m')
    assert.equal(refusal({ errorMessage: 'x'.repeat(1000) }).message.length, 300)
    assert.equal(refusal({ errorMessage: 'no hf_secret', token: 'hf_secret' }).message, 'no [hidden]')
    assert.equal(refusal({ body: '{"error":{"a":1}}' }).message, 'hub.test answered 404')
    assert.ok(refusal({ body: '{' }) instanceof ShoalError)
  })
})
