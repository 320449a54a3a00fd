#!/usr/bin/env node
// Refuses a Node.js that is too old in a sentence, before any TypeScript is loaded; then hands over to src/cli/main.ts.
const [major, minor] = process.versions.node.split('.').map(Number)
if (major < 22 || (major === 22 && minor < 18)) {
  console.error(
    `shoal-coordinator needs Node.js 22.18 or newer, and this is ${process.versions.node}. In the repository run it as \`npx --no-install shoal-coordinator\`: npx puts the Node.js that the project pins first.`,
  )
  process.exit(1)
}
await import('../src/cli/main.ts')
