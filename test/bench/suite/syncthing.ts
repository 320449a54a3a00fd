// syncthing as a rival of case `pair`: two instances that know each other's address, nothing else on, the sender's folder scanned
// before. The clock is its own: from the event that it starts the file to the event that it has it.
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { freePort } from '../../support/free-port.ts'
import { FILE } from './case.ts'
import type { Contestant } from './contest.ts'
import { measuredPair, type PairGiven, peaks } from './pair-transfer.ts'
import { proveCopy, runFolder } from './places.ts'
import { firstLine, peakBytes, startProgram, treeSeconds, whyNotProgram } from './processes.ts'
import type { Scope } from './scope.ts'

const KEY = 'bench'
const ASK_MS = 50

interface Instance {
  readonly home: string
  readonly device: string
  readonly port: number
  readonly gui: number
}

interface SyncthingEvent {
  readonly type: string
  readonly time: string
  readonly data: { readonly item?: string; readonly error?: string | null }
}

export function syncthingRival(pair: PairGiven): Contestant {
  return {
    name: 'syncthing',
    does: 'SHA-256, TLS 1.3',
    missing: () => whyNotProgram('syncthing'),
    async run(scope) {
      const folder = await runFolder(scope, pair.place)
      const into = join(folder, 'into')
      await mkdir(into)
      const sender = await instanceIn(join(folder, 'sender'))
      const receiver = await instanceIn(join(folder, 'receiver'))
      await writeConfig(sender, receiver, pair.sourceFolder, 'sendonly', false)
      await writeConfig(receiver, sender, into, 'receiveonly', true)
      const [senderPid, receiverPid] = [start(scope, sender), start(scope, receiver)]
      await scanned(sender, pair.sizeBytes)
      await answering(receiver)
      const sides = { sender: () => treeSeconds(senderPid), receiver: () => treeSeconds(receiverPid) }
      const sample = await measuredPair(pair.sizeBytes, sides, async () => {
        await ask(receiver, `system/resume?device=${sender.device}`, 'POST')
        return secondsOf(receiver)
      })
      const result = { ...sample, ...peaks(await peakBytes(senderPid), await peakBytes(receiverPid)) }
      await proveCopy(join(into, FILE), pair.sizeBytes, pair.sha256)
      return result
    },
  }
}

async function instanceIn(home: string): Promise<Instance> {
  await mkdir(home, { recursive: true })
  await firstLine('syncthing', ['generate', `--home=${home}`, '--no-default-folder', '--skip-port-probing'])
  const made = await readFile(join(home, 'config.xml'), 'utf8')
  const device = /<device id="([A-Z0-9-]+)"/.exec(made)?.[1]
  if (device === undefined) throw new Error('syncthing made no device')
  return { home, device, port: await freePort(), gui: await freePort() }
}

async function writeConfig(
  own: Instance,
  other: Instance,
  path: string,
  type: string,
  paused: boolean,
): Promise<void> {
  const off = ['globalAnnounce', 'localAnnounce', 'relays', 'nat', 'crashReporting']
    .map((name) => `<${name}Enabled>false</${name}Enabled>`)
    .join('')
  const quiet =
    '<startBrowser>false</startBrowser><urAccepted>-1</urAccepted><setLowPriority>false</setLowPriority>'
  const address = `<listenAddress>tcp://127.0.0.1:${own.port}</listenAddress>`
  const device = ({ device: id, port }: Instance, isPaused: boolean) =>
    `<device id="${id}"><address>tcp://127.0.0.1:${port}</address><paused>${isPaused}</paused></device>`
  const shared = [own, other].map(({ device: id }) => `<device id="${id}"></device>`).join('')
  await writeFile(
    join(own.home, 'config.xml'),
    `<configuration version="36"><folder id="bench" path="${path}" type="${type}" fsWatcherEnabled="false">${shared}</folder>
${device(own, false)}${device(other, paused)}<gui enabled="true" tls="false"><address>127.0.0.1:${own.gui}</address>
<apikey>${KEY}</apikey></gui><options>${address}${off}${quiet}</options></configuration>\n`,
  )
}

/** Obeys SIGTERM; killed, it would leave the process below it. @returns its process id */
function start(scope: Scope, { home }: Instance): number {
  const args = ['serve', `--home=${home}`, '--no-browser', '--no-restart', '--logfile=-']
  const env = { STNOUPGRADE: '1', HOME: home }
  return startProgram(scope, 'syncthing', args, { env, stopSignal: 'SIGTERM' }).pid
}

async function ask(instance: Instance, path: string, method = 'GET'): Promise<unknown> {
  const answer = await fetch(`http://127.0.0.1:${instance.gui}/rest/${path}`, {
    method,
    headers: { 'x-api-key': KEY },
  })
  const text = await answer.text()
  if (!answer.ok) throw new Error(`syncthing answered ${answer.status} to ${path}: ${text}`)
  return text === '' ? undefined : JSON.parse(text)
}

async function answering(instance: Instance): Promise<void> {
  while ((await ask(instance, 'system/ping').catch(() => undefined)) === undefined)
    await sleep(systemClock, ASK_MS)
}

async function scanned(instance: Instance, sizeBytes: number): Promise<void> {
  await answering(instance)
  for (;;) {
    const status = (await ask(instance, 'db/status?folder=bench')) as { state: string; localBytes: number }
    if (status.state === 'idle' && status.localBytes >= sizeBytes) return
    await sleep(systemClock, ASK_MS)
  }
}

async function secondsOf(receiver: Instance): Promise<number> {
  for (;;) {
    const path = 'events?events=ItemStarted,ItemFinished&since=0&timeout=10'
    const events = (await ask(receiver, path)) as readonly SyncthingEvent[]
    const of = (type: string) => events.find((event) => event.type === type && event.data.item === FILE)
    const [started, finished] = [of('ItemStarted'), of('ItemFinished')]
    if (typeof finished?.data.error === 'string') throw new Error(`syncthing: ${finished.data.error}`)
    if (started !== undefined && finished !== undefined)
      return (Date.parse(finished.time) - Date.parse(started.time)) / 1000
    await sleep(systemClock, ASK_MS)
  }
}
