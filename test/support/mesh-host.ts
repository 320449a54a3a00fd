// Real mesh nodes for tests: on 127.0.0.1, port 0, with a temporary directory each. Stops and removes everything at the end.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type HostIdentity, newIdentity } from '@shoal/agent/net/identity.ts'
import type { MeshHandlers } from '@shoal/agent/net/mesh.ts'
import { createMesh, type MeshNode, type MeshOptions } from '@shoal/agent/net/mesh-node.ts'
import { MeshSecret } from '@shoal/agent/net/mesh-secret.ts'
import { seededRandom, systemClock } from '@shoal/protocol/time.ts'

/** The secret of test meshes that do not say otherwise. */
export const testSecret = new MeshSecret(new Uint8Array(32).fill(7))

/** Answers nothing; spread it and replace what a test needs. */
export const noHandlers: MeshHandlers = {
  chunk: async () => ({ status: 'lacks' }),
  have: async () => ({ state: 'none', wanting: false, claimed: [] }),
  manifest: async () => ({ found: false }),
  told: () => false,
}

export interface TestHosts extends AsyncDisposable {
  /**
   * Starts a node. Options not given are those of a quiet host on 127.0.0.1.
   * @param made told of the node before it starts
   */
  start(
    options?: Partial<MeshOptions>,
    handlers?: Partial<MeshHandlers>,
    identity?: HostIdentity,
    made?: (node: MeshNode) => void,
  ): Promise<MeshNode>
  /** What unsupervised work failed with. Empty in a healthy test. */
  readonly failures: readonly unknown[]
}

export function testHosts(): TestHosts {
  const nodes: MeshNode[] = []
  const directories: string[] = []
  const failures: unknown[] = []
  return {
    failures,
    async start(options = {}, handlers = {}, identity = newIdentity(), made = () => {}) {
      const storagePath = options.storagePath ?? (await mkdtemp(join(tmpdir(), 'shoal-mesh-')))
      if (options.storagePath === undefined) directories.push(storagePath)
      const node = createMesh(
        {
          listen: ['/ip4/127.0.0.1/tcp/0'],
          staticPeers: async () => [],
          mdns: false,
          secret: async () => testSecret,
          ...options,
          storagePath,
        },
        {
          identity,
          handlers: { ...noHandlers, ...handlers },
          clock: systemClock,
          random: seededRandom(nodes.length + 1),
          log: () => {},
          onFailure: (_name, error) => failures.push(error),
        },
      )
      nodes.push(node)
      made(node)
      await node.start()
      return node
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(nodes.map((node) => node.stop()))
      await Promise.all(directories.map((path) => rm(path, { recursive: true, force: true })))
    },
  }
}

/** The first address of a node. */
export function addressOf(node: MeshNode): string {
  const [address] = node.addresses()
  if (address === undefined) throw new Error('the node does not listen')
  return address
}

/** Resolves as soon as `condition` holds. @throws Error naming `what` when it does not within `timeoutMs` */
export async function until(what: string, condition: () => boolean, timeoutMs = 10_000): Promise<void> {
  const start = systemClock.now()
  while (!condition()) {
    if (systemClock.now() - start > timeoutMs) throw new Error(`waited ${timeoutMs} ms in vain: ${what}`)
    await new Promise<void>((resolve) => systemClock.after(10, resolve))
  }
}
