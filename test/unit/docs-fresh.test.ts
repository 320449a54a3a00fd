// Documents say what the code says: generated pages are fresh, links lead somewhere, commands exist.
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
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
