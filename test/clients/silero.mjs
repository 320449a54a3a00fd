// Real inference of Silero VAD, as a program: `silero.mjs hub HOST CACHE` loads it with @huggingface/transformers from a Hub
// endpoint, `silero.mjs file PATH` with onnxruntime-node from the file. Prints the outputs for the same made sound as JSON.
import { AutoModel, env, Tensor as HubTensor } from '@huggingface/transformers'
import { Tensor as FileTensor, InferenceSession } from 'onnxruntime-node'

const FRAMES = 8
const FRAME_SAMPLES = 512
const SAMPLES_PER_SECOND = 16_000

const [mode, place, cache] = process.argv.slice(2)
const run = mode === 'hub' ? await fromHub(place, cache) : await fromFile(place)
console.log(JSON.stringify(await outputs(run)))

async function fromHub(remoteHost, cacheDir) {
  env.remoteHost = remoteHost
  env.allowLocalModels = false
  env.cacheDir = cacheDir
  const model = await AutoModel.from_pretrained('onnx-community/silero-vad', { dtype: 'fp32' })
  return { Tensor: HubTensor, infer: (inputs) => model(inputs) }
}

async function fromFile(path) {
  const session = await InferenceSession.create(path)
  return { Tensor: FileTensor, infer: (inputs) => session.run(inputs) }
}

/** The speech probability of each frame, then the last state: 8 + 256 numbers. */
async function outputs({ Tensor, infer }) {
  const sr = new Tensor('int64', BigInt64Array.of(BigInt(SAMPLES_PER_SECOND)), [1])
  let state = new Tensor('float32', new Float32Array(2 * 128), [2, 1, 128])
  const found = []
  for (let frame = 0; frame < FRAMES; frame += 1) {
    const input = new Tensor('float32', sound(frame), [1, FRAME_SAMPLES])
    const { output, stateN } = await infer({ input, state, sr })
    found.push(output.data[0])
    state = stateN
  }
  return [...found, ...state.data]
}

/** Something voice-like: a gliding tone with overtones under a slow swell. */
function sound(frame) {
  return Float32Array.from({ length: FRAME_SAMPLES }, (_, index) => {
    const seconds = (frame * FRAME_SAMPLES + index) / SAMPLES_PER_SECOND
    const pitch = 2 * Math.PI * (140 + 40 * seconds) * seconds
    const tone = Math.sin(pitch) + 0.5 * Math.sin(2 * pitch) + 0.3 * Math.sin(3 * pitch)
    return 0.3 * tone * (0.6 + 0.4 * Math.sin(25 * seconds))
  })
}
