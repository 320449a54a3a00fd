// The agent's settings: order of sources, every problem at once, and no secret in anything that is shown.
import assert from 'node:assert/strict'
import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { starterConfig } from '@shoal/agent/config.ts'
import { AGENT_SETTINGS } from '@shoal/agent/config-keys.ts'
import { LATER_KEYS } from '@shoal/agent/config-later.ts'
import { NO_LIMITS } from '@shoal/agent/limits-port.ts'
import { storagePathProblem } from '@shoal/agent/storage-path.ts'
import { MAX_CONFIG_BYTES, parseConfig } from '@shoal/protocol/settings-file.ts'
import { load, problems, SECRET } from '../support/settings-of.ts'
import { tempFolder } from '../support/temp-folder.ts'

test('without any input the defaults are valid and listen on loopback only', async (context) => {
  const { settings, warnings, cwd } = await load(context)
  assert.deepEqual(settings.http.listen, { host: '127.0.0.1', port: 8001 })
  assert.equal(settings.storage.path, join(cwd, 'home/.local/share/shoal'))
  assert.equal(settings.storage.limitBytes, undefined)
  assert.deepEqual(settings.hub.upstreams, ['https://huggingface.co'])
  assert.equal(settings.mesh.secretFile, join(settings.storage.path, 'mesh.secret'))
  assert.deepEqual(warnings, [])
})

test('root keeps its models in /var/lib/shoal', async (context) => {
  assert.equal((await load(context, { isRoot: true })).settings.storage.path, '/var/lib/shoal')
})

test('a flag beats the environment, which beats the file, which beats the default', async (context) => {
  const file = {
    logging: { level: 'ERROR' },
    mesh: { site: 'from-file', rack: 'r1' },
    downloads: { max_retries: 7 },
  }
  const env = { SHOAL_LOG_LEVEL: 'debug', SHOAL_SITE: 'from-env' }
  const { settings, shown } = await load(context, { file, env, flags: { 'logging.level': 'Trace' } })
  assert.equal(settings.logLevel, 'trace')
  assert.equal(settings.mesh.site, 'from-env')
  assert.equal(settings.mesh.rack, 'r1')
  assert.equal(settings.downloads.maxRetries, 7)
  const from = Object.fromEntries(shown.map((one) => [one.key, one.from]))
  assert.equal(from['logging.level'], 'flag --log-level')
  assert.equal(from['mesh.site'], 'environment SHOAL_SITE')
  assert.equal(from['mesh.rack'], 'file')
  assert.equal(from['mesh.mdns'], 'default')
})

test('units of the file become bytes and milliseconds', async (context) => {
  const { settings } = await load(context, {
    file: {
      storage: { max_storage_gb: 1.5 },
      security: { max_file_size_gb: 50 },
      downloads: { retry_delay_seconds: 0.25 },
      hub: { revision_ttl_seconds: 5 },
    },
  })
  assert.equal(settings.storage.limitBytes, 1_500_000_000)
  assert.equal(settings.maxFileBytes, 50_000_000_000)
  assert.equal(settings.downloads.retryDelayMs, 250)
  assert.equal(settings.hub.revisionTtlMs, 5000)
})

test('every variable and its alias of the guide set what they say', async (context) => {
  const { settings } = await load(context, {
    env: {
      ENHANCED_MODEL_STORAGE_PATH: '/data/models',
      ENHANCED_MODEL_LOG_LEVEL: 'WARNING',
      ENHANCED_MODEL_ALLOWED_HOSTS: 'localhost, your-domain.com',
      SHOAL_HTTP_LISTEN: '[::1]:0',
      SHOAL_P2P_LISTEN: '/ip4/127.0.0.1/tcp/0',
      SHOAL_PEERS: '/ip4/192.0.2.1/tcp/8002,/dns4/gpu-2.lab/tcp/8002',
      SHOAL_MDNS: 'false',
      SHOAL_RACK: 'r2',
      SHOAL_UPSTREAM: 'https://mirror.example/hf/,https://huggingface.co',
      SHOAL_MESH_SECRET: SECRET,
      SHOAL_SITE: '',
    },
  })
  assert.equal(settings.storage.path, '/data/models')
  assert.equal(settings.logLevel, 'warn')
  assert.deepEqual(settings.http.allowedHosts, ['localhost', 'your-domain.com'])
  assert.deepEqual(settings.http.listen, { host: '::1', port: 0 })
  assert.deepEqual(settings.mesh.listen, ['/ip4/127.0.0.1/tcp/0'])
  assert.deepEqual(settings.mesh.peers, ['/ip4/192.0.2.1/tcp/8002', '/dns4/gpu-2.lab/tcp/8002'])
  assert.equal(settings.mesh.mdns, false)
  assert.equal(settings.mesh.rack, 'r2')
  assert.equal(settings.mesh.site, undefined, 'an empty variable is not set')
  assert.deepEqual(settings.hub.upstreams, ['https://mirror.example/hf', 'https://huggingface.co'])
  assert.equal(settings.mesh.secret?.text(), SECRET)
})

test('all problems are reported at once', async (context) => {
  const listed = await problems(context, {
    file: { storage: { max_storage_gb: -1, nonsense: 1 }, logging: { level: 'loud' } },
    env: { SHOAL_HTTP_LISTEN: 'x', SHOAL_MDNS: 'maybe' },
  })
  assert.equal(listed.length, 5, inspect(listed))
})

test('a file with a million unknown keys is given up after a hundred problems', async (context) => {
  const keys = Array.from({ length: 100_000 }, (_, index) => `"k${index}":1`)
  assert.ok((await problems(context, { file: `{${keys.join(',')}}` })).length <= 101)
})

test('an open listening address is accepted with --insecure', async (context) => {
  const env = { SHOAL_HTTP_LISTEN: '0.0.0.0:8001' }
  assert.equal(
    (await load(context, { env, flags: { 'http.insecure': true } })).settings.http.listen.host,
    '0.0.0.0',
  )
})

test('a byte order mark before the JSON is ignored', async (context) => {
  assert.equal((await load(context, { file: '\uFEFF{"mesh":{"site":"a"}}' })).settings.mesh.site, 'a')
})

test('a file over 10 MiB is refused without being read', async (context) => {
  assert.match((await problems(context, { file: ' '.repeat(MAX_CONFIG_BYTES + 1) })).join(), /more than the/)
})

test('what is not UTF-8 is refused, and a syntax error never quotes the file', () => {
  assert.throws(() => parseConfig('f', Uint8Array.of(0xff, 0xfe, 0x7b, 0x00)), /not UTF-8/)
  assert.throws(
    () => parseConfig('f', Buffer.from('{"token": hf_canary}')),
    (error: unknown) =>
      error instanceof Error && /^f: not JSON/.test(error.message) && !error.message.includes('canary'),
  )
})

test('a settings file that was named and is not there is an error; one that was not named is not', async (context) => {
  assert.match((await problems(context, { configPath: 'none.json' })).join(), /there is no such file/)
  assert.match(
    (await problems(context, { env: { SHOAL_CONFIG_PATH: 'none.json' } })).join(),
    /there is no such file/,
  )
  assert.equal((await load(context)).settings.configPath, undefined)
})

test('relative paths start at the file that names them, or at the working directory', async (context) => {
  const folder = await tempFolder(context)
  await writeFile(join(folder, 'a.json'), JSON.stringify({ storage: { models_directory: 'models' } }))
  const named = await load(context, { configPath: join(folder, 'a.json') })
  assert.equal(named.settings.storage.path, join(folder, 'models'))
  const byEnv = await load(context, { env: { SHOAL_STORAGE_PATH: './here/../models' } })
  assert.equal(byEnv.settings.storage.path, join(byEnv.cwd, 'models'))
  const byHome = await load(context, { env: { SHOAL_STORAGE_PATH: '~/models' } })
  assert.equal(byHome.settings.storage.path, join(byHome.cwd, 'home/models'))
})

test('a secret file that others may read is refused, and accepted once it is private', async (context) => {
  const path = join(await tempFolder(context), 'secret')
  await writeFile(path, `${SECRET}\n`, { mode: 0o644 })
  assert.match(
    (await problems(context, { env: { SHOAL_MESH_SECRET_FILE: path } })).join(),
    /mode 644.*chmod 600/,
  )
  await chmod(path, 0o600)
  assert.equal(
    (await load(context, { env: { SHOAL_MESH_SECRET_FILE: path } })).settings.mesh.secretFile,
    path,
  )
  await writeFile(path, 'too short')
  assert.match((await problems(context, { env: { SHOAL_MESH_SECRET_FILE: path } })).join(), /64 hexadecimal/)
})

test('the Hub token is found where huggingface_hub keeps it, and HF_TOKEN beats it', async (context) => {
  const folder = await tempFolder(context)
  await writeFile(join(folder, 'token'), 'hf_fromfile\n')
  assert.equal((await load(context, { env: { HF_HOME: folder } })).settings.hub.token(), 'hf_fromfile')
  assert.equal(
    (await load(context, { env: { HF_TOKEN_PATH: join(folder, 'token') } })).settings.hub.token(),
    'hf_fromfile',
  )
  assert.equal(
    (await load(context, { env: { HF_HOME: folder, HF_TOKEN: 'hf_env' } })).settings.hub.token(),
    'hf_env',
  )
  assert.equal((await load(context)).settings.hub.token(), undefined)
})

test('no secret is in what is shown, printed or serialised', async (context) => {
  const env = { HF_TOKEN: 'hf_canarytoken', SHOAL_MESH_SECRET: SECRET }
  const { settings, shown } = await load(context, { env })
  const everything = [
    JSON.stringify(shown),
    JSON.stringify(settings),
    inspect(settings, { depth: 9, showHidden: true }),
  ].join()
  assert.ok(!everything.includes('canarytoken') && !everything.includes(SECRET), everything)
  assert.equal(shown.find((one) => one.key === 'hub.token')?.value, '[hidden]')
})

test('a misspelt variable is warned about, and what Kubernetes injects is not', async (context) => {
  const { warnings } = await load(context, {
    env: { SHOAL_STORAGE_PAHT: 'x', SHOAL_SERVICE_HOST: '10.0.0.1', SHOAL_PORT_8001_TCP_ADDR: 'x' },
  })
  assert.equal(warnings.length, 1, inspect(warnings))
  assert.match(warnings[0] ?? '', /did you mean SHOAL_STORAGE_PATH/)
})

test('every key of the guide is obeyed or refused by name, never unknown', async (context) => {
  const guide: unknown = JSON.parse(
    await readFile(new URL('../fixtures/config/guide.json', import.meta.url), 'utf8'),
  )
  const listed = await problems(context, { file: guide })
  assert.ok(listed.length > 50, 'the guide has keys that this version lacks')
  for (const text of listed) {
    if (text.startsWith('memory_management.')) assert.match(text, /page cache of the kernel/)
    else assert.match(text, /: known, not available in this version/)
  }
})

test('memory is set in gigabytes and megabytes, 0 leaves it to the agent, and what would be ignored is refused with the reason', async (context) => {
  assert.deepEqual((await load(context)).settings.memory, {
    maxBytes: undefined,
    downloadBufferBytes: undefined,
    gcThreshold: 0.8,
  })
  const { memory } = (
    await load(context, {
      file: { memory_management: { download_buffer_size_mb: 64, gc_threshold: 0.5, model_cache_size_gb: 0 } },
      env: { SHOAL_MAX_MEMORY_GB: '0.75' },
    })
  ).settings
  assert.deepEqual(memory, { maxBytes: 750_000_000, downloadBufferBytes: 64_000_000, gcThreshold: 0.5 })
  const refused = await problems(context, {
    file: {
      memory_management: {
        max_memory_usage_gb: 0.1,
        download_buffer_size_mb: 1,
        gc_threshold: 2,
        model_cache_size_gb: 4,
        preload_frequently_used: true,
      },
    },
  })
  assert.equal(refused.length, 5)
  assert.match(
    refused.join('\n'),
    /model_cache_size_gb.*page cache[\s\S]*preload_frequently_used.*page cache/,
  )
})

test('no key is both obeyed and refused', () => {
  for (const key of LATER_KEYS) assert.ok(!Object.hasOwn(AGENT_SETTINGS, key), key)
})

test('the starter file is accepted as it is and holds no secret', async (context) => {
  const starter = starterConfig()
  assert.deepEqual((await load(context, { file: starter })).settings.http.listen.port, 8001)
  assert.doesNotMatch(JSON.stringify(starter), /token"|secret"/)
})

test('a storage path may lie in a RAM disk or a runtime folder but not be one', () => {
  assert.equal(storagePathProblem('/dev/shm/shoal', '/home/a'), undefined)
  assert.equal(storagePathProblem('/var/lib/shoal', '/home/a'), undefined)
  assert.match(storagePathProblem('/dev/shm', '/home/a') ?? '', /system/)
  assert.match(storagePathProblem('/tmp', '/home/a') ?? '', /system/)
})

test('the limits by hour and by load of the guide are taken as it writes them', async (context) => {
  assert.deepEqual((await load(context)).settings.limitRules, {
    hours: undefined,
    load: undefined,
    background: false,
    monthCapBytes: undefined,
  })
  const { settings } = await load(context, {
    file: {
      bandwidth_management: {
        global_limit_mbps: 100,
        per_download_limit_mbps: 50,
        time_based_limits: {
          business_hours: { start: '09:00', end: '17:00', limit_mbps: 20 },
          off_hours: { limit_mbps: 100 },
        },
        adaptive_limiting: { enabled: true, monitor_system_load: true, reduce_on_high_load: true },
        monthly_origin_cap_gb: 1.5,
        background: true,
      },
    },
  })
  assert.deepEqual(settings.limitRules, {
    hours: {
      business: {
        startMinute: 540,
        endMinute: 1020,
        days: [1, 2, 3, 4, 5, 6, 0],
        bytesPerSecond: 2_500_000,
      },
      offBytesPerSecond: 12_500_000,
    },
    load: { reduces: true },
    background: true,
    monthCapBytes: 1_500_000_000,
  })
})

test('bandwidth limits of the guide are megabits a second, the lower of two counts, and 0 is none', async (context) => {
  const none = (await load(context)).settings.limits
  assert.deepEqual(none, NO_LIMITS)
  const { limits } = (
    await load(context, {
      file: {
        downloads: { bandwidth_limit_mbps: 100 },
        bandwidth_management: {
          global_limit_mbps: 80,
          origin_limit_mbps: 1.5,
          upload_limit_mbps: 40,
          upload_per_peer_limit_mbps: 8,
          per_download_limit_mbps: 16,
        },
      },
    })
  ).settings
  assert.deepEqual(limits, {
    up: 5_000_000,
    upPerPeer: 1_000_000,
    down: 10_000_000,
    origin: 187_500,
    perDownload: 2_000_000,
  })
  const quiet = await load(context, {
    file: { bandwidth_management: { upload_limit_mbps: 40 } },
    flags: { 'mesh.serve_peers': false },
  })
  assert.equal(quiet.settings.limits.up, 0)
  const listed = await problems(context, {
    file: { bandwidth_management: { global_limit_mbps: 0.5, origin_limit_mbps: -1 } },
  })
  assert.equal(listed.length, 2)
  assert.match(listed.join(), /0 for no limit, or 1 to 8000000 megabits/)
})
