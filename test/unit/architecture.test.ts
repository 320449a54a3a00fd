// The rules of the house hold in this repository, and each of them is seen to fail where it is broken.
import assert from 'node:assert/strict'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { checkArchitecture, MAX_LINES, type Rule } from '../support/architecture.ts'
import { bareCode, importsIn } from '../support/source-text.ts'
import { tempFolder } from '../support/temp-folder.ts'

const ROOT = join(import.meta.dirname, '../..')

/** A small tree in which nothing is wrong. */
const SOUND: Readonly<Record<string, string>> = {
  'protocol/ids.ts': "// Ids.\nimport { z } from 'zod'\nexport const id = z.string()\n",
  'protocol/time.ts':
    '// Time.\nexport const now = () => performance.now() + Date.now() * 0 + Math.random()\n',
  'agent/src/plan/pick.ts':
    "// PURE. Picks.\nimport { id } from '@shoal/protocol/ids.ts'\nexport const pick = id\n",
  'agent/src/net/mesh.ts': '// Port.\nexport interface Mesh {\n  readonly self: string\n}\n',
  'agent/src/net/node.ts':
    "// Adapter.\nimport { createLibp2p } from 'libp2p'\nimport type { Mesh } from './mesh.ts'\nexport const createMesh = (): Mesh => ({ self: String(createLibp2p) })\n",
  'agent/src/store/disk.ts':
    "// Adapter.\nimport { open } from 'node:fs/promises'\nexport const createStore = open\n",
  'agent/src/downloader.ts':
    "// Domain.\nimport type { Mesh } from './net/mesh.ts'\nimport { pick } from './plan/pick.ts'\nexport const load = (mesh: Mesh) => [mesh, pick]\n",
  'agent/src/agent.ts':
    "// Root.\nimport { load } from './downloader.ts'\nimport { createMesh } from './net/node.ts'\nimport { createStore } from './store/disk.ts'\nexport const agent = [load, createMesh, createStore]\n",
  'agent/src/main.ts': "// Edge.\nimport { agent } from './agent.ts'\nprocess.exitCode = agent.length\n",
  'coordinator/src/rules/quota.ts': '// PURE. Quotas.\nexport const quota = 1\n',
  'coordinator/src/coordinator.ts':
    "// Root.\nimport { quota } from './rules/quota.ts'\nexport const coordinator = quota\n",
  'test/unit/some.test.ts':
    "// A test.\nimport { agent } from '@shoal/agent/agent.ts'\nsetTimeout(() => agent, 1)\n",
}

async function treeOf(context: TestContext, files: Readonly<Record<string, string>>): Promise<string> {
  const root = await tempFolder(context)
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), text)
  }
  return root
}

test('this repository keeps the rules of the house', async () => {
  const found = await checkArchitecture(ROOT)
  assert.deepEqual(
    found.map(({ rule, file, line, detail }) => `${rule}: ${file}:${line} ${detail}`),
    [],
  )
})

test('a sound tree has nothing to report', async (context) => {
  assert.deepEqual(await checkArchitecture(await treeOf(context, SOUND)), [])
})

interface Fault {
  readonly id: string
  readonly rule: Rule
  readonly file: string
  readonly text: string
  /** Written too: without it the fault would be another one. */
  readonly also?: Readonly<Record<string, string>>
}

const FAULTS: readonly Fault[] = [
  {
    id: 'protocol imports the agent',
    rule: 'import-direction',
    file: 'protocol/ids.ts',
    text: "// Ids.\nimport * as mesh from '@shoal/agent/net/mesh.ts'\nexport const id = mesh\n",
  },
  {
    id: 'protocol imports the agent by a path, for a type',
    rule: 'import-direction',
    file: 'protocol/ids.ts',
    text: "// Ids.\nimport type { Mesh } from '../agent/src/net/mesh.ts'\nexport type Id = Mesh\n",
  },
  {
    id: 'the agent imports the coordinator',
    rule: 'import-direction',
    file: 'agent/src/downloader.ts',
    text: "// Domain.\nexport { coordinator as load } from '@shoal/coordinator/coordinator.ts'\n",
  },
  {
    id: 'the coordinator imports the agent',
    rule: 'import-direction',
    file: 'coordinator/src/coordinator.ts',
    text: "// Root.\nexport const coordinator = import('@shoal/agent/agent.ts')\n",
  },
  {
    id: 'the product imports a test',
    rule: 'import-direction',
    file: 'agent/src/downloader.ts',
    text: "// Domain.\nimport '../../test/support/some.ts'\nexport const load = 1\n",
    also: { 'test/support/some.ts': '// Support.\n' },
  },
  {
    id: 'a plan imports a file of its agent',
    rule: 'pure',
    file: 'agent/src/plan/pick.ts',
    text: "// PURE.\nimport type { Mesh } from '../net/mesh.ts'\nexport const pick = (mesh: Mesh) => mesh\n",
  },
  {
    id: 'a plan imports a module of Node',
    rule: 'pure',
    file: 'agent/src/plan/pick.ts',
    text: "// PURE.\nimport { readFile } from 'node:fs/promises'\nexport const pick = readFile\n",
  },
  {
    id: 'a rule imports a package',
    rule: 'pure',
    file: 'coordinator/src/rules/quota.ts',
    text: "// PURE.\nimport { z } from 'zod'\nexport const quota = z\n",
  },
  {
    id: 'a domain file makes an adapter',
    rule: 'concrete-adapter',
    file: 'agent/src/downloader.ts',
    text: "// Domain.\nimport { createMesh as make } from './net/node.ts'\nexport const load = make\n",
  },
  {
    id: 'an adapter makes another',
    rule: 'concrete-adapter',
    file: 'agent/src/store/disk.ts',
    text: "// Adapter.\nimport { createMesh } from '../net/node.ts'\nexport const createStore = createMesh\n",
  },
  {
    id: 'libp2p outside the net folder',
    rule: 'library-place',
    file: 'agent/src/downloader.ts',
    text: "// Domain.\nimport type { Stream } from '@libp2p/interface'\nexport const load = (stream: Stream) => stream\n",
  },
  {
    id: 'a part of a package in the wrong place',
    rule: 'library-place',
    file: 'agent/src/downloader.ts',
    text: "// Domain.\nimport { HTTPException } from 'hono/http-exception'\nexport const load = HTTPException\n",
  },
  {
    id: 'a package without a place',
    rule: 'library-place',
    file: 'agent/src/downloader.ts',
    text: "// Domain.\nimport { chunk } from 'lodash'\nexport const load = chunk\n",
  },
  {
    id: 'two files import each other',
    rule: 'cycle',
    file: 'agent/src/net/node.ts',
    text: "// Adapter.\nimport { one } from './ring.ts'\nexport const createMesh = () => one\n",
    also: {
      'agent/src/net/ring.ts':
        "// Ring.\nimport { createMesh } from './node.ts'\nexport const one = createMesh\n",
    },
  },
  {
    id: 'the wall clock',
    rule: 'banned-global',
    file: 'agent/src/downloader.ts',
    text: '// Domain.\nexport const load = Date.now\n',
  },
  {
    id: 'a date made of now',
    rule: 'banned-global',
    file: 'agent/src/downloader.ts',
    text: '// Domain.\nexport const load = new Date()\n',
  },
  {
    id: 'chance',
    rule: 'banned-global',
    file: 'agent/src/plan/pick.ts',
    text: '// PURE.\nexport const pick = Math.random()\n',
  },
  {
    id: 'a timer',
    rule: 'banned-global',
    file: 'agent/src/downloader.ts',
    text: '// Domain.\nexport const load = () => setTimeout(() => {}, 1)\n',
  },
  {
    id: 'an interval',
    rule: 'banned-global',
    file: 'coordinator/src/coordinator.ts',
    text: '// Root.\nexport const coordinator = setInterval\n',
  },
  {
    id: 'setImmediate',
    rule: 'banned-global',
    file: 'agent/src/downloader.ts',
    text: '// Domain.\nexport const load = setImmediate\n',
  },
  {
    id: 'the process',
    rule: 'banned-global',
    file: 'agent/src/downloader.ts',
    text: '// Domain.\nexport const load = process.env.HOME\n',
  },
  {
    id: 'fetch',
    rule: 'banned-global',
    file: 'agent/src/downloader.ts',
    text: "// Domain.\nexport const load = () => fetch('http://x')\n",
  },
  {
    id: 'a long file',
    rule: 'file-length',
    file: 'agent/src/downloader.ts',
    text: `// Domain.\n${'export {}\n'.repeat(MAX_LINES)}`,
  },
  {
    id: 'a long test',
    rule: 'file-length',
    file: 'test/unit/some.test.ts',
    text: `// A test.\n${'export {}\n'.repeat(MAX_LINES)}`,
  },
  ...['utils/x', 'helpers', 'common/x', 'managers/x', 'types', 'net/index', 'net/helper'].map(
    (name): Fault => ({
      id: `a name like ${name}`,
      rule: 'banned-name',
      file: name.endsWith('/x') ? `agent/src/${name.slice(0, -2)}` : `agent/src/${name}.ts`,
      text: '',
      also: { [`agent/src/${name}.ts`]: '// Named badly.\nexport const x = 1\n' },
    }),
  ),
  {
    id: 'a default export',
    rule: 'default-export',
    file: 'agent/src/downloader.ts',
    text: '// Domain.\nexport default 1\n',
  },
  {
    id: 'a default export in disguise',
    rule: 'default-export',
    file: 'agent/src/downloader.ts',
    text: '// Domain.\nconst load = 1\nexport { load as default }\n',
  },
  {
    id: 'no opening comment',
    rule: 'opening-comment',
    file: 'agent/src/downloader.ts',
    text: 'export const load = 1\n',
  },
  {
    id: 'any',
    rule: 'any',
    file: 'agent/src/downloader.ts',
    text: '// Domain.\nexport const load = (x: any) => x\n',
  },
  {
    id: 'any in a type argument',
    rule: 'any',
    file: 'agent/src/downloader.ts',
    text: '// Domain.\nexport const load = new Map<string, any>()\n',
  },
  {
    id: 'a non-null assertion',
    rule: 'non-null',
    file: 'agent/src/downloader.ts',
    text: '// Domain.\nexport const load = (x?: string[]) => x![0]\n',
  },
]

for (const { id, rule, file, text, also } of FAULTS) {
  test(`a planted fault is reported by its rule and file: ${rule}, ${id}`, async (context) => {
    const planted = text === '' ? {} : { [file]: text }
    const found = await checkArchitecture(await treeOf(context, { ...SOUND, ...planted, ...also }))
    assert.deepEqual(
      found.map((one) => [one.rule, one.rule === 'cycle' ? '(either)' : one.file]),
      [[rule, rule === 'cycle' ? '(either)' : file]],
      found.map(({ detail }) => detail).join('; '),
    )
  })
}

test('every rule has a fault that shows it', () => {
  const rules: Record<Rule, true> = {
    'import-direction': true,
    pure: true,
    'concrete-adapter': true,
    'library-place': true,
    cycle: true,
    'banned-global': true,
    'file-length': true,
    'banned-name': true,
    'default-export': true,
    'opening-comment': true,
    any: true,
    'non-null': true,
  }
  assert.deepEqual(new Set(FAULTS.map(({ rule }) => rule)), new Set(Object.keys(rules)))
})

test('types may go in circles, and words in comments, strings and expressions break no rule', async (context) => {
  const root = await treeOf(context, {
    ...SOUND,
    'agent/src/net/mesh.ts':
      "// Port.\nimport type { createMesh } from './node.ts'\nexport interface Mesh {\n  readonly self: string\n  readonly make?: typeof createMesh\n}\n",
    'agent/src/downloader.ts': await fixture('words.txt'),
  })
  assert.deepEqual(await checkArchitecture(root), [])
})

test('imports are found however they are written', () => {
  const text = [
    "import a, { b as c, type D } from 'one'",
    "import type { E } from 'two'",
    "import { type F, type G } from 'three'",
    "import * as all from 'four'",
    "import 'five'",
    'import {\n  long,\n  list,\n} from "six"',
    "export { h } from 'seven'",
    "export * from 'eight'",
    "const later = await import('nine')",
    "// import { no } from 'comment'",
    "const text = `import { no } from 'template'`",
    'const from = 1',
    "export const plain = 'ten'",
    "import type from 'eleven'",
  ].join('\n')
  assert.deepEqual(
    importsIn(text).map(({ specifier, names, typeOnly, line }) => [specifier, names.join(), typeOnly, line]),
    [
      ['one', 'b,D', false, 1],
      ['two', 'E', true, 2],
      ['three', 'F,G', true, 3],
      ['four', '*', false, 4],
      ['five', '', false, 5],
      ['six', 'long,list', false, 9],
      ['seven', 'h', false, 10],
      ['eight', '*', false, 11],
      ['nine', '', false, 12],
      ['eleven', '', false, 17],
    ],
  )
})

test('blanking keeps every character in its place, and code inside templates', async () => {
  const text = await fixture('blanking.txt')
  assert.equal(bareCode(text), await fixture('blanked.txt'))
  assert.equal(bareCode(text).length, text.length)
})

function fixture(name: string): Promise<string> {
  return readFile(join(import.meta.dirname, '../fixtures/architecture', name), 'utf8')
}
