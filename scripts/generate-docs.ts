// `npm run docs`: writes the documents that are made from the code. With --check it writes nothing, names those that are stale
// and ends with 1. The process edge; the pages are made in generated-pages.ts.
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { generatedPages } from './generated-pages.ts'

const root = join(import.meta.dirname, '..')
const words = process.argv.slice(2)
// Help is as wide as the terminal; documents are not.
process.stdout.isTTY = false
process.exitCode = await main()

async function main(): Promise<number> {
  const unknown = words.filter((word) => word !== '--check')
  if (unknown.length > 0) {
    console.error(`unknown argument: ${unknown.join(' ')} (known: --check)`)
    return 2
  }
  const stale: string[] = []
  for (const [path, content] of await generatedPages()) {
    const now = await readFile(join(root, path), 'utf8').catch(() => undefined)
    if (now === content) continue
    stale.push(path)
    if (!words.includes('--check')) await writeFile(join(root, path), content)
  }
  if (!words.includes('--check')) {
    console.log(stale.length === 0 ? 'all documents were fresh' : `wrote ${stale.join(', ')}`)
    return 0
  }
  for (const path of stale) console.error(`stale: ${path}; run npm run docs`)
  return stale.length === 0 ? 0 : 1
}
