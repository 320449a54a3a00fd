// Makes a bare clone ready: installs what package-lock.json says, once. Plain JavaScript, because the first run may happen
// on Node 20, before the pinned Node.js exists. A stamp in node_modules holds the SHA-256 of the lock file that was
// installed, so a second run costs milliseconds. Says in one line what it does and never fails silently.
// With --clients it also installs test/clients: stock Hugging Face clients that only tests use, kept apart because
// they are large and are no dependency of the product. With --run FILE it then runs FILE on the pinned Node.js: a shell
// would not do, for it remembers where the first `node` was.
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const STAMP = join('node_modules', '.shoal-lock-sha256')

const [major] = process.versions.node.split('.').map(Number)
if (major < 20) fail(`Node.js 20 or newer is needed to set up, and this is ${process.versions.node}`)

const given = process.argv.slice(2)
const runAt = given.indexOf('--run')
const options = runAt === -1 ? given : given.slice(0, runAt)
const [program, ...programArguments] = runAt === -1 ? [] : given.slice(runAt + 1)
const unknown = options.filter((argument) => argument !== '--clients')
if (unknown.length > 0)
  fail(`unknown argument: ${unknown.join(' ')} (known: --clients, --run FILE [ARGUMENTS])`)
if (runAt !== -1 && program === undefined) fail('--run needs a file')

const folders = [{ name: 'workspace', path: root }]
if (options.includes('--clients')) folders.push({ name: 'test clients', path: join(root, 'test', 'clients') })

const results = folders.map(({ name, path }) => `${name} ${install(name, path)}`)
console.log(`setup: ${results.join(', ')}`)
if (program !== undefined) run(program, programArguments)

/** Installs one folder unless its stamp fits. Returns what was done, in words. */
function install(name, path) {
  const wanted = createHash('sha256')
    .update(readFileSync(join(path, 'package-lock.json')))
    .digest('hex')
  if (readStamp(path) === wanted) return 'is up to date'
  const startedAt = performance.now()
  console.log(`setup: installing the ${name} with npm ci (needs the package registry) …`)
  const { command, prefix } = npmCommand()
  const result = spawnSync(command, [...prefix, 'ci', '--prefer-offline', '--loglevel=error'], {
    cwd: path,
    env: npmEnvironment(),
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    shell: process.platform === 'win32' && prefix.length === 0,
  })
  if (result.error) fail(`npm could not be started: ${result.error.message}`)
  if (result.status !== 0) {
    process.stderr.write(result.stdout)
    process.stderr.write(result.stderr)
    fail(`npm ci failed in ${path} (${result.signal ?? `exit code ${result.status}`}); its output is above`)
  }
  writeFileSync(join(path, STAMP), `${wanted}\n`)
  return `installed in ${((performance.now() - startedAt) / 1000).toFixed(0)} s`
}

function readStamp(path) {
  try {
    return readFileSync(join(path, STAMP), 'utf8').trim()
  } catch {
    return undefined
  }
}

/** The npm that runs us, on the Node.js that runs it; else the one on the path. */
function npmCommand() {
  const { npm_execpath: script, npm_node_execpath: node } = process.env
  if (script?.endsWith('.js') && node !== undefined && !node.startsWith(root))
    return { command: node, prefix: [script] }
  return { command: 'npm', prefix: [] }
}

/** Runs a file on the pinned Node.js (or on ours, where no pinned one exists for the platform) and ends as it ends. */
function run(file, fileArguments) {
  const pinned = join(root, 'node_modules', '.bin', 'node')
  const child = spawn(existsSync(pinned) ? pinned : process.execPath, [file, ...fileArguments], {
    cwd: root,
    stdio: 'inherit',
  })
  // A terminal sends Ctrl-C to both of us; every other signal reaches only us and is passed on.
  process.on('SIGINT', () => process.stdin.isTTY || child.kill('SIGINT'))
  process.on('SIGTERM', () => child.kill('SIGTERM'))
  process.on('SIGHUP', () => child.kill('SIGHUP'))
  // npm passes a signal to its shell only, and the shell dies of it without telling us: we notice the new parent.
  const parent = process.ppid
  setInterval(() => process.ppid !== parent && child.kill('SIGTERM'), 250).unref()
  child.on('error', (error) => fail(`${file} could not be started: ${error.message}`))
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code)
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
  })
}

/** Without our own node_modules/.bin (npm ci replaces the Node.js in it) and without the outer npm's idea of a project. */
function npmEnvironment() {
  const environment = Object.fromEntries(
    Object.entries(process.env).filter(
      ([key]) => !/^npm_(package|lifecycle|command|config_local_prefix)/.test(key),
    ),
  )
  const path = environment.PATH ?? environment.Path ?? ''
  environment.PATH = path
    .split(delimiter)
    .filter((part) => !part.startsWith(root))
    .join(delimiter)
  return environment
}

function fail(message) {
  console.error(`setup failed: ${message}`)
  process.exit(1)
}
