// The one table of the agent's settings: key in the file, variables, flag, default, check, meaning. Documents, the
// starter file, `shoal config show` and the loader are all made from it. A setting exists when it has a row here and code
// that obeys it; keys of the administrator's guide that nothing obeys yet stand in config-later.ts.
import {
  allowedHost,
  amount,
  flag,
  listenAddress,
  logLevel,
  pathText,
  wholeNumber,
} from '@shoal/protocol/setting-checks.ts'
import { type SettingValues, setting } from '@shoal/protocol/settings.ts'
import { z } from 'zod'
import { label, limitMbps, meshSecret, multiaddr, originUrl, tokenText } from './config-checks.ts'
import { CPU_SETTINGS } from './config-cpu-keys.ts'
import { LIMIT_SETTINGS } from './config-limit-keys.ts'
import { MEMORY_SETTINGS } from './config-memory-keys.ts'

export const DEFAULT_HTTP_PORT = 8001
const PETABYTES = 1_000_000

export const AGENT_SETTINGS = {
  'storage.models_directory': setting({
    kind: 'text',
    schema: pathText,
    initial: undefined,
    initialText: '`~/.local/share/shoal`, as root `/var/lib/shoal`',
    env: ['SHOAL_STORAGE_PATH', 'ENHANCED_MODEL_STORAGE_PATH'],
    flag: 'storage',
    about:
      'The storage path: blobs, the Hugging Face cache view (`hub/`), the index, the host key and the mesh secret. A directory of its own. Relative paths start at the file that names them, or at the working directory.',
  }),
  'storage.max_storage_gb': setting({
    kind: 'number',
    schema: amount(0, PETABYTES, 'gigabytes (1 GB = 1,000,000,000 bytes)'),
    initial: 0,
    env: [],
    about:
      'Most bytes of model files kept here, in gigabytes (1,000,000,000 bytes). 0: as much as the disk has.',
  }),
  'downloads.max_concurrent_downloads': setting({
    kind: 'number',
    schema: wholeNumber(1, 64, 'downloads'),
    initial: 3,
    env: [],
    about: 'Files downloaded at a time. Readers that wait for a file are never queued behind a pull.',
  }),
  'downloads.max_retries': setting({
    kind: 'number',
    schema: wholeNumber(0, 100, 'retries'),
    initial: 3,
    env: [],
    about: 'How often a failed request to the origin is tried again.',
  }),
  'downloads.retry_delay_seconds': setting({
    kind: 'number',
    schema: amount(0, 3600, 'seconds'),
    initial: 1,
    env: [],
    about: 'Pause before the first retry, in seconds. Every further pause is longer by the back-off factor.',
  }),
  'downloads.bandwidth_limit_mbps': setting({
    kind: 'number',
    schema: limitMbps,
    initial: 0,
    env: [],
    about:
      'Most that is received from peers and the origin together, in megabits a second (1 Mbit = 125,000 bytes). 0: no limit. `shoal limits --down` changes it while the agent runs.',
  }),
  ...LIMIT_SETTINGS,
  ...MEMORY_SETTINGS,
  'connection_settings.max_connections_per_host': setting({
    kind: 'number',
    schema: wholeNumber(1, 64, 'connections'),
    initial: 8,
    env: [],
    about: 'Connections kept to one origin host.',
  }),
  'connection_settings.connection_timeout_seconds': setting({
    kind: 'number',
    schema: amount(0.1, 600, 'seconds'),
    initial: 10,
    env: [],
    about: 'Longest wait for a connection to the origin, in seconds.',
  }),
  'connection_settings.read_timeout_seconds': setting({
    kind: 'number',
    schema: amount(0.1, 3600, 'seconds'),
    initial: 30,
    env: [],
    about: 'Longest silence of the origin during an answer, in seconds.',
  }),
  'connection_settings.retry_backoff_factor': setting({
    kind: 'number',
    schema: amount(1, 10, 'times'),
    initial: 2,
    env: [],
    about: 'By how much each pause between retries is longer than the one before.',
  }),
  'connection_settings.max_retry_delay_seconds': setting({
    kind: 'number',
    schema: amount(0, 3600, 'seconds'),
    initial: 60,
    env: [],
    about: 'Longest pause between retries, in seconds.',
  }),
  'connection_settings.keep_alive_enabled': setting({
    kind: 'boolean',
    schema: flag,
    initial: true,
    env: [],
    about: 'Use a connection to the origin for more than one request. When off, each has its own.',
  }),
  'connection_settings.compression_enabled': setting({
    kind: 'boolean',
    schema: flag,
    initial: true,
    env: [],
    about: 'Let the origin compress metadata. Bytes of files are never compressed on the way.',
  }),
  ...CPU_SETTINGS,
  'security.max_file_size_gb': setting({
    kind: 'number',
    schema: amount(0, 5000, 'gigabytes (1 GB = 1,000,000,000 bytes)'),
    initial: 0,
    env: [],
    about:
      'A larger file is refused, in gigabytes (1,000,000,000 bytes). 0: only the limit of the format, 5 TiB.',
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
  'logging.plan_record': setting({
    kind: 'text',
    schema: pathText.optional(),
    initial: undefined,
    env: ['SHOAL_PLAN_RECORD'],
    about:
      'File that gets every decision about downloads and what it was made from, at most 256 MiB: for reports of problems. Names files by digest and hosts by peer id.',
  }),
  'hub.upstream': setting({
    kind: 'list',
    schema: z
      .array(originUrl, 'expected a list of URLs')
      .min(1, 'expected at least one URL')
      .max(16, 'at most 16'),
    initial: ['https://huggingface.co'],
    env: ['SHOAL_UPSTREAM'],
    flag: 'upstream',
    about: 'The origin: the Hub, or mirrors in the order they are tried.',
  }),
  'hub.token': setting({
    kind: 'text',
    schema: tokenText.optional(),
    initial: undefined,
    env: ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN'],
    secret: true,
    about: "The host's own Hub token, used for `shoal pull` and never for other callers. Environment only.",
  }),
  'hub.token_path': setting({
    kind: 'text',
    schema: pathText.optional(),
    initial: undefined,
    initialText: '`$HF_HOME/token`, that is `~/.cache/huggingface/token`',
    env: ['HF_TOKEN_PATH'],
    about: 'File with that token, read when `HF_TOKEN` is not set.',
  }),
  'hub.revision_ttl_seconds': setting({
    kind: 'number',
    schema: amount(0, 86_400, 'seconds'),
    initial: 60,
    env: [],
    about:
      'How long the commit behind a branch or tag is believed before the origin is asked again, in seconds.',
  }),
  'mesh.listen': setting({
    kind: 'list',
    schema: z.array(multiaddr, 'expected a list of multiaddrs').max(16, 'at most 16'),
    initial: ['/ip4/0.0.0.0/tcp/8002'],
    env: ['SHOAL_P2P_LISTEN'],
    flag: 'p2p-listen',
    about: 'Where peers reach this host. Only peers that prove the mesh secret are spoken to.',
  }),
  'mesh.peers': setting({
    kind: 'list',
    schema: z.array(multiaddr, 'expected a list of multiaddrs').max(256, 'at most 256'),
    initial: [],
    env: ['SHOAL_PEERS'],
    flag: 'peers',
    about: 'Peers to dial at start, besides those found by mDNS and those that `shoal join` wrote down.',
  }),
  'mesh.mdns': setting({
    kind: 'boolean',
    schema: flag,
    initial: true,
    env: ['SHOAL_MDNS'],
    flag: 'mdns',
    about: 'Find peers on the local network by mDNS.',
  }),
  'mesh.secret': setting({
    kind: 'text',
    schema: meshSecret.optional(),
    initial: undefined,
    env: ['SHOAL_MESH_SECRET'],
    secret: true,
    about:
      'The mesh secret itself (64 hexadecimal digits), the same on all hosts of a mesh. Environment only; a file is safer.',
  }),
  'mesh.secret_file': setting({
    kind: 'text',
    schema: pathText.optional(),
    initial: undefined,
    initialText: '`mesh.secret` in the storage path, created on first start',
    env: ['SHOAL_MESH_SECRET_FILE'],
    about:
      'File with the mesh secret. When named it must exist and be readable by its owner only (mode 0600).',
  }),
  'mesh.site': setting({
    kind: 'text',
    schema: label.optional(),
    initial: undefined,
    env: ['SHOAL_SITE'],
    flag: 'site',
    about: 'Label: hosts of one site are near each other and share one fetch from the origin.',
  }),
  'mesh.rack': setting({
    kind: 'text',
    schema: label.optional(),
    initial: undefined,
    env: ['SHOAL_RACK'],
    flag: 'rack',
    about: 'Label: hosts of one rack are nearest.',
  }),
  'mesh.origin_fetchers': setting({
    kind: 'number',
    schema: wholeNumber(1, 64, 'hosts'),
    initial: 4,
    env: ['SHOAL_ORIGIN_FETCHERS'],
    about:
      'How many hosts of a site ask the origin for one file; the others get it from them and from each other. The same on every host of a site.',
  }),
  'mesh.serve_peers': setting({
    kind: 'boolean',
    schema: flag,
    initial: true,
    env: [],
    flag: 'serve-peers',
    about:
      'Give peers what this host holds. When off, it takes from them, gives nothing and says that it holds nothing. `shoal limits --up` changes it.',
  }),
  'http.listen': setting({
    kind: 'text',
    schema: listenAddress,
    initial: `127.0.0.1:${DEFAULT_HTTP_PORT}`,
    env: ['SHOAL_HTTP_LISTEN'],
    flag: 'http-listen',
    about: 'Where clients reach the Hub routes and the API of this host. Port 0: any free one.',
  }),
  'http.allowed_hosts': setting({
    kind: 'list',
    schema: z.array(allowedHost, 'expected a list of host names').max(64, 'at most 64'),
    initial: [],
    env: ['SHOAL_ALLOWED_HOSTS', 'ENHANCED_MODEL_ALLOWED_HOSTS'],
    about: 'Names besides localhost and the listening address that requests may carry in their Host header.',
  }),
  'http.insecure': setting({
    kind: 'boolean',
    schema: flag,
    initial: false,
    env: [],
    flag: 'insecure',
    about:
      'Allow a listening address that other machines can reach, although nothing asks them who they are.',
  }),
} as const

export type AgentSettingKey = keyof typeof AGENT_SETTINGS
export type AgentSettingValues = SettingValues<typeof AGENT_SETTINGS>

/** Keys that are set by the environment only: a file is copied, shown and put into version control. */
export const ENVIRONMENT_ONLY: readonly AgentSettingKey[] = ['hub.token', 'mesh.secret']
