/** What ranks cannot share is said in one line, before anything is trained. */
import { type LayersModel, layers, regularizers, sequential } from '@tensorflow/tfjs-layers'
import { expect, test } from 'vitest'
import { GPT_PLAN, gpt } from '../../../src/models/gpt.js'
import { mlp } from '../../../src/models/mlp.js'
import { adam, clipByGlobalNorm, lamb } from '../../../src/runtime/optimizers/index.js'
import type { TensorParallelOptions } from '../../../src/runtime/tensor-parallel/tensor-parallel.js'
import { failures, samples } from '../ranks.js'

const tiny = (heads: number, width = 12) =>
  gpt({ vocabulary: 8, context: 4, width, heads, depth: 1, seed: 1 })

/** features 6 → up 8 → … → down 3 */
const between = (...middle: layers.Layer[]) =>
  sequential({
    layers: [
      layers.dense({ inputShape: [6], units: 8, name: 'up' }),
      ...middle,
      layers.dense({ units: 3, name: 'down' }),
    ],
  })

const UP_DOWN = { up: 'column', down: 'row' } as const

type Wrong = Partial<TensorParallelOptions>

test.each<[string, () => LayersModel, Wrong, RegExp]>([
  [
    'heads that ranks cannot share',
    () => tiny(3),
    {},
    /^layer block0_attention has 3 heads for tp 2: 3 \/ 2 = 1\.5; /,
  ],
  [
    'units that ranks cannot share',
    () => between(),
    { tp: 3 },
    /^layer up has 8 units for tp 3: 8 \/ 3 = 2\.667; /,
  ],
  ['a number of ranks', () => tiny(4), { tp: 4 }, /^3 ranks with tp 4: 3 \/ 4 = 0\.75; /],
  [
    'a layer of another kind',
    () => tiny(2),
    { plan: { norm: 'row' } },
    /^layer norm \(LayerNormalization\) cannot be split by row: /,
  ],
  [
    'heads of another layer',
    () => mlp(),
    { plan: { '*': 'heads' } },
    /\(Flatten\) cannot be split by heads: /,
  ],
  [
    'a name that no layer has',
    () => between(),
    { plan: { left: 'row' } },
    /^the plan names left, .* up, down$/,
  ],
  [
    'a way that there is not',
    () => between(),
    { plan: { up: 'rows' as 'row' } },
    /"rows" of up: expected column, row, heads, vocabulary, sequence$/,
  ],
  ['an empty plan', () => between(), { plan: {} }, /^the plan is empty/],
  [
    'row without column',
    () => between(),
    { plan: { down: 'row' } },
    /^layer down is split by row and reads up, /,
  ],
  [
    'column without row',
    () => between(),
    { plan: { up: 'column' } },
    /^layer down \(Dense\) reads what up has split by column: /,
  ],
  [
    'a layer between that needs all units',
    () => between(layers.layerNormalization({ name: 'middle' })),
    {},
    /^layer middle \(LayerNormalization\) reads what up has split/,
  ],
  [
    'a softmax over units',
    () =>
      sequential({
        layers: [layers.dense({ inputShape: [6], units: 6, activation: 'softmax', name: 'up' })],
      }),
    { plan: { up: 'column' }, tp: 3 },
    /^layer up cannot be split by column: its softmax/,
  ],
  [
    'a regularizer',
    () =>
      sequential({
        layers: [
          layers.dense({ inputShape: [6], units: 6, name: 'up', kernelRegularizer: regularizers.l2() }),
        ],
      }),
    { plan: { up: 'column' }, tp: 3 },
    /^layer up cannot be split: its kernelRegularizer needs whole weights/,
  ],
  [
    'an optimizer of whole tensors',
    () => between(),
    { optimizer: lamb(0.1) },
    /^optimizer lamb takes norms over whole tensors/,
  ],
  [
    'an optimizer of whole models',
    () => between(),
    { optimizer: clipByGlobalNorm(adam(0.1), 1) },
    /^optimizer adam takes norms over whole models/,
  ],
  ['gradients sharded, too', () => between(), { zero: 2 }, /^zero is 2 with tp 2: expected 0 or 1/],
])('%s', async (_, make, options, message) => {
  const tp = options.tp ?? 2
  const ranks = tp === 4 ? 3 : tp
  const errors = await failures(ranks, (world) =>
    world.tensorParallel(make(), {
      tp,
      plan: make().name === 'gpt' ? GPT_PLAN : UP_DOWN,
      loss: 'softmaxCrossEntropy',
      optimizer: adam(0.1),
      ...options,
    }),
  )
  for (const error of errors) {
    expect(error.name).toBe('LockstepError')
    expect(error.message).toMatch(message)
  }
})

const share = (rest: Wrong = {}): TensorParallelOptions => ({
  tp: 2,
  plan: UP_DOWN,
  loss: 'softmaxCrossEntropy',
  optimizer: adam(0.1),
  ...rest,
})

test('ranks of a tp group with batches of their own', async () => {
  const errors = await failures(2, async (world) => {
    const trainer = await world.tensorParallel(between(), share())
    const { x, y } = samples(world.rank, world.rank + 4)
    await trainer.step(x, y)
  })
  for (const { message } of errors) expect(message).toMatch(/^the SHA-256 of a tp group's first batch is "/)
})

test('an engine that cannot sum over ranks', async () => {
  const errors = await failures(2, async (world) => {
    const trainer = await world.tensorParallel(between(), share({ engine: 'tfjs' }))
    const { x, y } = samples(0, 4)
    await trainer.step(x, y)
  })
  for (const { message } of errors)
    expect(message).toMatch(/^layer up is split over ranks, for which .* leave out engine tfjs$/)
})
