/** What the planner says on paper beside what ranks hold and send when they train so. */
import { mul, relu, sum, type Tensor, variable, zeros } from '@tensorflow/tfjs-core'
import { describe, expect, test } from 'vitest'
import { arenaBytes, keptBytes, livenessOf } from '../../../src/compiler/liveness.js'
import { trace } from '../../../src/compiler/trace.js'
import { GPT_PLAN, gpt } from '../../../src/models/gpt.js'
import { adam } from '../../../src/runtime/optimizers/index.js'
import { Estimator, type Mesh } from '../../../src/runtime/planner/estimate.js'
import { planFor } from '../../../src/runtime/planner/plan.js'
import type { World } from '../../../src/runtime/world.js'
import { asRanks } from '../ranks.js'

const [CONTEXT, BATCH] = [32, 16]
const options = { loss: 'softmaxCrossEntropy', optimizer: adam(1e-3) } as const
const model = () => gpt({ vocabulary: 64, context: CONTEXT, width: 64, heads: 4, depth: 2 })
const batch = (samples: number) => {
  const tokens = () => Int32Array.from({ length: samples * CONTEXT }, (_, i) => (i * 7) % 64)
  const shape = [samples, CONTEXT]
  return { x: { data: tokens(), shape }, y: { data: tokens(), shape } }
}
const subject = { ...options, model: model(), plan: GPT_PLAN, ...batch(1) }

function trainerOf(world: World, { dp, pp, tp, zero, microBatches }: Mesh) {
  const split = tp > 1 ? { tp, plan: GPT_PLAN } : {}
  if (pp > 1) return world.pipeline(model(), { ...options, dp, microBatches, zero: zero as 0 | 1, ...split })
  if (tp > 1) return world.tensorParallel(model(), { ...options, tp, plan: GPT_PLAN, zero })
  return world.ddp(model(), { ...options, zero, overlap: zero === 0 ? 1 : 'auto' })
}

const mesh = (given: Partial<Mesh>): Mesh => ({ dp: 1, pp: 1, tp: 1, zero: 0, microBatches: 1, ...given })
const within15 = (found: number, measured: number) => {
  expect(found / measured).toBeGreaterThan(0.85)
  expect(found / measured).toBeLessThan(1.15)
}

const more = [
  [mesh({})],
  [mesh({ dp: 4 })],
  [mesh({ dp: 2, zero: 1 })],
  [mesh({ dp: 2, zero: 2 })],
  [mesh({ dp: 4, zero: 3 })],
  [mesh({ dp: 2, pp: 2, microBatches: 2 })],
]
test.each([
  [mesh({ dp: 2, zero: 3 })],
  [mesh({ tp: 2 })],
  [mesh({ pp: 2, microBatches: 4 })],
  ...(process.env.SLOW ? more : []),
])('%o: state and bytes sent are within 15 percent of what is measured', async (shape) => {
  const paper = (await new Estimator(subject, BATCH).estimate(shape))!
  const ranks = await asRanks(shape.dp * shape.pp * shape.tp, async (world) => {
    const trainer = await trainerOf(world, shape)
    const { x, y } = batch(BATCH / shape.dp)
    await trainer.step(x, y)
    const before = world.collectives.bytesSent
    await trainer.step(x, y)
    return { sent: world.collectives.bytesSent - before, state: trainer.stateBytes }
  })
  const { parameters, gradients, optimizer } = paper.memory
  const state = parameters + gradients + optimizer
  within15(state, Math.max(...ranks.map((rank) => rank.state)))
  if (ranks.length > 1) within15(paper.bytesPerStep, Math.max(...ranks.map(({ sent }) => sent)))
  expect(paper.bubble).toBeCloseTo(shape.pp === 1 ? 0 : (shape.pp - 1) / (shape.microBatches + shape.pp - 1))
})

test('liveness: what is kept for the backward pass, and what an arena takes for all', async () => {
  const w = variable(zeros([256]))
  const graph = trace({
    trainable: [w],
    frozen: [],
    layers: [],
    inputs: [{ shape: [256], dtype: 'float32' }],
    // a = x * w; b = relu(a); c = b * b; d = sum(c)
    body: ([x]: Tensor[]) => {
      const b = relu(mul(x!, w))
      return [sum(mul(b, b))]
    },
  })
  w.dispose()
  const { values, lossAt } = await livenessOf(graph)
  // Of a, b and c the backward pass reads a or b: 1 KiB each.
  expect(keptBytes(values, lossAt)).toBeGreaterThanOrEqual(1024)
  expect(keptBytes(values, lossAt)).toBeLessThan(3 * 1024)
  const value = (bytes: number, madeAt: number, lastReadAt: number) => ({
    bytes,
    madeAt,
    lastReadAt,
    layer: '',
  })
  expect(arenaBytes([value(1024, 0, 1), value(1024, 1, 2), value(512, 2, 3)])).toBe(2048)
  // 768 bytes take the whole kilobyte that is free: what is left would be too little for a chunk of its own.
  const four = [value(1024, 0, 1), value(1024, 1, 5), value(768, 2, 4), value(256, 3, 4)]
  expect(arenaBytes(four)).toBe(2048 + 256)
})

describe('the recommendation', () => {
  const plan = (ranks: number, limit: number) => planFor('model.ts', subject, { ranks, limit, batch: BATCH })

  test('is the plainest that fits', async () => {
    const { recommended, meshes: all } = await plan(4, 2 ** 40)
    expect(recommended).toMatchObject({ dp: 4, zero: 0 })
    const plain = all.find(({ dp, zero }) => dp === 4 && zero === 0)!
    const sharded = all.find(({ dp, zero }) => dp === 4 && zero === 1)!
    const between = (plain.memory.total + sharded.memory.total) / 2
    expect((await plan(4, between)).recommended).toMatchObject({ dp: 4, zero: 1 })
  })

  test('where nothing fits says what would', async () => {
    const error: Error = await plan(2, 2 ** 20).catch((cause) => cause)
    expect(error.message).toMatch(
      /^plan: model.ts does not fit into 1MiB on any of 2 ranks with a batch of 16: the least is [\d.]+MiB with .*; give --memory [\d.]+MiB/,
    )
    const all = (await plan(2, 2 ** 40)).meshes
    const least = Math.min(...all.map(({ memory }) => memory.total))
    const smaller: Error = await plan(2, 0.8 * least).catch((cause) => cause)
    expect(smaller.message).toMatch(/, or --ranks 4$/)
  })
})
