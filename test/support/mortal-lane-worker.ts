// A lane that dies in the middle of its third fetch, when its workerData says `mortal`: what a fault in native code or memory would do
// to it. Otherwise the real one.
import { parentPort, workerData } from 'node:worker_threads'
import type { ToLane } from '@shoal/agent/net/lane-messages.ts'

const MORTAL_FETCH = 3
let fetches = 0
parentPort?.on('message', (message: ToLane) => {
  if (message.kind !== 'fetch' || workerData.turn !== 0) return
  fetches++
  if (fetches === MORTAL_FETCH) process.exit(3)
})
await import('@shoal/agent/net/lane-worker.ts')
