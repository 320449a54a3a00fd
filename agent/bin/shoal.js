#!/usr/bin/env node
// Refuses a Node.js that is too old in a sentence, before any TypeScript is loaded; then hands over to src/cli/main.ts.
import { fileURLToPath } from 'node:url'

const [major, minor] = process.versions.node.split('.').map(Number)
if (major < 22 || (major === 22 && minor < 18)) {
  console.error(
    `shoal needs Node.js 22.18 or newer, and this is ${process.versions.node}. In the repository run it as \`npx --no-install shoal\`: npx puts the Node.js that the project pins first.`,
  )
  process.exit(1)
}
// Chunks lie outside the JavaScript heap; letting its young part grow to 64 MB would only cost memory (110 MB of heap became 52).
// At 4 MB it is collected a fifth as often as at the 1 MB it starts with: grow it that far, then stop it.
const { getHeapSpaceStatistics, setFlagsFromString } = await import('node:v8')
const YOUNG_BYTES = 2 * 4 * 1024 * 1024
const youngBytes = () =>
  getHeapSpaceStatistics().find(({ space_name: name }) => name === 'new_space')?.space_size ?? YOUNG_BYTES
for (let kept = [], at = 0; youngBytes() < YOUNG_BYTES && at < 2000; at++) kept.push(new Array(1024).fill(at))
setFlagsFromString('--semi-space-growth-factor=1')
// Of itself each 32 MB of network buffers, though long dead, start a collection of the whole heap: every quarter of a second on a
// fast link. Counted as part of the heap's size they wait for its own limit. Older versions do not know the flag.
if (major >= 24) setFlagsFromString('--external-memory-accounted-in-global-limit')
// Halves the processor time of a start: types are stripped and code is compiled once. A folder of ours, not a shared temporary
// one, where others could put code; where it cannot be written, nothing is kept.
const { enableCompileCache } = await import('node:module')
enableCompileCache(fileURLToPath(new URL('../../node_modules/.cache/shoal', import.meta.url)))
await import('../src/cli/main.ts')
