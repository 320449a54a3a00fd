// The agent's settings as the rest of the program sees them: resolved, checked against this machine, in bytes and
// milliseconds. Reads nothing but settings: the file, the environment it is given, and the secrets that these name.
import { homedir } from 'node:os'
import { dirname, isAbsolute, join, resolve } from 'node:path'
import { hasCode, messageOf } from '@shoal/protocol/errors.ts'
import { formatListenAddress, isLoopbackHost, type ListenAddress } from '@shoal/protocol/listen-address.ts'
import type { LogLevel } from '@shoal/protocol/setting-checks.ts'
import { configError, resolveSettings, type Setting, shown } from '@shoal/protocol/settings.ts'
import { type ConfigFile, findConfigFile } from '@shoal/protocol/settings-file.ts'
import { GIGABYTE, pointsAtItself } from './config-checks.ts'
import { type CpuSettings, cpuOf } from './config-cpu-keys.ts'
import {
  AGENT_SETTINGS,
  type AgentSettingKey,
  type AgentSettingValues,
  ENVIRONMENT_ONLY,
} from './config-keys.ts'
import { COORDINATOR_KEYS, LATER_KEYS, LATER_VARIABLES, OTHER_VARIABLES } from './config-later.ts'
import { limitRulesOf, limitsOf } from './config-limit-keys.ts'
import type { LimitRules } from './host-limits.ts'
import { readHubToken } from './hub-token.ts'
import type { LimitValues } from './limits-port.ts'
import { MeshSecret } from './net/mesh-secret.ts'
import { readPrivateFile } from './net/private-file.ts'
import { storagePathProblem } from './storage-path.ts'

export interface Settings {
  /** The settings file in use. */
  readonly configPath: string | undefined
  /** `path` is absolute. `limitBytes` undefined: as much as the disk has. */
  readonly storage: { readonly path: string; readonly limitBytes: number | undefined }
  readonly downloads: {
    readonly maxConcurrent: number
    readonly maxRetries: number
    readonly retryDelayMs: number
  }
  readonly connections: {
    readonly maxPerHost: number
    readonly connectTimeoutMs: number
    readonly readTimeoutMs: number
    readonly retryBackoffFactor: number
    readonly maxRetryDelayMs: number
    /** A connection serves more than one request. */
    readonly keepAlive: boolean
    /** Of metadata only. */
    readonly compression: boolean
  }
  readonly cpu: CpuSettings
  /** Bandwidth limits at the start. */
  readonly limits: LimitValues
  /** What changes them by itself. */
  readonly limitRules: LimitRules
  /** undefined: as the container, the host and experience have it. */
  readonly memory: {
    readonly maxBytes: number | undefined
    readonly downloadBufferBytes: number | undefined
    /** Share of the limit. */
    readonly gcThreshold: number
  }
  /** undefined: only the limit of the format. */
  readonly maxFileBytes: number | undefined
  readonly planRecord: string | undefined
  readonly logLevel: LogLevel
  readonly hub: {
    /** Without a trailing slash, in the order they are tried; at least one. */
    readonly upstreams: readonly string[]
    /** A function, so that no log or dump of the settings can hold it. */
    readonly token: () => string | undefined
    readonly revisionTtlMs: number
  }
  readonly mesh: {
    readonly listen: readonly string[]
    readonly peers: readonly string[]
    readonly mdns: boolean
    /** Given by the environment; else it is in `secretFile`, which is made on first start. */
    readonly secret: MeshSecret | undefined
    readonly secretFile: string
    readonly site: string | undefined
    readonly rack: string | undefined
    readonly originFetchers: number
  }
  readonly http: {
    readonly listen: ListenAddress
    readonly allowedHosts: readonly string[]
    readonly insecure: boolean
  }
}

/** What settings are read from. The defaults of everything but `env` suit a real process. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  /** Flags by setting key, as commander gives them; undefined ones are not given. */
  readonly flags?: Readonly<Partial<Record<AgentSettingKey, unknown>>>
  /** From `--config`. */
  readonly configPath?: string | undefined
  readonly home?: string
  readonly isRoot?: boolean
}

export interface ShownSetting {
  readonly key: string
  /** JSON form; `[hidden]` for a secret that is set, null for one that is not. */
  readonly value: unknown
  /** `default`, `file`, `environment NAME` or `flag --name`. */
  readonly from: string
}

export interface LoadedSettings {
  readonly settings: Settings
  readonly shown: readonly ShownSetting[]
  readonly warnings: readonly string[]
}

/**
 * Defaults, then file, then environment, then flags.
 * @throws ShoalError `bad-config` with every problem at once; `details.problems` lists them
 */
export async function loadSettings(surroundings: Surroundings): Promise<LoadedSettings> {
  const { places, resolved } = await resolveFrom(surroundings)
  const problems = [...resolved.problems, ...ENVIRONMENT_ONLY.flatMap((key) => inFile(key, places))]
  const values = resolved.values
  const settings =
    values === undefined ? undefined : await toSettings(values, places, surroundings.env, problems)
  if (settings === undefined || problems.length > 0)
    throw configError(problems, places.file?.path ?? 'the settings')
  return {
    settings,
    shown: [...resolved.settings.values()].map((one) => toShown(one)),
    warnings: resolved.warnings,
  }
}

/** Where the agent that these settings describe keeps its files and answers. */
export interface Whereabouts {
  /** Absolute. */
  readonly storagePath: string
  readonly listen: ListenAddress
}

/**
 * Only as much as a command needs to find the agent: other settings may be wrong, or name secrets that this user cannot read.
 * @throws ShoalError `bad-config` when the file cannot be read or one of the two is wrong
 */
export async function loadWhereabouts(surroundings: Surroundings): Promise<Whereabouts> {
  const { places } = await resolveFrom(surroundings)
  const problems: string[] = []
  const take = <Key extends 'storage.models_directory' | 'http.listen'>(key: Key) => {
    const { given, from } = places.settings.get(key) ?? { given: undefined, from: 'default' }
    const parsed = AGENT_SETTINGS[key].schema.safeParse(given)
    if (!parsed.success)
      problems.push(`${key} (${from}): ${parsed.error.issues[0]?.message}, received ${shown(given)}`)
    return parsed.data as AgentSettingValues[Key] | undefined
  }
  const storage = take('storage.models_directory')
  const listen = take('http.listen')
  if (storage === undefined || listen === undefined)
    throw configError(problems, places.file?.path ?? 'the settings')
  return { storagePath: toPath('storage.models_directory', storage, places), listen }
}

async function resolveFrom(surroundings: Surroundings) {
  const home = surroundings.home ?? homedir()
  const file = await findConfigFile({
    named: surroundings.configPath,
    env: surroundings.env,
    cwd: surroundings.cwd,
  })
  const resolved = resolveSettings({
    table: AGENT_SETTINGS,
    later: LATER_KEYS,
    laterEnv: LATER_VARIABLES,
    otherEnv: OTHER_VARIABLES,
    foreign: COORDINATOR_KEYS,
    initial: {
      'storage.models_directory': surroundings.isRoot
        ? '/var/lib/shoal'
        : join(home, '.local', 'share', 'shoal'),
    },
    file: file?.json,
    env: surroundings.env,
    flags: surroundings.flags ?? {},
  })
  const places: Places = { cwd: surroundings.cwd, home, file, settings: resolved.settings }
  return { places, resolved }
}

interface Places {
  readonly cwd: string
  readonly home: string
  readonly file: ConfigFile | undefined
  readonly settings: ReadonlyMap<string, Setting>
}

async function toSettings(
  values: AgentSettingValues,
  places: Places,
  env: Surroundings['env'],
  problems: string[],
): Promise<Settings> {
  const storagePath = toPath('storage.models_directory', values['storage.models_directory'], places)
  const refused = storagePathProblem(storagePath, places.home)
  if (refused !== undefined)
    problems.push(`storage.models_directory: ${refused}, received ${shown(storagePath)}`)
  const listen = values['http.listen']
  if (!isLoopbackHost(listen.host) && !values['http.insecure']) {
    problems.push(
      `http.listen: other machines can reach ${shown(formatListenAddress(listen))} and nothing asks them who they are; listen on 127.0.0.1, or say --insecure if the network is trusted`,
    )
  }
  for (const origin of values['hub.upstream']) {
    if (pointsAtItself(origin, listen)) problems.push(`hub.upstream: ${shown(origin)} is this agent itself`)
  }
  const named = values['mesh.secret_file']
  const secretFile =
    named === undefined ? join(storagePath, 'mesh.secret') : toPath('mesh.secret_file', named, places)
  if (named !== undefined) problems.push(...(await secretFileProblems(secretFile)))
  if (named !== undefined && values['mesh.secret'] !== undefined)
    problems.push('mesh.secret_file: SHOAL_MESH_SECRET is set too; unset one')
  const tokenPath = values['hub.token_path']
  const token =
    values['hub.token'] ??
    (await readHubToken({
      path: tokenPath === undefined ? undefined : toPath('hub.token_path', tokenPath, places),
      env,
      home: places.home,
    }).catch((error: unknown) => {
      problems.push(`hub.token_path: ${messageOf(error)}`)
      return undefined
    }))
  return {
    configPath: places.file?.path,
    storage: { path: storagePath, limitBytes: bytesOrNone(values['storage.max_storage_gb']) },
    downloads: {
      maxConcurrent: values['downloads.max_concurrent_downloads'],
      maxRetries: values['downloads.max_retries'],
      retryDelayMs: values['downloads.retry_delay_seconds'] * 1000,
    },
    connections: {
      maxPerHost: values['connection_settings.max_connections_per_host'],
      connectTimeoutMs: values['connection_settings.connection_timeout_seconds'] * 1000,
      readTimeoutMs: values['connection_settings.read_timeout_seconds'] * 1000,
      retryBackoffFactor: values['connection_settings.retry_backoff_factor'],
      maxRetryDelayMs: values['connection_settings.max_retry_delay_seconds'] * 1000,
      keepAlive: values['connection_settings.keep_alive_enabled'],
      compression: values['connection_settings.compression_enabled'],
    },
    cpu: cpuOf(values),
    limits: limitsOf(values),
    limitRules: limitRulesOf(values, problems),
    memory: {
      maxBytes: bytesOrNone(values['memory_management.max_memory_usage_gb']),
      downloadBufferBytes: bytesOrNone(values['memory_management.download_buffer_size_mb'] / 1000),
      gcThreshold: values['memory_management.gc_threshold'],
    },
    maxFileBytes: bytesOrNone(values['security.max_file_size_gb']),
    logLevel: values['logging.level'],
    planRecord: values['logging.plan_record'],
    hub: {
      upstreams: values['hub.upstream'],
      token: () => token,
      revisionTtlMs: values['hub.revision_ttl_seconds'] * 1000,
    },
    mesh: {
      listen: values['mesh.listen'],
      peers: values['mesh.peers'],
      mdns: values['mesh.mdns'],
      secret: values['mesh.secret'],
      secretFile,
      site: values['mesh.site'],
      rack: values['mesh.rack'],
      originFetchers: values['mesh.origin_fetchers'],
    },
    http: { listen, allowedHosts: values['http.allowed_hosts'], insecure: values['http.insecure'] },
  }
}

function bytesOrNone(gigabytes: number): number | undefined {
  return gigabytes === 0 ? undefined : Math.floor(gigabytes * GIGABYTE)
}

/** `~` is the home; relative paths start at the file that names them, else at the working directory. */
function toPath(key: AgentSettingKey, text: string, places: Places): string {
  if (text === '~' || text.startsWith('~/')) return join(places.home, text.slice(1))
  if (isAbsolute(text)) return resolve(text)
  const fromFile = places.settings.get(key)?.from === 'file' && places.file !== undefined
  return resolve(fromFile ? dirname(places.file.path) : places.cwd, text)
}

async function secretFileProblems(path: string): Promise<string[]> {
  try {
    const content = await readPrivateFile(path)
    if (content === undefined) return [`mesh.secret_file: there is no file, received ${shown(path)}`]
    MeshSecret.parse(content.toString('latin1'))
    return []
  } catch (error) {
    if (!hasCode(error, 'bad-config')) throw error
    return [`mesh.secret_file: ${error.message}, received ${shown(path)}`]
  }
}

function inFile(key: AgentSettingKey, places: Places): string[] {
  if (places.settings.get(key)?.from !== 'file') return []
  return [
    `${key} (file): a secret does not belong in this file; use ${AGENT_SETTINGS[key].env.join(' or ')}, received [hidden]`,
  ]
}

function toShown(one: Setting): ShownSetting {
  const secret = Object.entries(AGENT_SETTINGS).some(([key, row]) => key === one.key && 'secret' in row)
  const value = one.given === undefined ? null : secret ? '[hidden]' : one.given
  return { key: one.key, value, from: one.from }
}

/** A starter file: every setting that a file may hold and that has a default, as its default. */
export function starterConfig(): Record<string, Record<string, unknown>> {
  const sections: Record<string, Record<string, unknown>> = {}
  for (const [key, row] of Object.entries(AGENT_SETTINGS)) {
    const [section, ...names] = key.split('.')
    const name = names.pop()
    if (section === undefined || name === undefined) throw new Error(`a setting needs a section: ${key}`)
    if (row.initial === undefined) continue
    let inner = within(sections, section)
    for (const part of names) inner = within(inner, part)
    inner[name] = row.initial
  }
  return sections
}

/** The object under that name, made when it is not there. */
function within(
  outer: Record<string, Record<string, unknown> | unknown>,
  name: string,
): Record<string, unknown> {
  const inner = (outer[name] ?? {}) as Record<string, unknown>
  outer[name] = inner
  return inner
}
