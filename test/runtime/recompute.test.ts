/** `recompute` in every kind of training: the bits of a run that keeps its activations. */
import { describe, expect, test } from 'vitest'
import { GPT_PLAN, gpt } from '../../src/models/gpt.js'
import type { RecomputeOption } from '../../src/runtime/engines/recompute.js'
import { adam } from '../../src/runtime/optimizers/index.js'
import type { World } from '../../src/runtime/world.js'
import { asRanks, failures } from './ranks.js'

const [vocabulary, context, BATCH] = [16, 8, 4]
const model = () => gpt({ vocabulary, context, width: 16, heads: 2, depth: 3, seed: 1 })
const options = () => ({ loss: 'softmaxCrossEntropy', optimizer: adam(0.01), engine: 'onnx' }) as const

type Recompute = { readonly recompute: RecomputeOption }

const kinds = {
  ddp: (world: World, given: Recompute) => world.ddp(model(), { ...options(), ...given }),
  'ddp, segments': (world: World, given: Recompute) =>
    world.ddp(model(), { ...options(), overlap: 3, bucketBytes: 4096, ...given }),
  bfloat16: (world: World, given: Recompute) =>
    world.ddp(model(), { ...options(), precision: 'bfloat16', ...given }),
  'ZeRO 3': (world: World, given: Recompute) => world.ddp(model(), { ...options(), zero: 3, ...given }),
  'tensor parallelism': (world: World, given: Recompute) =>
    world.tensorParallel(model(), { ...options(), tp: 2, plan: GPT_PLAN, ...given }),
  '1f1b': (world: World, given: Recompute) => {
    const { engine, ...rest } = options()
    return world.pipeline(model(), { ...rest, microBatches: 2, ...given })
  },
}

/** Losses of two ranks, the second with batches of another size than the first. */
const losses = (kind: keyof typeof kinds, recompute: RecomputeOption) =>
  asRanks(2, async (world) => {
    const trainer = await kinds[kind](world, { recompute })
    const alike = kind === '1f1b' || kind === 'tensor parallelism'
    const rows = alike ? BATCH : BATCH - world.rank
    const tokens = (step: number, shift: number) => ({
      data: Int32Array.from({ length: rows * context }, (_, i) => (i * 7 + step * 3 + shift) % vocabulary),
      shape: [rows, context],
    })
    const found: number[] = []
    for (let step = 0; step < 2; step++)
      found.push((await trainer.step(tokens(step, 0), tokens(step, 1))).loss)
    return found
  })

test.each(Object.keys(kinds) as (keyof typeof kinds)[])('%s', async (kind) => {
  expect(await losses(kind, true)).toEqual(await losses(kind, false))
})

describe('what cannot be says so', () => {
  test.each([1, 2.5, Number.NaN])('%s segments', async (recompute) => {
    const [error] = await failures(1, (world) => kinds.ddp(world, { recompute }))
    expect(error!.message).toBe(
      `recompute is ${recompute}: expected true, or segments of the forward pass (2, 3, …)`,
    )
  })

  test('engine tfjs', async () => {
    const [error] = await failures(1, (world) =>
      world.ddp(model(), { ...options(), engine: 'tfjs', recompute: true }),
    )
    expect(error!.message).toBe('engine tfjs keeps all activations: leave recompute out, or use engine onnx')
  })
})
