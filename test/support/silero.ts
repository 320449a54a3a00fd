// Runs the real Silero VAD model in a stock client, in a process of its own: once through a Hub endpoint, once from the file.
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const PROGRAM = fileURLToPath(new URL('../clients/silero.mjs', import.meta.url))
const INSTALLED = new URL('../clients/node_modules/@huggingface/transformers/package.json', import.meta.url)
const TIMEOUT_MS = 120_000

/** Speech probabilities of 8 frames of a made sound, then the model's last state. */
export type SileroOutputs = readonly number[]

/**
 * Loads `onnx-community/silero-vad` by `AutoModel.from_pretrained` of @huggingface/transformers and runs it.
 * @param endpoint a Hub, or an agent: `http://127.0.0.1:PORT`
 * @param cacheFolder an empty folder, so that nothing comes from an earlier run
 */
export function runSileroFromHub(endpoint: string, cacheFolder: string): Promise<SileroOutputs> {
  return run(['hub', `${endpoint}/`, cacheFolder])
}

/** The same sound through onnxruntime-node and the file itself. */
export function runSileroFromFile(path: string): Promise<SileroOutputs> {
  return run(['file', path])
}

async function run(args: readonly string[]): Promise<SileroOutputs> {
  if (!existsSync(INSTALLED))
    throw new Error('the stock clients are not installed: run `node scripts/setup.mjs --clients`')
  const { stdout } = await promisify(execFile)(process.execPath, [PROGRAM, ...args], { timeout: TIMEOUT_MS })
  const numbers: unknown = JSON.parse(stdout.trim().split('\n').at(-1) ?? '')
  if (!Array.isArray(numbers) || !numbers.every((one) => typeof one === 'number'))
    throw new Error(`the Silero program printed ${stdout}`)
  return numbers
}
