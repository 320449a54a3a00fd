// What a host that gives peers nothing says to them: nothing that makes them count on it. It neither announces chunks nor takes a share of
// the origin's that others would wait for. What it hears is as it is.
import type { Mesh, MeshHandlers } from './net/mesh.ts'

/** @param isQuiet asked anew each time: limits change at run time */
export function quietMesh(mesh: Mesh, isQuiet: () => boolean): Mesh {
  return {
    name: mesh.name,
    self: mesh.self,
    start: () => mesh.start(),
    stop: () => mesh.stop(),
    addresses: () => mesh.addresses(),
    peers: () => mesh.peers(),
    isConnected: (peer) => mesh.isConnected(peer),
    listen: (listener) => mesh.listen(listener),
    fetchChunk: (peer, request, extra, options) => mesh.fetchChunk(peer, request, extra, options),
    askHave: (peer, ask, signal) => mesh.askHave(peer, isQuiet() ? { ...ask, want: false } : ask, signal),
    askManifest: (peer, ask, signal) => mesh.askManifest(peer, ask, signal),
    askTurn: (peer, ask, signal) => mesh.askTurn(peer, ask, signal),
    tell: async (peer, blobs, signal, line) => (isQuiet() ? false : mesh.tell(peer, blobs, signal, line)),
    announce: (blobs) =>
      mesh.announce(isQuiet() ? blobs.map((one) => ({ ...one, state: 'gone', gained: [] })) : blobs),
    hostsKnown: () => mesh.hostsKnown(),
    publishHealth: (health, lifetimeMs) => mesh.publishHealth(health, lifetimeMs),
    publishOrigin: (budgets) => mesh.publishOrigin(budgets),
    ban: (peer, durationMs, reason) => mesh.ban(peer, durationMs, reason),
    dial: (address, signal) => mesh.dial(address, signal),
  }
}

/** The same for what peers ask. Metadata is still answered: it costs next to nothing. */
export function quietHandlers(handlers: MeshHandlers, isQuiet: () => boolean): MeshHandlers {
  return {
    chunk: async (peer, request, signal, proves) =>
      isQuiet() ? { status: 'refused' } : handlers.chunk(peer, request, signal, proves),
    async have(peer, ask, signal) {
      // Asked all the same: it tells us that the peer fetches the blob too.
      const answer = await handlers.have(peer, ask, signal)
      return isQuiet() ? { state: 'none', wanting: false, claimed: [] } : answer
    },
    manifest: (peer, ask, signal) => handlers.manifest(peer, ask, signal),
    told: (peer, message) => handlers.told(peer, message),
  }
}
