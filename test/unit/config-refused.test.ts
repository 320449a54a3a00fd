// What the agent's settings refuse: each case says why and what was received.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { type Given, problems } from '../support/settings-of.ts'

const hours = (business: object) => ({
  bandwidth_management: { time_based_limits: { business_hours: business } },
})

const REFUSED: readonly { id: string; given: Given; says: RegExp }[] = [
  {
    id: 'unknown key',
    given: { file: { storage: { max_storage_bg: 1 } } },
    says: /no such setting; did you mean storage\.max_storage_gb\?, received 1/,
  },
  {
    id: 'key in the wrong section',
    given: { file: { max_storage_gb: 1 } },
    says: /did you mean storage\.max_storage_gb/,
  },
  { id: 'unknown section', given: { file: { stroage: {} } }, says: /did you mean storage\?/ },
  {
    id: 'dotted key',
    given: { file: { 'storage.max_storage_gb': 1 } },
    says: /a section is an object of its own/,
  },
  {
    id: 'section that is a list',
    given: { file: { storage: [] } },
    says: /expected an object, received \[\]/,
  },
  { id: 'file that is a list', given: { file: [] }, says: /the file \(file\): expected an object/ },
  {
    id: '__proto__',
    given: { file: '{"__proto__": {"storage": 1}}' },
    says: /__proto__ \(file\): no such setting/,
  },
  {
    id: 'size as text',
    given: { file: { storage: { max_storage_gb: '1GB' } } },
    says: /expected a number of gigabytes .* received "1GB"/,
  },
  {
    id: 'negative size',
    given: { file: { storage: { max_storage_gb: -1 } } },
    says: /from 0 to .* received -1/,
  },
  { id: 'infinite size', given: { file: '{"storage":{"max_storage_gb":1e999}}' }, says: /max_storage_gb/ },
  {
    id: 'half a download',
    given: { file: { downloads: { max_concurrent_downloads: 1.5 } } },
    says: /whole number .* received 1\.5/,
  },
  {
    id: 'no download',
    given: { file: { downloads: { max_concurrent_downloads: 0 } } },
    says: /from 1 to 64, received 0/,
  },
  {
    id: 'business hours that end when they begin',
    given: { file: hours({ start: '09:00', end: '9:00', limit_mbps: 20 }) },
    says: /business_hours: they end when they begin, which is never or always/,
  },
  {
    id: 'business hours from midnight to midnight',
    given: { file: hours({ start: '00:00', end: '24:00', limit_mbps: 20 }) },
    says: /use global_limit_mbps/,
  },
  {
    id: 'business hours without an end',
    given: { file: hours({ start: '09:00', limit_mbps: 20 }) },
    says: /start and end belong together/,
  },
  {
    id: 'a limit of business hours that are not there',
    given: { file: hours({ limit_mbps: 20 }) },
    says: /a limit needs start and end.* received 20/,
  },
  ...['25:00', '9', '09:60', '24:01', 'noon', ''].map((start) => ({
    id: `no time of day: ${JSON.stringify(start)}`,
    given: { file: hours({ start, end: '17:00' }) },
    says: /business_hours\.start \(file\): expected a time of day/,
  })),
  {
    id: 'a day that is none',
    given: { file: hours({ start: '09:00', end: '17:00', days: ['mon', 'holiday'] }) },
    says: /expected days, each one of mon, .* received/,
  },
  {
    id: 'less for a load that is not measured',
    given: {
      file: {
        bandwidth_management: { adaptive_limiting: { enabled: true, monitor_system_load: false } },
      },
    },
    says: /reduce_on_high_load: needs monitor_system_load/,
  },
  {
    id: 'path / as storage',
    given: { env: { SHOAL_STORAGE_PATH: '/' } },
    says: /root of the file system .* received "\/"/,
  },
  {
    id: 'path to / in disguise',
    given: { env: { SHOAL_STORAGE_PATH: '/data/..' } },
    says: /root of the file system/,
  },
  { id: 'home as storage', given: { env: { SHOAL_STORAGE_PATH: '~' } }, says: /home directory/ },
  {
    id: 'system folder as storage',
    given: { env: { SHOAL_STORAGE_PATH: '/etc/shoal' } },
    says: /directory of the system/,
  },
  {
    id: "another user's home",
    given: { env: { SHOAL_STORAGE_PATH: '~root/x' } },
    says: /only "~" and "~\/…"/,
  },
  {
    id: 'origin with a password',
    given: { env: { SHOAL_UPSTREAM: 'https://user:hunter2@hub.example' } },
    says: /must not hold a user .*\[hidden\]@hub\.example/,
  },
  {
    id: 'file: origin',
    given: { env: { SHOAL_UPSTREAM: 'file:///etc/passwd' } },
    says: /only https: and http:/,
  },
  {
    id: 'ftp: origin',
    given: { file: { hub: { upstream: ['ftp://hub.example'] } } },
    says: /hub\.upstream\[0\] \(file\): only https: and http:/,
  },
  {
    id: 'origin that is no URL',
    given: { env: { SHOAL_UPSTREAM: 'huggingface.co' } },
    says: /expected a URL/,
  },
  {
    id: 'origin that is this agent',
    given: { env: { SHOAL_UPSTREAM: 'http://localhost:8001/' } },
    says: /is this agent itself/,
  },
  {
    id: 'upstream as text in the file',
    given: { file: { hub: { upstream: 'https://a.example' } } },
    says: /expected a list of URLs/,
  },
  { id: 'port 65536', given: { env: { SHOAL_HTTP_LISTEN: '127.0.0.1:65536' } }, says: /at most 65535/ },
  { id: 'IPv6 without brackets', given: { env: { SHOAL_HTTP_LISTEN: '::1:8001' } }, says: /needs brackets/ },
  {
    id: 'listen without port',
    given: { env: { SHOAL_HTTP_LISTEN: '127.0.0.1' } },
    says: /expected HOST:PORT/,
  },
  {
    id: 'listen on 256.0.0.1',
    given: { env: { SHOAL_HTTP_LISTEN: '256.0.0.1:80' } },
    says: /expected an IP address/,
  },
  {
    id: 'open listen without --insecure',
    given: { env: { SHOAL_HTTP_LISTEN: '0.0.0.0:8001' } },
    says: /nothing asks them who they are/,
  },
  {
    id: 'peer that is no multiaddr',
    given: { env: { SHOAL_PEERS: '10.0.0.1:8002' } },
    says: /expected a multiaddr/,
  },
  {
    id: 'peer with port 70000',
    given: { env: { SHOAL_PEERS: '/ip4/10.0.0.1/tcp/70000' } },
    says: /at most 65535/,
  },
  {
    id: 'unknown level',
    given: { env: { SHOAL_LOG_LEVEL: 'loud' } },
    says: /expected one of trace.*received "loud"/,
  },
  {
    id: 'boolean in words',
    given: { env: { SHOAL_MDNS: 'maybe' } },
    says: /expected true or false, received "maybe"/,
  },
  { id: 'wildcard host', given: { env: { SHOAL_ALLOWED_HOSTS: '*' } }, says: /without wildcards/ },
  {
    id: 'missing secret file',
    given: { env: { SHOAL_MESH_SECRET_FILE: '/nowhere/secret' } },
    says: /mesh\.secret_file: there is no file/,
  },
  {
    id: 'token in the file',
    given: { file: { hub: { token: 'hf_canary' } } },
    says: /a secret does not belong in this file.*\[hidden\]/,
  },
  {
    id: 'two variables that differ',
    given: { env: { SHOAL_LOG_LEVEL: 'info', ENHANCED_MODEL_LOG_LEVEL: 'debug' } },
    says: /both set and differ/,
  },
  {
    id: 'database variable',
    given: { env: { SHOAL_DB_URL: 'postgresql://u:p@h/db' } },
    says: /SHOAL_DB_URL: known, not available in this version/,
  },
  {
    id: 'key of the guide',
    given: { file: { downloads: { resume_enabled: true } } },
    says: /downloads\.resume_enabled: known, not available/,
  },
  {
    id: 'open section of the guide',
    given: { file: { quotas: { default: { max_models: 1 } } } },
    says: /quotas: known, not available/,
  },
  { id: 'empty file', given: { file: ' \n' }, says: /the file is empty/ },
  { id: 'not JSON', given: { file: '{"a": 1,}' }, says: /not JSON/ },
]

for (const { id, given, says } of REFUSED) {
  test(`refused, saying why and what was received: ${id}`, async (context) => {
    const listed = await problems(context, given)
    assert.ok(
      listed.some((text) => says.test(text)),
      `${id}: ${inspect(listed)}`,
    )
    assert.doesNotMatch(listed.join('\n'), /hunter2|hf_canary|u:p@/)
  })
}
