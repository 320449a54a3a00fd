// Keys and secrets on disk: made once, whole, for this user alone; anything odd in their place is refused, never followed,
// never waited for.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmod, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  loadIdentity,
  newIdentity,
  peerOfPublicKey,
  publicKeyOfPeer,
  verifyStatement,
} from '@shoal/agent/net/identity.ts'
import { loadMeshSecret } from '@shoal/agent/net/mesh-secret.ts'
import { PeerFile } from '@shoal/agent/net/peer-file.ts'
import { readOrCreatePrivateFile, readPrivateFile } from '@shoal/agent/net/private-file.ts'
import { parsePeerId } from '@shoal/protocol/ids.ts'
import fc from 'fast-check'
import { tempFolder } from '../support/temp-folder.ts'

test('a private file is made on first use, for this user alone, and is the same ever after', async (t) => {
  const path = join(await tempFolder(t), 'keys', 'host.key')
  const first = await readOrCreatePrivateFile(path, () => 'one')
  const second = await readOrCreatePrivateFile(path, () => 'two')
  assert.equal(first.toString(), 'one')
  assert.equal(second.toString(), 'one')
  assert.equal((await stat(path)).mode & 0o777, 0o600)
  assert.equal((await stat(join(path, '..'))).mode & 0o777, 0o700)
  assert.deepEqual(await readdir(join(path, '..')), ['host.key'], 'no draft is left')
})

test('of many that start at once one creates the file and all read the same', async (t) => {
  const path = join(await tempFolder(t), 'host.key')
  const texts = await Promise.all(
    Array.from({ length: 20 }, (_, at) => readOrCreatePrivateFile(path, () => `content ${at}`)),
  )
  assert.equal(new Set(texts.map(String)).size, 1)
  assert.deepEqual(await readdir(join(path, '..')), ['host.key'])
})

for (const mode of [0o644, 0o640, 0o604, 0o660, 0o610, 0o601]) {
  test(`a file of mode ${mode.toString(8)} is refused with the command that mends it`, async (t) => {
    const path = join(await tempFolder(t), 'host.key')
    await writeFile(path, 'secret text')
    await chmod(path, mode)
    await assert.rejects(readPrivateFile(path), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'bad-config')
      assert.ok(error.message.includes(`chmod 600 ${path}`), error.message)
      return !error.message.includes('secret text')
    })
  })
}

test('a symbolic link is refused, and neither read nor replaced', async (t) => {
  const folder = await tempFolder(t)
  const target = join(folder, 'target')
  await writeFile(target, 'somebody else’s', { mode: 0o600 })
  await symlink(target, join(folder, 'host.key'))
  await symlink(join(folder, 'nowhere'), join(folder, 'dangling.key'))
  for (const name of ['host.key', 'dangling.key'])
    await assert.rejects(
      readOrCreatePrivateFile(join(folder, name), () => 'mine'),
      { code: 'bad-config' },
    )
  assert.equal(await readFile(target, 'utf8'), 'somebody else’s')
  assert.deepEqual((await readdir(folder)).toSorted(), ['dangling.key', 'host.key', 'target'])
})

test('a pipe in the place of a key is refused at once instead of waited for', {
  timeout: 5_000,
}, async (t) => {
  const path = join(await tempFolder(t), 'host.key')
  execFileSync('mkfifo', ['-m', '600', path])
  await assert.rejects(readPrivateFile(path), { code: 'bad-config', message: /not a regular file/ })
})

test('a directory, and a file of megabytes, are refused', async (t) => {
  const folder = await tempFolder(t)
  await mkdir(join(folder, 'directory'), { mode: 0o700 })
  await writeFile(join(folder, 'long'), Buffer.alloc(64 * 1024 + 1), { mode: 0o600 })
  await assert.rejects(readPrivateFile(join(folder, 'directory')), { code: 'bad-config' })
  await assert.rejects(readPrivateFile(join(folder, 'long')), { code: 'bad-config', message: /too long/ })
})

test('a host keeps its identity over restarts', async (t) => {
  const path = join(await tempFolder(t), 'host.key')
  const first = await loadIdentity(path)
  const second = await loadIdentity(path)
  assert.equal(second.peer, first.peer)
  assert.deepEqual(second.publicKey, first.publicKey)
  assert.match(await readFile(path, 'utf8'), /^-----BEGIN PRIVATE KEY-----/)
})

test('a key file or secret file with other contents is refused without quoting it', async (t) => {
  const folder = await tempFolder(t)
  const path = join(folder, 'file')
  for (const content of [
    '',
    'hunter2',
    `${'a'.repeat(63)}\n`,
    '-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n',
  ]) {
    await writeFile(path, content, { mode: 0o600 })
    for (const load of [loadIdentity, loadMeshSecret]) {
      await assert.rejects(load(path), (error: Error & { code?: string }) => {
        assert.equal(error.code, 'bad-config')
        return !`${error.message} ${error.cause}`.includes('hunter2')
      })
    }
  }
})

test('a mesh secret is made once and read back', async (t) => {
  const path = join(await tempFolder(t), 'mesh.secret')
  assert.equal((await loadMeshSecret(path)).text(), (await loadMeshSecret(path)).text())
})

test('a signature holds for its author and statement only, and malformed input is just false', () => {
  const author = newIdentity()
  const other = newIdentity()
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 200 }),
      fc.nat({ max: 63 }),
      fc.nat({ max: 7 }),
      (statement, byte, bit) => {
        const signature = author.sign(statement)
        assert.ok(verifyStatement(author.publicKey, statement, signature))
        assert.ok(!verifyStatement(other.publicKey, statement, signature))
        assert.ok(!verifyStatement(author.publicKey, Buffer.concat([statement, Uint8Array.of(0)]), signature))
        const flipped = Uint8Array.from(signature, (value, at) => (at === byte ? value ^ (1 << bit) : value))
        assert.ok(!verifyStatement(author.publicKey, statement, flipped))
      },
    ),
    { numRuns: 50 },
  )
  for (const length of [0, 31, 33])
    assert.equal(verifyStatement(new Uint8Array(length), new Uint8Array(), new Uint8Array(64)), false)
  assert.equal(verifyStatement(author.publicKey, new Uint8Array(), new Uint8Array(63)), false)
})

test('a peer id and its public key say the same', () => {
  const identity = newIdentity()
  assert.equal(peerOfPublicKey(identity.publicKey), identity.peer)
  assert.deepEqual(publicKeyOfPeer(identity.peer), identity.publicKey)
  assert.equal(publicKeyOfPeer(parsePeerId('QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N')), undefined)
  assert.equal(publicKeyOfPeer(parsePeerId('1'.repeat(40))), undefined)
})

test('known hosts survive a restart; a damaged, foreign or odd file is an empty one', {
  timeout: 5_000,
}, async (t) => {
  const folder = await tempFolder(t)
  const path = join(folder, 'peers.json')
  const { peer } = newIdentity()
  const peers = [{ peer, addresses: [`/ip4/10.0.0.1/tcp/8002/p2p/${peer}`] }]
  assert.deepEqual(await new PeerFile(path).read(), [])
  await new PeerFile(path).write(peers)
  assert.deepEqual(await new PeerFile(path).read(), peers)
  assert.equal((await stat(path)).mode & 0o777, 0o600)
  const whole = await readFile(path, 'utf8')
  const damaged = [
    '',
    '{',
    'null',
    '[]',
    whole.slice(0, -10),
    whole.replace('"version":1', '"version":2'),
    `${'['.repeat(100_000)}`,
    JSON.stringify({ version: 1, peers: [{ peer, addresses: 'x' }] }),
    ' '.repeat(1024 * 1024 + 1),
  ]
  for (const text of damaged) {
    await writeFile(path, text)
    assert.deepEqual(await new PeerFile(path).read(), [], text.slice(0, 60))
  }
  execFileSync('mkfifo', [join(folder, 'pipe')])
  assert.deepEqual(await new PeerFile(join(folder, 'pipe')).read(), [])
  await assert.rejects(new PeerFile(join(folder, 'missing', 'peers.json')).write(peers))
})
