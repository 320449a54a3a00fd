// Documents say what the code says: generated pages are fresh, links lead somewhere, commands exist.
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { dirname, join, normalize } from 'node:path'
import { test } from 'node:test'
import { allCommandHelp, flagsIn, PROGRAMS } from '../../scripts/command-help.ts'
import { generatedPages } from '../../scripts/generated-pages.ts'
import { anchorsIn, commandsIn, type Document, markdownBelow, relativeLinks } from '../support/markdown.ts'

const ROOT = join(import.meta.dirname, '../..')
const documents = await markdownBelow(ROOT)
const flagsOf = new Map(
  (await allCommandHelp()).map(({ program, path, help }) => [[program, ...path].join(' '), flagsIn(help)]),
)

test('documents made from the code are as the code would make them', async () => {
  for (const [path, content] of await generatedPages()) {
    const written = await readFile(join(ROOT, path), 'utf8')
    assert.ok(written === content, `${path} is stale: run npm run docs`)
  }
})

test('every relative link leads to a file, and its fragment to a heading', () => {
  assert.deepEqual(
    documents.flatMap((document) => brokenLinks(document, ROOT)),
    [],
  )
})

test('every command and flag in a fenced block of a document exists', () => {
  const called = documents.flatMap((document) => commandsIn(document, PROGRAMS))
  assert.ok(called.length > 10, `only ${called.length} commands were found`)
  assert.deepEqual(documents.flatMap(wrongCommands), [])
})

test('every bound in docs/limits.md names constants and a test that are there', async () => {
  const wrong: string[] = []
  for (const [, , constants = '', named = ''] of tableRows(textOf('docs/limits.md'))) {
    const files = inCode(constants).filter((word) => word.endsWith('.ts'))
    const sources = await Promise.all(files.map((file) => sourceAt(file)))
    if (sources.includes(undefined)) wrong.push(`no such file: ${constants}`)
    for (const name of inCode(constants).filter((word) => /^[A-Z][A-Z_]+$/.test(word)))
      if (!sources.some((source) => source?.includes(name))) wrong.push(`no ${name} in ${constants}`)
    for (const name of inCode(named)) if (!isTest(name)) wrong.push(`no test ${name}`)
  }
  assert.deepEqual(wrong, [])
})

test('every test title quoted in docs/threat-model.md begins a test of the file named with it', async () => {
  const wrong: string[] = []
  const text = textOf('docs/threat-model.md')
  let quoted = 0
  for (const [, file = '', titles = ''] of text.matchAll(
    /(?:canary )?`([a-z][a-z-]*)`[^`|"]*?:? ((?:(?:, )?"[^"|]+")+)/g,
  )) {
    const source = await testSource(file)
    for (const [, title = ''] of titles.matchAll(/"([^"]+)"/g)) {
      quoted++
      const [start = ''] = title.split(' …')
      if (!source.includes(start)) wrong.push(`${file}: ${title}`)
    }
  }
  assert.ok(quoted > 20, `only ${quoted} titles were found`)
  assert.deepEqual(wrong, [])
})

test('every log message in docs/operations.md is one that the agent writes', async () => {
  const source = (await readBelow(join(ROOT, 'agent/src'))).join('\n')
  const section = /^## Logs$([\s\S]*?)^## /m.exec(textOf('docs/operations.md'))?.[1] ?? ''
  const messages = tableRows(section).flatMap(([message = '']) => inCode(message))
  assert.ok(messages.length > 10, `only ${messages.length} messages were found`)
  const unknown = messages.filter((message) => message !== 'msg' && !source.includes(message))
  assert.deepEqual(unknown, [])
})

test('a link to nothing, to a heading that is not there, and out of the repository is found', () => {
  const text =
    '[a](docs/none.md) [b](CHANGELOG.md#none) [c](../../etc/passwd) [d](https://example.org/x) `[e](x)`\n'
  assert.deepEqual(brokenLinks({ path: 'README.md', text }, ROOT), [
    'README.md: docs/none.md',
    'README.md: CHANGELOG.md#none',
    'README.md: ../../etc/passwd',
  ])
})

test('an invented command, subcommand or flag is found, in a pipe and after npx too', () => {
  const text = [
    '```sh',
    'npx --no-install shoal pull org/name --fast | cat',
    'second$  shoal fly',
    'eval "$(shoal env --json)" # shoal sing',
    'shoal config paint shoal.json',
    'shoal-coordinator serve --insecure --turbo',
    '```',
    '```json',
    'shoal dance',
    '```',
  ].join('\n')
  assert.deepEqual(wrongCommands({ path: 'x.md', text }), [
    'x.md: shoal pull has no --fast',
    'x.md: shoal has no command fly',
    'x.md: shoal config has no command paint',
    'x.md: shoal-coordinator serve has no --turbo',
  ])
})

function brokenLinks(document: Document, root: string): string[] {
  return relativeLinks(document).flatMap((target) => {
    const [file = '', fragment] = target.split('#')
    const path =
      file === '' ? document.path : normalize(join(dirname(document.path), decodeURIComponent(file)))
    const found = documents.find((other) => other.path === path)
    const there = !path.startsWith('..') && existsSync(join(root, path))
    const headed = fragment === undefined || found === undefined || anchorsIn(found).has(fragment)
    return there && headed ? [] : [`${document.path}: ${target}`]
  })
}

function wrongCommands(document: Document): string[] {
  return commandsIn(document, PROGRAMS).flatMap(({ program, words }) => {
    let name = program
    for (const word of words) {
      if (!flagsOf.has(`${name} ${word}`)) break
      name = `${name} ${word}`
    }
    const next = words[name.split(' ').length - 1]
    const parent = [...flagsOf.keys()].some((other) => other.startsWith(`${name} `))
    if (parent && next !== undefined && !next.startsWith('-'))
      return [`${document.path}: ${name} has no command ${next}`]
    const flags = words.flatMap((word) => /^--?[A-Za-z][\w-]*/.exec(word)?.[0] ?? [])
    return flags
      .filter((flag) => flagsOf.get(name)?.has(flag) !== true)
      .map((flag) => `${document.path}: ${name} has no ${flag}`)
  })
}

function textOf(path: string): string {
  const found = documents.find((document) => document.path === path)
  assert.ok(found !== undefined, `there is no ${path}`)
  return found.text
}

/** Cells of every table row but heads and rules. */
function tableRows(text: string): string[][] {
  return text
    .split('\n')
    .filter(
      (line, at, lines) =>
        line.startsWith('|') && !/^\| ?-/.test(line) && !/^\| ?-/.test(lines[at + 1] ?? ''),
    )
    .map((line) =>
      line
        .split(/(?<!\\)\|/)
        .slice(1, -1)
        .map((cell) => cell.trim()),
    )
}

function inCode(text: string): string[] {
  return [...text.matchAll(/`([^`]+)`/g)].map(([, word = '']) => word)
}

async function sourceAt(file: string): Promise<string | undefined> {
  const path = file.startsWith('protocol/') ? file : `agent/src/${file}`
  return readFile(join(ROOT, path), 'utf8').catch(() => undefined)
}

function isTest(name: string): boolean {
  return existsSync(join(ROOT, 'test', `${name}.test.ts`))
}

async function testSource(name: string): Promise<string> {
  const files = await Promise.all(
    ['unit', 'contract', 'integration', 'canary', 'e2e'].flatMap((folder) =>
      [`${name}.test.ts`, `${name}.contract.ts`].map((file) =>
        readFile(join(ROOT, 'test', folder, file), 'utf8').catch(() => ''),
      ),
    ),
  )
  // A title may hold a quote that the source escapes.
  return files.join('\n').replaceAll('\\u2019', '\u2019')
}

async function readBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
  return Promise.all(files.map((entry) => readFile(join(entry.parentPath, entry.name), 'utf8')))
}
