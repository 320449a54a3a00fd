// Reads the repository's Markdown as a checker of documents sees it: files, links, headings, commands in fenced blocks. Judges
// nothing; the test that uses it does.
import { readdir, readFile } from 'node:fs/promises'
import { join, relative } from 'node:path'

export interface Document {
  /** Below the root that was read, with `/`. */
  readonly path: string
  readonly text: string
}

const LEFT_OUT = new Set(['node_modules', '.git', 'fixtures'])

/** Every Markdown file below `root`, in path order. */
export async function markdownBelow(root: string): Promise<readonly Document[]> {
  const found: Document[] = []
  const folders = [root]
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name)
      if (entry.isDirectory() && !LEFT_OUT.has(entry.name)) folders.push(path)
      else if (entry.isFile() && entry.name.endsWith('.md'))
        found.push({ path: relative(root, path).replaceAll('\\', '/'), text: await readFile(path, 'utf8') })
    }
  }
  return found.toSorted((a, b) => (a.path < b.path ? -1 : 1))
}

/** Targets of links and images that are neither absolute URLs nor in code. */
export function relativeLinks({ text }: Document): readonly string[] {
  const prose = withoutCode(text)
  const targets = [...prose.matchAll(/\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)/g)].map(
    ([, target = '']) => target,
  )
  const named = [...prose.matchAll(/^\[[^\]]+\]:\s*(\S+)/gm)].map(([, target = '']) => target)
  return [...targets, ...named].filter((target) => !/^(?:[a-z][a-z0-9+.-]*:|\/\/)/i.test(target))
}

/** Fragments that GitHub gives the headings of a document. */
export function anchorsIn({ text }: Document): ReadonlySet<string> {
  const seen = new Map<string, number>()
  const anchors = [...withoutFences(text).matchAll(/^#{1,6}\s+(.+?)\s*#*$/gm)].map(([, heading = '']) => {
    const slug = heading
      .toLowerCase()
      .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(/\s/g, '-')
    const count = seen.get(slug) ?? 0
    seen.set(slug, count + 1)
    return count === 0 ? slug : `${slug}-${count}`
  })
  return new Set(anchors)
}

export interface WrittenCommand {
  readonly program: string
  /** As they stand on the line, up to what ends a command in a shell. */
  readonly words: readonly string[]
}

/** Calls of `programs` in fenced blocks that a reader would type; blocks in other languages are passed over. */
export function commandsIn({ text }: Document, programs: readonly string[]): readonly WrittenCommand[] {
  const found: WrittenCommand[] = []
  const call = new RegExp(`(?<=^|[\\s(\`"])(${programs.join('|')})(?=\\s|$)([^|;&)"'\`#<>]*)`, 'g')
  for (const [, language = '', body = ''] of text.matchAll(/^```([\w-]*)[^\n]*\n([\s\S]*?)^```/gm)) {
    if (!['', 'sh', 'bash', 'console'].includes(language)) continue
    for (const line of body.replaceAll(/\\\n/g, ' ').split('\n')) {
      for (const [, program = '', rest = ''] of line.replace(/(?:^|\s)#.*$/, '').matchAll(call))
        found.push({
          program,
          words: rest
            .trim()
            .split(/\s+/)
            .filter((word) => word !== ''),
        })
    }
  }
  return found
}

function withoutFences(text: string): string {
  return text.replaceAll(/^```[\s\S]*?^```/gm, '')
}

function withoutCode(text: string): string {
  return withoutFences(text).replaceAll(/`[^`\n]*`/g, '')
}
