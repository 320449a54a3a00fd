// nginx as a rival: one worker, sendfile, HTTP and HTTPS (TLS 1.3, ECDSA P-256) on loopback; and curl as every server's client.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { freePort } from '../../support/free-port.ts'
import { endedSeconds, firstLine, startProgram, treeSeconds, whyNotProgram } from './processes.ts'
import type { Ending } from './scope.ts'

export interface Nginx {
  readonly http: string
  readonly https: string
  readonly pid: number
}

export async function whyNoNginx(): Promise<string | undefined> {
  return (await whyNotProgram('nginx', ['-v'])) ?? (await whyNotProgram('openssl', ['version']))
}

/** @param folder for its own files @param root what it serves */
export async function startNginx(scope: Ending, folder: string, root: string): Promise<Nginx> {
  const [http, https] = [await freePort(), await freePort()]
  const [key, certificate] = [join(folder, 'key.pem'), join(folder, 'certificate.pem')]
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']
  const files = ['-keyout', key, '-out', certificate, '-subj', '/CN=localhost']
  await firstLine('openssl', ['req', '-x509', ...curve, ...files])
  const config = join(folder, 'nginx.conf')
  const user = process.getuid?.() === 0 ? 'user root;' : ''
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${join(folder, name)};`)
    .join(' ')
  await writeFile(
    config,
    `daemon off; worker_processes 1; ${user} pid ${join(folder, 'nginx.pid')}; error_log ${join(folder, 'error.log')};
events {} http { access_log off; sendfile on; ${temporary} keepalive_requests 1000000;
server { listen 127.0.0.1:${http}; listen 127.0.0.1:${https} ssl; ssl_certificate ${certificate};
ssl_certificate_key ${key}; ssl_protocols TLSv1.3; root ${root}; } }\n`,
  )
  const args = ['-c', config, '-p', folder, '-e', join(folder, 'start.log')]
  const { pid } = startProgram(scope, 'nginx', args, { stopSignal: 'SIGTERM' })
  const base = `http://127.0.0.1:${http}`
  await listening(base)
  return { http: base, https: `https://127.0.0.1:${https}`, pid }
}

/** Resolves as soon as something answers there, whatever it says. */
export async function listening(url: string, timeoutMs = 10_000): Promise<void> {
  for (const startedAt = systemClock.now(); ; ) {
    const answer = await fetch(url).catch(() => undefined)
    await answer?.body?.cancel()
    if (answer !== undefined) return
    if (systemClock.now() - startedAt > timeoutMs) throw new Error(`nobody listens at ${url}`)
    await sleep(systemClock, 20)
  }
}

export interface Fetched {
  /** By curl's own clock, from its first request to the last byte. */
  readonly seconds: number
  readonly serverSeconds: number
  readonly clientSeconds: number
  readonly clientPeakBytes: number
}

/** One GET by curl. @param into a file, or `/dev/null` @throws Error unless it ends well with so many bytes */
export async function curl(
  scope: Ending,
  url: string,
  into: string,
  sizeBytes: number,
  serverPid: number,
): Promise<Fetched> {
  const [server, client] = [await treeSeconds(serverPid), await endedSeconds()]
  const format = '%{time_total} %{size_download} %{http_code}'
  const program = startProgram(scope, 'curl', ['-skfL', '-o', into, '-w', format, url])
  const [seconds, bytes] = (await program.done()).split(' ').map(Number)
  if (seconds === undefined || bytes !== sizeBytes) throw new Error(`curl got ${bytes} bytes of ${url}`)
  return {
    seconds,
    serverSeconds: (await treeSeconds(serverPid)) - server,
    clientSeconds: (await endedSeconds()) - client,
    clientPeakBytes: program.peakBytes(),
  }
}
