// The coordinator's settings: the section `coordinator` and the log level of the file that agents read too. Sections of the
// agent are left to the agent. Reads nothing but that file and the environment it is given.
import { formatListenAddress, isLoopbackHost, type ListenAddress } from '@shoal/protocol/listen-address.ts'
import { allowedHost, flag, type LogLevel, listenAddress, logLevel } from '@shoal/protocol/setting-checks.ts'
import { configError, resolveSettings, setting, shown } from '@shoal/protocol/settings.ts'
import { findConfigFile } from '@shoal/protocol/settings-file.ts'
import { z } from 'zod'

export const COORDINATOR_SETTINGS = {
  'coordinator.listen': setting({
    kind: 'text',
    schema: listenAddress,
    initial: '127.0.0.1:8000',
    env: ['SHOAL_HTTP_LISTEN'],
    flag: 'http-listen',
    about: 'Where operators and agents reach the coordinator. Port 0: any free one.',
  }),
  'coordinator.allowed_hosts': setting({
    kind: 'list',
    schema: z.array(allowedHost, 'expected a list of host names').max(64, 'at most 64'),
    initial: [],
    env: ['SHOAL_ALLOWED_HOSTS', 'ENHANCED_MODEL_ALLOWED_HOSTS'],
    about: 'Names besides localhost and the listening address that requests may carry in their Host header.',
  }),
  'coordinator.insecure': setting({
    kind: 'boolean',
    schema: flag,
    initial: false,
    env: [],
    flag: 'insecure',
    about:
      'Allow a listening address that other machines can reach, although nothing asks them who they are.',
  }),
  'logging.level': setting({
    kind: 'text',
    schema: logLevel,
    initial: 'info',
    env: ['SHOAL_LOG_LEVEL', 'ENHANCED_MODEL_LOG_LEVEL'],
    flag: 'log-level',
    about:
      'Least important messages that are logged: trace, debug, info, warn, error, fatal or silent, in any case.',
  }),
} as const

export type CoordinatorSettingKey = keyof typeof COORDINATOR_SETTINGS

/** What the agent reads of the shared file, and what neither program obeys yet and the agent refuses. */
export const AGENT_KEYS: readonly string[] = [
  'storage.*',
  'downloads.*',
  'health_monitoring.*',
  'fallback.*',
  'analytics.*',
  'features.*',
  'security.*',
  'feature_flags.*',
  'access_control.*',
  'quotas.*',
  'logging.format',
  'logging.rotation.*',
  'logging.outputs.*',
  'logging.components.*',
  'storage_tiers.*',
  'cleanup_policies.*',
  'bandwidth_management.*',
  'connection_settings.*',
  'memory_management.*',
  'cpu_optimization.*',
  'download_security.*',
  'api_security.*',
  'filesystem_security.*',
  'hub.*',
  'mesh.*',
  'http.*',
  'database.*',
]

export interface CoordinatorSettings {
  readonly configPath: string | undefined
  readonly listen: ListenAddress
  readonly allowedHosts: readonly string[]
  readonly logLevel: LogLevel
}

export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  /** From `--config`. */
  readonly configPath?: string | undefined
  readonly flags?: Readonly<Partial<Record<CoordinatorSettingKey, unknown>>>
}

export interface LoadedCoordinatorSettings {
  readonly settings: CoordinatorSettings
  readonly warnings: readonly string[]
}

/** @throws ShoalError `bad-config` with every problem at once; `details.problems` lists them */
export async function loadCoordinatorSettings(
  surroundings: Surroundings,
): Promise<LoadedCoordinatorSettings> {
  const { env, cwd, configPath, flags = {} } = surroundings
  const file = await findConfigFile({ named: configPath, env, cwd })
  const resolved = resolveSettings({
    table: COORDINATOR_SETTINGS,
    later: [],
    laterEnv: [],
    otherEnv: ['SHOAL_CONFIG_PATH', 'ENHANCED_MODEL_CONFIG_PATH'],
    foreign: AGENT_KEYS,
    file: file?.json,
    env,
    flags,
  })
  const problems = [...resolved.problems]
  const values = resolved.values
  if (
    values !== undefined &&
    !isLoopbackHost(values['coordinator.listen'].host) &&
    !values['coordinator.insecure']
  ) {
    const address = formatListenAddress(values['coordinator.listen'])
    problems.push(
      `coordinator.listen: other machines can reach ${shown(address)} and nothing asks them who they are; listen on 127.0.0.1, or say --insecure if the network is trusted`,
    )
  }
  if (values === undefined || problems.length > 0) throw configError(problems, file?.path ?? 'the settings')
  return {
    settings: {
      configPath: file?.path,
      listen: values['coordinator.listen'],
      allowedHosts: values['coordinator.allowed_hosts'],
      logLevel: values['logging.level'],
    },
    warnings: resolved.warnings,
  }
}
