// Who may import whom, and the other rules of the house that a machine can check. Given the root of a tree it lists what is
// wrong in it; the test runs it over this repository and over small trees with one planted fault each.
import { readdir, readFile } from 'node:fs/promises'
import { builtinModules } from 'node:module'
import { basename, dirname, join, posix, relative, sep } from 'node:path'
import { bareCode, type ImportFound, importsIn } from './source-text.ts'

export type Rule =
  | 'import-direction'
  | 'pure'
  | 'concrete-adapter'
  | 'library-place'
  | 'cycle'
  | 'banned-global'
  | 'file-length'
  | 'banned-name'
  | 'default-export'
  | 'opening-comment'
  | 'any'
  | 'non-null'

export interface Violation {
  readonly rule: Rule
  /** Relative to the root, with `/`. */
  readonly file: string
  readonly line: number
  readonly detail: string
}

const FOLDERS = ['protocol', 'agent', 'coordinator', 'demo', 'scripts', 'test']
const NOT_SOURCE = new Set(['node_modules', 'fixtures', 'dist', 'models'])
export const MAX_LINES = 400
const BANNED_NAMES = /^(?:utils?|commons?|helpers?|managers?|types?|misc|shared|index)$/i

/** Each library has one place. A package that is not listed has none: a new one needs a decision record first. */
const LIBRARY_PLACES: readonly (readonly [library: RegExp, place: RegExp])[] = [
  [/^(?:libp2p|@libp2p\/.+|@multiformats\/.+|@chainsafe\/.+)$/, /^agent\/src\/net\//],
  [/^(?:classic-level|abstract-level)$/, /^(?:agent\/src\/store\/index-db|coordinator\/src\/db\/level)\.ts$/],
  [/^pg$/, /^coordinator\/src\/db\/postgres\.ts$/],
  [/^(?:hono|@hono\/.+)$/, /^(?:agent|coordinator)\/src\/http\//],
  [/^(?:@napi-rs\/blake-hash|hash-wasm)$/, /^agent\/src\/hashing\.ts$/],
  [/^(?:undici|cockatiel)$/, /^agent\/src\/sources\//],
  [/^(?:commander|cli-progress)$/, /^(?:agent|coordinator)\/src\/cli\//],
  [/^prom-client$/, /^(?:agent|coordinator)\/src\/metrics\.ts$/],
  [/^pino(?:-.+)?$/, /^(?:agent\/src\/logging|coordinator\/src\/(?:logging|main))\.ts$/],
  [/^cborg$/, /^protocol\//],
  [/^zod$/, /^(?:protocol|agent|coordinator)\//],
]

/** Folders whose modules touch the world, and the files that alone may put them together. */
const ADAPTERS = /^(?:agent|coordinator)\/src\/(?:net|store|sources|http|db)\//
const ROOTS = /^(?:agent\/src\/(?:agent|main)|coordinator\/src\/(?:coordinator|main))\.ts$/
/** Adapters that do not follow the `create…` of the others. */
const NAMED_ADAPTERS = new Set(['peerSource'])
const PURE = /^(?:agent\/src\/plan|coordinator\/src\/rules)\//
const PRODUCT = /^(?:protocol|agent|coordinator)\//

const TIME = /^protocol\/time\.ts$/
const EDGE = /^(?:agent|coordinator)\/(?:src\/main\.ts$|src\/cli\/|bin\/)|-worker\.ts$/
const GLOBALS: readonly (readonly [name: string, use: RegExp, allowed: RegExp])[] = [
  ['Date.now', /(?<![\w$.])Date\s*\.\s*now\b/g, TIME],
  ['new Date()', /(?<![\w$.])new\s+Date\s*\(\s*\)/g, TIME],
  ['performance.now', /(?<![\w$.])performance\s*\.\s*now\b/g, TIME],
  ['Math.random', /(?<![\w$.])Math\s*\.\s*random\b/g, TIME],
  ['setTimeout', /(?<![\w$.#])setTimeout\b/g, TIME],
  ['setInterval', /(?<![\w$.#])setInterval\b/g, TIME],
  // Worker threads let their own messages in with it.
  ['setImmediate', /(?<![\w$.#])setImmediate\b/g, /^protocol\/time\.ts$|-worker\.ts$/],
  ['process', /(?<![\w$.#'"-])process\b(?!\s*[:(?])/g, EDGE],
  [
    'fetch',
    /(?<=(?:\b(?:await|return|void|yield)\s|=>|[=(,?:&|[]|\.\.\.)\s*|\bglobalThis\s*\.\s*)fetch\s*\(/g,
    /^agent\/src\/sources\/|^(?:agent|coordinator)\/src\/cli\//,
  ],
]

interface SourceFile {
  readonly path: string
  readonly text: string
  readonly bare: string
  readonly imports: readonly (ImportFound & { readonly target: string | undefined })[]
}

/** Everything in the tree below `root` that breaks a rule, by file and line. */
export async function checkArchitecture(root: string): Promise<Violation[]> {
  const found: Violation[] = []
  const paths = await sourcesBelow(root, found)
  const files = new Map<string, SourceFile>()
  for (const path of paths)
    files.set(path, readSource(path, await readFile(join(root, path), 'utf8'), new Set(paths)))
  for (const file of files.values()) {
    found.push(...shapeOf(file))
    for (const one of file.imports) found.push(...importFaults(file.path, one))
    if (PRODUCT.test(file.path)) found.push(...globalFaults(file))
  }
  found.push(...cycles(files))
  return found.toSorted(
    (a, b) => a.file.localeCompare(b.file) || a.line - b.line || a.rule.localeCompare(b.rule),
  )
}

async function sourcesBelow(root: string, found: Violation[]): Promise<string[]> {
  const paths: string[] = []
  for (const folder of FOLDERS) {
    const entries = await readdir(join(root, folder), { recursive: true, withFileTypes: true }).catch(
      () => [],
    )
    for (const entry of entries) {
      const path = relative(root, join(entry.parentPath, entry.name)).split(sep).join('/')
      if (path.split('/').some((part) => NOT_SOURCE.has(part))) continue
      const name = entry.isDirectory() ? entry.name : (entry.name.split('.')[0] ?? '')
      const isSource = /\.(?:ts|mts|js|mjs|cjs)$/.test(entry.name) && entry.isFile()
      if ((entry.isDirectory() || isSource) && BANNED_NAMES.test(name))
        found.push({
          rule: 'banned-name',
          file: path,
          line: 1,
          detail: `"${name}" says nothing about what is in it`,
        })
      if (isSource) paths.push(path)
    }
  }
  return paths.toSorted()
}

function readSource(path: string, text: string, known: ReadonlySet<string>): SourceFile {
  const bare = bareCode(text)
  const imports = importsIn(text, bare).map((one) => ({
    ...one,
    target: targetOf(path, one.specifier, known),
  }))
  return { path, text, bare, imports }
}

/** The file of the tree that an import names; undefined for packages, built-in modules and what is no source. */
function targetOf(from: string, specifier: string, known: ReadonlySet<string>): string | undefined {
  const workspace = /^@shoal\/(protocol|agent|coordinator|test)\/(.+)$/.exec(specifier)
  const [, name = '', rest = ''] = workspace ?? []
  const inside = name === 'agent' || name === 'coordinator' ? `${name}/src/${rest}` : `${name}/${rest}`
  const path = workspace !== null ? inside : posix.normalize(posix.join(dirname(from), specifier))
  if (workspace === null && !specifier.startsWith('.')) return undefined
  return known.has(path) || path.endsWith('.ts') ? path : undefined
}

function shapeOf({ path, text, bare }: SourceFile): Violation[] {
  const found: Violation[] = []
  const add = (rule: Rule, at: number, detail: string) =>
    found.push({ rule, file: path, line: text.slice(0, at).split('\n').length, detail })
  const lines = text.trimEnd().split('\n').length
  if (lines > MAX_LINES) add('file-length', 0, `${lines} lines, at most ${MAX_LINES}`)
  if (!path.endsWith('.test.ts') && !/^(?:#!.*\n)?\s*\/[/*]/.test(text))
    add('opening-comment', 0, 'does not open with what it owns')
  for (const { index } of bare.matchAll(/\bexport\s+default\b|\bas\s+default\b/g))
    add('default-export', index, 'names are exported, not defaults')
  if (!/\.m?ts$/.test(path)) return found
  for (const { index } of bare.matchAll(/(?:[:<,|&=]\s*|\bas\s+|\bextends\s+)any\b(?!\s*[:(])/g))
    add('any', index, 'any switches the checker off')
  for (const { index } of bare.matchAll(/[\w$)\]]!(?![=\w])/g))
    add('non-null', index, '! claims what was not checked')
  return found
}

function importFaults(path: string, one: SourceFile['imports'][number]): Violation[] {
  const found: Violation[] = []
  const { specifier, target, line } = one
  const add = (rule: Rule, detail: string) => found.push({ rule, file: path, line, detail })
  const area = areaOf(path)
  if (PRODUCT.test(path) && target !== undefined) {
    const other = areaOf(target)
    const allowed = other === area || (other === 'protocol' && area !== 'protocol')
    if (!allowed) add('import-direction', `${area} must not import ${target}`)
  }
  if (PURE.test(path) && !(target !== undefined && (areaOf(target) === 'protocol' || samePure(path, target))))
    add('pure', `plans and rules import protocol only, not ${specifier}`)
  if (target !== undefined && PRODUCT.test(path)) {
    const outside = ADAPTERS.test(target) && dirname(path) !== dirname(target) && !ROOTS.test(path)
    const made = one.names.filter((name) => /^create[A-Z]/.test(name) || NAMED_ADAPTERS.has(name))
    if (outside && !one.typeOnly && made.length > 0)
      add(
        'concrete-adapter',
        `only agent.ts, coordinator.ts and main.ts know ${made.join(', ')} of ${target}`,
      )
  }
  if (target === undefined && PRODUCT.test(path) && !specifier.startsWith('.') && !isBuiltin(specifier)) {
    const name = specifier.startsWith('@')
      ? specifier.split('/').slice(0, 2).join('/')
      : (specifier.split('/')[0] ?? '')
    const place = LIBRARY_PLACES.find(([library]) => library.test(name))
    if (place === undefined) add('library-place', `${name} has no place: it needs a decision first`)
    else if (!place[1].test(path)) add('library-place', `${name} belongs to ${place[1].source}`)
  }
  return found
}

function samePure(path: string, target: string): boolean {
  return PURE.exec(path)?.[0] === PURE.exec(target)?.[0]
}

function areaOf(path: string): string {
  return path.split('/')[0] ?? ''
}

function isBuiltin(specifier: string): boolean {
  return specifier.startsWith('node:') || builtinModules.includes(specifier)
}

function globalFaults({ path, text, bare }: SourceFile): Violation[] {
  const found: Violation[] = []
  for (const [name, use, allowed] of GLOBALS) {
    if (allowed.test(path)) continue
    for (const { index } of bare.matchAll(use)) {
      const line = text.slice(0, index).split('\n').length
      found.push({
        rule: 'banned-global',
        file: path,
        line,
        detail: `${name} is not used here: take what you need as a value`,
      })
    }
  }
  return found
}

/** Files that import each other in a ring, types left out: they are gone before the program runs. */
function cycles(files: ReadonlyMap<string, SourceFile>): Violation[] {
  const found: Violation[] = []
  const state = new Map<string, 'open' | 'done'>()
  const visit = (path: string, trail: readonly string[]) => {
    state.set(path, 'open')
    for (const { target, typeOnly, line } of files.get(path)?.imports ?? []) {
      if (target === undefined || typeOnly) continue
      if (state.get(target) === 'open') {
        const ring = [...trail.slice(trail.indexOf(target)), target].map((one) => basename(one))
        found.push({ rule: 'cycle', file: path, line, detail: ring.join(' -> ') })
      } else if (state.get(target) === undefined && files.has(target)) visit(target, [...trail, target])
    }
    state.set(path, 'done')
  }
  for (const path of files.keys()) if (state.get(path) === undefined) visit(path, [path])
  return found
}
