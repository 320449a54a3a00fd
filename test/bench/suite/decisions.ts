// Cases `hash` and `plan`: what runs on one thread for every chunk, each variant in a fresh process. The scripts themselves are in
// ../decisions, where they were made to decide something.
import { join } from 'node:path'
import { measureFresh } from '../decisions/rounds.ts'
import type { BenchCase } from './case.ts'
import type { Contestant } from './contest.ts'

const DECISIONS = join(import.meta.dirname, '../decisions')

function variant(script: string, name: string, figure: string, ours = false): Contestant {
  return {
    name,
    ours,
    run: async () => ({ [figure]: await measureFresh(join(DECISIONS, script), name) }),
  }
}

export const hashCase: BenchCase = {
  name: 'hash',
  about: 'digests of chunks of 4 MiB, on one thread',
  once: true,
  smoke: true,
  prepare: async ({ smoke }) => {
    const names = ['SHA-256, node:crypto', 'SHA-1, node:crypto', 'SHA-256, hash-wasm', 'BLAKE3, hash-wasm']
    return [
      {
        id: smoke ? 'hash-smoke' : 'hash',
        title: 'What a chunk is proven with, and what else there is',
        figures: [{ name: 'MB/s', better: 'more' }],
        contestants: [
          variant('hashing.ts', 'BLAKE3, native', 'MB/s', true),
          ...names.slice(0, smoke ? 1 : names.length).map((name) => variant('hashing.ts', name, 'MB/s')),
        ],
      },
    ]
  },
}

export const planCase: BenchCase = {
  name: 'plan',
  about: 'decisions about a blob of 35,000 chunks with 20 peers',
  once: true,
  smoke: true,
  prepare: async ({ smoke }) => [
    {
      id: smoke ? 'plan-smoke' : 'plan',
      title: 'Decisions a second, on one thread',
      figures: [{ name: 'a second', better: 'more' }],
      contestants: [
        variant('plan-calls.ts', 'decisions of the plan', 'a second', true),
        variant('plan-calls.ts', 'one look at every chunk', 'a second'),
      ],
      notes: [
        'A decision here is one call with the news that came before it: a chunk stored, a peer that gained one.',
      ],
    },
  ],
}
