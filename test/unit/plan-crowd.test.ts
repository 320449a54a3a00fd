// Hosts that want a blob at the same time, in the simulation's engine: the origin gives each byte once. Decisions only; no sockets.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { World } from '../simulation/world.ts'
import { CHUNK_BYTES } from '../support/plan-world.ts'
import { seeds } from '../support/seed.ts'

/** Hosts that start within one second of each other. */
function crowd(seed: number, chunks: number, originBytesPerSecond: number, hosts: number): World {
  const world = new World({
    seed,
    chunks,
    chunkBytes: CHUNK_BYTES,
    originBytesPerSecond,
    originDelayMs: 10,
    delayMs: [1, 20],
    gossipDelayMs: [50, 300],
    originFetchers: 4,
    originDepth: 4,
    totalDepth: 16,
    connections: 64,
  })
  for (let at = 0; at < hosts; at++)
    world.addHost({
      upBytesPerSecond: 100e6,
      downBytesPerSecond: 100e6,
      startAt: world.random.next() * 1_000,
    })
  world.connect()
  return world
}

for (const { id, hosts, chunks, origin, runs } of [
  { id: 'one host', hosts: 1, chunks: 64, origin: 200e6, runs: 1 },
  { id: 'two hosts', hosts: 2, chunks: 128, origin: 200e6, runs: 10 },
  { id: 'four hosts', hosts: 4, chunks: 128, origin: 200e6, runs: 10 },
  { id: 'four hosts, slow line', hosts: 4, chunks: 64, origin: 5e6, runs: 6 },
  { id: 'ten hosts', hosts: 10, chunks: 128, origin: 200e6, runs: 6 },
  { id: 'ten hosts, slow line', hosts: 10, chunks: 64, origin: 10e6, runs: 5 },
  { id: 'forty hosts', hosts: 40, chunks: 320, origin: 400e6, runs: 2 },
  { id: 'three hosts, five chunks', hosts: 3, chunks: 5, origin: 100e6, runs: 20 },
  { id: 'six hosts, twelve chunks', hosts: 6, chunks: 12, origin: 100e6, runs: 20 },
]) {
  test(`hosts that start within one second fetch each byte from the origin once: ${id}`, (context) => {
    for (const seed of seeds(context, runs)) {
      const world = crowd(seed, chunks, origin, hosts)
      assert.ok(world.run(3_600_000), `seed ${seed}: not every host finished`)
      const amplification = world.originBytes / (chunks * CHUNK_BYTES)
      const duplicates =
        world.hosts.reduce((sum, { duplicateBytes }) => sum + duplicateBytes, 0) /
        (hosts * chunks * CHUNK_BYTES)
      const lastMs = Math.max(...world.hosts.map(({ finishedAt }) => finishedAt ?? 0))
      context.diagnostic(
        `seed ${seed}: amplification ${amplification.toFixed(3)}, last ${Math.round(lastMs)} ms, ` +
          `duplicates ${(duplicates * 100).toFixed(2)} %`,
      )
      // In a blob of few chunks, one that is fetched twice is more than a fiftieth.
      const most = Math.max(1.02, 1 + 1 / chunks)
      assert.ok(amplification <= most, `seed ${seed}: amplification ${amplification}`)
      assert.ok(duplicates <= 0.01, `seed ${seed}: duplicates ${duplicates}`)
    }
  })
}
