// The two repos the demo (and end-to-end tests) put on a local Hub: the real Silero VAD model kept beside this file, and a
// sharded safetensors repo of any size that is made from a seed while it is read. Makes descriptions; serves nothing.
import { readdir, readFile } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  bytesContent,
  type Content,
  joinedContent,
  seededContent,
} from '@shoal/test/support/local-hub/content.ts'
import type { FileSource, RepoSpec } from '@shoal/test/support/local-hub/repos.ts'

export const SILERO_REPO = 'onnx-community/silero-vad'
export const SILERO_MODEL_PATH = 'onnx/model.onnx'
export const SILERO_MODEL_SHA256 = '2623a2953f6ff3d2c1e61740c6cdb7168133479b267dfef114a4a3cc5bdd788f'
/** The model file on this disk. */
export const SILERO_MODEL_FILE = fileURLToPath(
  new URL(`./models/silero-vad/${SILERO_MODEL_PATH}`, import.meta.url),
)

export async function sileroRepo(): Promise<RepoSpec> {
  const folder = fileURLToPath(new URL('./models/silero-vad/', import.meta.url))
  const files: Record<string, FileSource> = {}
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const file = join(entry.parentPath, entry.name)
    const path = relative(folder, file).split(sep).join('/')
    const bytes = await readFile(file)
    files[path] = path === SILERO_MODEL_PATH ? { lfs: bytes, sha256: SILERO_MODEL_SHA256 } : bytes
  }
  return {
    id: SILERO_REPO,
    files,
    info: { pipeline_tag: 'voice-activity-detection', library_name: 'transformers.js' },
  }
}

export interface ShardedShape {
  readonly id: string
  readonly seed: string | number
  readonly shards: number
  /** Of each shard, header included up to a few bytes. */
  readonly shardBytes: number
}

interface TensorSpec {
  readonly name: string
  readonly shape: readonly [number, number]
}

const HIDDEN = 1024
const VOCABULARY = 512
const BF16_BYTES = 2
const ROW_BYTES = HIDDEN * BF16_BYTES
const LAYER_PARTS = [
  'self_attn.q_proj',
  'self_attn.k_proj',
  'self_attn.v_proj',
  'self_attn.o_proj',
  'mlp.up_proj',
]

/** A repo as a sharded language model has it: valid safetensors shards, their index, config, tokenizer, README. */
export function shardedRepo(shape: ShardedShape): RepoSpec {
  const files: Record<string, FileSource> = {}
  const weightMap: Record<string, string> = {}
  let totalBytes = 0
  for (let shard = 1; shard <= shape.shards; shard += 1) {
    const number = (count: number) => String(count).padStart(5, '0')
    const path = `model-${number(shard)}-of-${number(shape.shards)}.safetensors`
    const tensors = shardTensors(shard, shape.shardBytes)
    for (const { name, shape: size } of tensors) {
      weightMap[name] = path
      totalBytes += tensorBytes(size)
    }
    files[path] = safetensors(tensors, `${shape.seed} ${shape.id} ${shard}`)
  }
  files['model.safetensors.index.json'] = json({
    metadata: { total_size: totalBytes },
    weight_map: weightMap,
  })
  files['config.json'] = json({
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: HIDDEN,
    num_hidden_layers: shape.shards,
    vocab_size: VOCABULARY,
    torch_dtype: 'bfloat16',
  })
  files['generation_config.json'] = json({ bos_token_id: 1, eos_token_id: 2 })
  files['tokenizer_config.json'] = json({
    tokenizer_class: 'LlamaTokenizer',
    bos_token: '<s>',
    eos_token: '</s>',
  })
  files['tokenizer.json'] = json({ version: '1.0', model: { type: 'BPE', vocab: vocabulary(), merges: [] } })
  files['README.md'] = `# ${shape.id}\n\nMade from the seed \`${shape.seed}\`: the bytes mean nothing.\n`
  return { id: shape.id, files, info: { pipeline_tag: 'text-generation', library_name: 'transformers' } }
}

/** Matrices of whole rows that fill the shard as nearly as rows can. */
function shardTensors(shard: number, shardBytes: number): readonly TensorSpec[] {
  const rows = Math.max(1, Math.floor(shardBytes / ROW_BYTES))
  const parts = Math.min(rows, LAYER_PARTS.length)
  return LAYER_PARTS.slice(0, parts).map((part, index) => ({
    name: `model.layers.${shard - 1}.${part}.weight`,
    shape: [Math.floor(rows / parts) + (index < rows % parts ? 1 : 0), HIDDEN],
  }))
}

/** 8 bytes of header length, the header in JSON padded to 8 bytes with spaces, then the tensors one after the other. */
function safetensors(tensors: readonly TensorSpec[], seed: string): Content {
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } }
  let offset = 0
  for (const { name, shape } of tensors) {
    const end = offset + tensorBytes(shape)
    header[name] = { dtype: 'BF16', shape, data_offsets: [offset, end] }
    offset = end
  }
  const text = JSON.stringify(header)
  const bytes = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(bytes.length))
  return joinedContent([bytesContent(Buffer.concat([length, bytes])), seededContent(seed, offset)])
}

function tensorBytes([rows, columns]: readonly [number, number]): number {
  return rows * columns * BF16_BYTES
}

function vocabulary(): Record<string, number> {
  return Object.fromEntries(Array.from({ length: VOCABULARY }, (_, index) => [`token${index}`, index]))
}

function json(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`
}
