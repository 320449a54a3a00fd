// The table that recovery is read from: every row makes sense, and nothing else decides.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  asShoalError,
  ERROR_TABLE,
  type ErrorCode,
  errorRow,
  hasCode,
  isAbort,
  messageOf,
  ShoalError,
} from '@shoal/protocol/errors.ts'

const codes = Object.keys(ERROR_TABLE) as ErrorCode[]

for (const code of codes) {
  test(`the row of ${code} makes sense`, () => {
    const row = errorRow(code)
    assert.match(code, /^[a-z]+(-[a-z]+)*$/)
    assert.ok(row.http >= 400 && row.http <= 599)
    // The caller's mistake is a 4xx, and trying the same again does not help, except when a quota refills.
    if (row.blame === 'caller') {
      assert.ok(row.http < 500)
      assert.ok(row.retry === 'never' || code === 'quota-exceeded')
    }
    if (row.ban === true) assert.equal(row.blame, 'source', 'only sources are banned')
    if (row.blame === 'source') assert.ok(row.retry === 'other-source' || row.http === 403)
    if (row.blame === 'origin') assert.ok(row.http >= 500)
    if (row.retry === 'other-source') assert.ok(['source', 'nobody', 'self'].includes(row.blame))
    if (row.hubCode !== undefined) assert.ok(row.http === 404 || row.http === 403)
    // What may pass is told as a 5xx or 429, for clients that try again by status.
    if (row.retry === 'later') assert.ok(row.http >= 500 || row.http === 429)
  })
}

test('only provably wrong bytes and broken messages ban a source', () => {
  const banning = codes.filter((code) => errorRow(code).ban === true)
  assert.deepEqual(banning.toSorted(), ['bad-message', 'chunk-corrupt'])
})

test('the Hub’s own codes are used where the Hub has one', () => {
  const hubCodes = Object.fromEntries(
    codes.map((code) => [code, errorRow(code).hubCode]).filter(([, hub]) => hub),
  )
  assert.deepEqual(hubCodes, {
    'repo-not-found': 'RepoNotFound',
    'repo-gated': 'GatedRepo',
    'revision-not-found': 'RevisionNotFound',
    'file-not-found': 'EntryNotFound',
  })
})

test('an error keeps its code, its details and what led to it', () => {
  const cause = new Error('inner')
  const error = new ShoalError('store-full', 'no room', { neededBytes: 5 }, cause)
  assert.equal(asShoalError(error), error)
  assert.ok(hasCode(error, 'store-full'))
  assert.equal(hasCode(error, 'store-failed'), false)
  assert.deepEqual([error.details, error.cause, error.name], [{ neededBytes: 5 }, cause, 'ShoalError'])
  assert.equal('cause' in new ShoalError('internal', 'x'), false)
})

test('what is thrown by strangers is no error of ours', () => {
  for (const thrown of [new Error('x'), { code: 'store-full' }, 'store-full', undefined, null]) {
    assert.equal(asShoalError(thrown), undefined)
    assert.ok(!hasCode(thrown, 'store-full'))
  }
})

test('aborts are told from errors, whoever threw them', () => {
  const node = Object.assign(new Error('x'), { code: 'ABORT_ERR' })
  const dom = new DOMException('x', 'AbortError')
  for (const abort of [new ShoalError('aborted', 'x'), node, dom]) assert.ok(isAbort(abort))
  for (const other of [new ShoalError('peer-timeout', 'x'), new Error('aborted'), 'AbortError', undefined])
    assert.ok(!isAbort(other))
})

test('a message can be made of anything thrown', () => {
  assert.deepEqual([new Error('a'), 'b', 7, null, undefined].map(messageOf), [
    'a',
    'b',
    '7',
    'null',
    'undefined',
  ])
})
