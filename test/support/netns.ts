// Hosts as network namespaces of this machine, joined by a bridge that has a namespace of its own; every link is shaped up and
// down by `tc tbf`. Starts no programs itself: it says how to start one inside a host. Linux and root only; says so loudly.
// Beside the shaped network each host has a control link to this process, so that asking a host something costs the
// measured links nothing and works while it is unplugged.
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { promisify } from 'node:util'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { atEnd } from './cleanups.ts'

const run = promisify(execFile)

/** Both networks lie in the range for benchmarks of networks (RFC 2544), so that they meet no real one. */
const DATA_NETWORK = '198.18.0'
const CONTROL_NETWORK = '198.19'
const CONTROL_SELF = 254
const PREFIX = 'shoal'
const BRIDGE = 'br0'
const BRIDGE_MAC = '02:00:00:00:00:01'
const LINK = 'eth0'
/** The most hosts of one network, the origin among them. */
const MAX_HOSTS = 64
/** Longest wait in the queue of a link. */
const QUEUE_MS = 50
/** Two packets as large as the kernel makes them: smaller ones tbf would have to cut, at the cost of processor time. */
const LEAST_BURST_BYTES = 128 * 1024

/** Megabits (1,000,000 bits) per second, counted as Ethernet frames. */
export interface LinkRate {
  readonly upMbit: number
  readonly downMbit: number
}

export interface Command {
  readonly command: string
  readonly args: readonly string[]
}

export interface NetHost {
  readonly name: string
  /** On the shaped network. */
  readonly address: string
  /** Reached from this process only, unshaped. */
  readonly controlAddress: string
  /** The command that runs another one inside this host, as the same process. */
  launch(command: string, args: readonly string[]): Command
}

export interface LinkBytes {
  /** As the bridge counted them, with frame headers (one for each packet that the kernel made, not for each frame). */
  readonly sentBytes: number
  readonly receivedBytes: number
}

export interface Netns extends AsyncDisposable {
  /** One more host, for the Hub. */
  readonly origin: NetHost
  readonly hosts: readonly NetHost[]
  /** Where hosts reach this process on the control links. */
  readonly controlAddress: string
  setRate(host: NetHost, rate: LinkRate): Promise<void>
  /** Pulls the cable: what is sent in either direction is lost, and nobody is told. */
  unplug(host: NetHost): Promise<void>
  plug(host: NetHost): Promise<void>
  /** Hosts of different groups lose all that they send each other. Who is in no group reaches everybody. */
  partition(...groups: readonly (readonly NetHost[])[]): Promise<void>
  heal(): Promise<void>
  bytes(host: NetHost): Promise<LinkBytes>
}

export interface NetnsOptions {
  readonly hosts: number
  readonly rate: LinkRate
  /** Default: that of the hosts. */
  readonly originRate?: LinkRate
}

let missing: Promise<string | undefined> | undefined

/** Why no namespaces can be made here, as a sentence; undefined when they can. Prints one line `SKIPPED: …` the first time. */
export function whyNoNetns(): Promise<string | undefined> {
  missing ??= findMissing().then((reason) => {
    if (reason !== undefined) console.log(`SKIPPED: no shaped network namespaces: ${reason}`)
    return reason
  })
  return missing
}

async function findMissing(): Promise<string | undefined> {
  if (process.platform !== 'linux') return `they need Linux, and this is ${process.platform}`
  if (process.getuid?.() !== 0) return 'only root can make them'
  const name = `${PREFIX}-${process.pid}-probe`
  try {
    await run('ip', ['netns', 'add', name])
    await run('ip', ['-n', name, 'link', 'add', 'probe', 'type', 'veth', 'peer', 'name', 'probed'])
    await run('ip', ['-n', name, 'link', 'add', BRIDGE, 'type', 'bridge'])
    await shape(name, 'probe', 10)
    await run('ip', ['netns', 'exec', name, process.execPath, '--version'])
    return undefined
  } catch (error) {
    return `${error instanceof Error ? error.message : error}`.replaceAll('\n', ' ')
  } finally {
    await run('ip', ['netns', 'delete', name]).catch(() => {})
  }
}

/** Where to leave what must be done when the test has ended: a test context is one. */
export interface Ending {
  after(end: () => Promise<void>): void
}

/** Makes a network that ends with the test, and with it all that still runs inside. @throws Error of the command that failed */
export async function startNetns(context: Ending, options: NetnsOptions): Promise<Netns> {
  if (options.hosts + 1 > MAX_HOSTS) throw new Error(`at most ${MAX_HOSTS - 1} hosts`)
  await removeStale()
  const network = new Namespaces(options)
  atEnd(context, () => network[Symbol.asyncDispose]())
  await network.start(options)
  return network
}

let networksMade = 0

interface HostPlace extends NetHost {
  readonly namespace: string
  /** Its end on the bridge. */
  readonly port: string
  readonly at: number
}

class Namespaces implements Netns {
  readonly origin: HostPlace
  readonly hosts: readonly HostPlace[]
  readonly #name = `${PREFIX}-${process.pid}-${++networksMade}`
  readonly #bridge = `${this.#name}-bridge`
  #slot = 0

  constructor({ hosts }: NetnsOptions) {
    this.origin = this.#place(1, 'origin')
    this.hosts = Array.from({ length: hosts }, (_, at) => this.#place(at + 2, `host${at + 1}`))
  }

  get controlAddress(): string {
    return `${CONTROL_NETWORK}.${this.#slot}.${CONTROL_SELF}`
  }

  async start({ rate, originRate = rate }: NetnsOptions): Promise<void> {
    this.#slot = await freeSlot()
    await run('ip', ['netns', 'add', this.#bridge])
    const link = ['-n', this.#bridge, 'link']
    await run('ip', [...link, 'add', BRIDGE, 'address', BRIDGE_MAC, 'type', 'bridge', 'forward_delay', '0'])
    await run('ip', [...link, 'set', BRIDGE, 'up'])
    for (const host of this.#all()) {
      await this.#join(host)
      await this.setRate(host, host === this.origin ? originRate : rate)
    }
  }

  async setRate(host: NetHost, rate: LinkRate): Promise<void> {
    const { namespace, port } = this.#known(host)
    // A qdisc shapes what leaves an interface: what leaves the host, and what leaves the bridge for the host.
    await shape(namespace, LINK, rate.upMbit)
    await shape(this.#bridge, port, rate.downMbit)
  }

  async unplug(host: NetHost): Promise<void> {
    await run('ip', ['-n', this.#bridge, 'link', 'set', this.#known(host).port, 'down'])
  }

  async plug(host: NetHost): Promise<void> {
    await run('ip', ['-n', this.#bridge, 'link', 'set', this.#known(host).port, 'up'])
  }

  async partition(...groups: readonly (readonly NetHost[])[]): Promise<void> {
    for (const group of groups)
      for (const host of group) {
        const others = groups.filter((other) => other !== group).flat()
        // Frames for the others go to the bridge itself, which has no use for them.
        const lines = others.map(
          ({ address }) => `neigh replace ${address} lladdr ${BRIDGE_MAC} dev ${LINK} nud permanent`,
        )
        await batch(this.#known(host).namespace, lines)
      }
  }

  async heal(): Promise<void> {
    for (const { namespace } of this.#all())
      await run('ip', ['-n', namespace, 'neigh', 'flush', 'dev', LINK, 'nud', 'permanent'])
  }

  async bytes(host: NetHost): Promise<LinkBytes> {
    const { port } = this.#known(host)
    const { stdout } = await run('ip', ['-n', this.#bridge, '-j', '-s', 'link', 'show', port])
    const [found] = JSON.parse(stdout) as readonly {
      readonly stats64: { readonly rx: { readonly bytes: number }; readonly tx: { readonly bytes: number } }
    }[]
    if (found === undefined) throw new Error(`no counters of ${port}`)
    return { sentBytes: found.stats64.rx.bytes, receivedBytes: found.stats64.tx.bytes }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const name of [...this.#all().map(({ namespace }) => namespace), this.#bridge])
      await removeNamespace(name)
  }

  #all(): readonly HostPlace[] {
    return [this.origin, ...this.hosts]
  }

  #known(host: NetHost): HostPlace {
    const place = this.#all().find((one) => one === host)
    if (place === undefined) throw new Error(`${host.name} is of another network`)
    return place
  }

  #place(at: number, name: string): HostPlace {
    const namespace = `${this.#name}-${name}`
    const controlAddress = () => `${CONTROL_NETWORK}.${this.#slot}.${at}`
    return {
      name,
      at,
      namespace,
      port: name,
      address: `${DATA_NETWORK}.${at}`,
      get controlAddress() {
        return controlAddress()
      },
      launch: (command, args) => ({ command: 'ip', args: ['netns', 'exec', namespace, command, ...args] }),
    }
  }

  async #join({ namespace, port, address, at, controlAddress }: HostPlace): Promise<void> {
    await run('ip', ['netns', 'add', namespace])
    await batch(this.#bridge, [
      `link add ${port} type veth peer name ${LINK} netns ${namespace}`,
      `link set ${port} master ${BRIDGE} up`,
    ])
    const control = `shoal${this.#slot}-${at}`
    await run('ip', ['link', 'add', control, 'type', 'veth', 'peer', 'name', 'control', 'netns', namespace])
    await batch(namespace, [
      'link set lo up',
      `link set ${LINK} up`,
      `addr add ${address}/24 dev ${LINK}`,
      'link set control up',
      `addr add ${controlAddress} peer ${this.controlAddress} dev control`,
    ])
    await run('ip', ['addr', 'add', this.controlAddress, 'peer', controlAddress, 'dev', control])
    await run('ip', ['link', 'set', control, 'up'])
  }
}

async function shape(namespace: string, device: string, mbit: number): Promise<void> {
  const burstBytes = Math.max(LEAST_BURST_BYTES, Math.ceil((mbit * 1e6) / 8 / 200))
  const bucket = ['tbf', 'rate', `${mbit}mbit`, 'burst', `${burstBytes}b`, 'latency', `${QUEUE_MS}ms`]
  await run('tc', ['-n', namespace, 'qdisc', 'replace', 'dev', device, 'root', ...bucket])
}

function batch(namespace: string, lines: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = execFile('ip', ['-n', namespace, '-batch', '-'], (error) =>
      error === null ? resolve() : reject(error),
    )
    child.stdin?.end(`${lines.join('\n')}\n`)
  })
}

/** The third octet of control addresses that no network of this machine has. */
async function freeSlot(): Promise<number> {
  const { stdout } = await run('ip', ['-4', '-o', 'addr', 'show'])
  for (let slot = 0; slot < 256; slot++) if (!stdout.includes(` ${CONTROL_NETWORK}.${slot}.`)) return slot
  throw new Error('all control networks are taken')
}

/** Removes what a run left behind that was killed. */
async function removeStale(): Promise<void> {
  const { stdout } = await run('ip', ['netns', 'list'])
  for (const line of stdout.split('\n')) {
    const [name = ''] = line.split(' ')
    const pid = new RegExp(`^${PREFIX}-(\\d+)-`).exec(name)?.[1]
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) await removeNamespace(name)
  }
}

/** Ends what runs inside first: a namespace lives, with its links, as long as a process in it. */
async function removeNamespace(name: string): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    const { stdout } = await run('ip', ['netns', 'pids', name]).catch(() => ({ stdout: '' }))
    const pids = stdout.split('\n').filter((pid) => pid !== '')
    if (pids.length === 0) break
    for (const pid of pids) kill(Number(pid))
    await sleep(systemClock, 20)
  }
  await run('ip', ['netns', 'delete', name]).catch(() => {})
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended by itself.
  }
}
