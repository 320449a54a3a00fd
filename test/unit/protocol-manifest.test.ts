// Manifests from files, the index and peers: only what makes sense gets in.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type FileEntry, fileAt, MAX_FILE_BYTES, manifestSchema } from '@shoal/protocol/manifest.ts'

const file = {
  path: 'onnx/model.onnx',
  sizeBytes: 12,
  blob: `sha256:${'a'.repeat(64)}`,
  oid: 'b'.repeat(40),
  pointerBytes: 134,
}
const manifest = {
  repo: { kind: 'model', id: 'org/name' },
  commit: 'c'.repeat(40),
  access: 'public',
  files: [file, { ...file, path: 'config.json', pointerBytes: undefined }],
  directories: [{ path: 'onnx', oid: 'd'.repeat(40) }],
  info: { id: 'org/name', tags: ['x'] },
  learnedAt: 1_750_000_000_000,
}

test('a manifest survives being written as JSON and read again', () => {
  const read = manifestSchema.parse(JSON.parse(JSON.stringify(manifest)))
  assert.deepEqual(JSON.parse(JSON.stringify(read)), JSON.parse(JSON.stringify(manifest)))
  assert.deepEqual(manifestSchema.parse(read), read)
})

for (const { id, change } of [
  { id: 'an unknown field', change: { extra: 1 } },
  { id: 'no files', change: { files: undefined } },
  { id: 'files that are no list', change: { files: {} } },
  { id: 'a kind unknown', change: { repo: { kind: 'thing', id: 'a' } } },
  { id: 'a repository that is a path', change: { repo: { kind: 'model', id: '../x' } } },
  { id: 'a short commit', change: { commit: 'c'.repeat(39) } },
  { id: 'an access of its own', change: { access: 'open' } },
  { id: 'a file outside', change: { files: [{ ...file, path: '../x' }] } },
  { id: 'a file at a drive', change: { files: [{ ...file, path: 'C:\\x' }] } },
  { id: 'a file without a name', change: { files: [{ ...file, path: '' }] } },
  { id: 'a size below zero', change: { files: [{ ...file, sizeBytes: -1 }] } },
  { id: 'a broken size', change: { files: [{ ...file, sizeBytes: 1.5 }] } },
  { id: 'a size as text', change: { files: [{ ...file, sizeBytes: '12' }] } },
  { id: 'a size beyond the largest file', change: { files: [{ ...file, sizeBytes: MAX_FILE_BYTES + 1 }] } },
  { id: 'a blob that is none', change: { files: [{ ...file, blob: 'sha256:x' }] } },
  { id: 'an oid in upper case', change: { files: [{ ...file, oid: 'B'.repeat(40) }] } },
  { id: 'a pointer of no bytes', change: { files: [{ ...file, pointerBytes: 0 }] } },
  { id: 'a file with a field more', change: { files: [{ ...file, url: 'x' }] } },
  { id: 'a directory outside', change: { directories: [{ path: '/etc', oid: 'd'.repeat(40) }] } },
  { id: 'info that is no object', change: { info: [] } },
  { id: 'a time below zero', change: { learnedAt: -1 } },
]) {
  test(`a manifest with ${id} is refused`, () => {
    assert.equal(manifestSchema.safeParse({ ...manifest, ...change }).success, false)
  })
}

test('more files than a repository may have are refused', () => {
  const files = new Array(100_001).fill({ ...file })
  assert.equal(manifestSchema.safeParse({ ...manifest, files }).success, false)
})

test('a file is found by its exact path and by nothing else', () => {
  const read = manifestSchema.parse(manifest)
  assert.equal(fileAt(read, 'onnx/model.onnx')?.sizeBytes, 12)
  for (const path of ['onnx', 'ONNX/model.onnx', 'onnx/model.onnx/', '', '__proto__', 'constructor'])
    assert.equal(fileAt(read, path), undefined, path)
  const first: FileEntry | undefined = fileAt(read, 'config.json')
  assert.equal(fileAt(read, 'config.json'), first)
})
