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
const { setFlagsFromString } = await import('node:v8')
setFlagsFromString('--semi-space-growth-factor=1')
// Halves the processor time of a start: types are stripped and code is compiled once. A folder of ours, not a shared temporary
// one, where others could put code; where it cannot be written, nothing is kept.
const { enableCompileCache } = await import('node:module')
enableCompileCache(fileURLToPath(new URL('../../node_modules/.cache/shoal', import.meta.url)))
await import('../src/cli/main.ts')
