// How fast the HTTP side hands a local file to one client over loopback: bytes of memory, in pieces of the size the reader of
// the store gives. Run it alone: node test/bench/http-local-file.ts [GiB]
import { spawn } from 'node:child_process'
import { parseArgs } from 'node:util'
import { startMemoryAgent } from '../support/memory-agent.ts'

const { positionals } = parseArgs({ allowPositionals: true })
const rounds = Math.max(1, Math.ceil(Number(positionals[0] ?? 2) * 4))
const cleanups: (() => unknown)[] = []
const agent = await startMemoryAgent(
  { after: (task) => cleanups.push(task as () => unknown) },
  { downloads: { pieceBytes: 1024 * 1024 } },
)
agent.catalog.add({
  spec: 'org/model',
  files: { f: { bytes: Buffer.alloc(256 * 1024 * 1024, 7), lfs: true } },
})
const url = `${agent.url}/org/model/resolve/main/f`

const requests = Array.from({ length: rounds }, () => ['-o', '/dev/null', url]).flat()
const child = spawn('curl', ['-s', '-w', '%{speed_download}\n', ...requests], {
  stdio: ['ignore', 'pipe', 'inherit'],
})
let text = ''
for await (const piece of child.stdout) text += String(piece)
const speeds = text
  .trim()
  .split('\n')
  .map((line) => Math.round(Number(line) / 1e6))
  .sort((one, other) => one - other)
console.log(`MB/s: ${speeds.join(' ')} (median ${speeds[Math.floor(speeds.length / 2)]})`)
for (const cleanup of cleanups) await cleanup()
