/** Every optimizer in a whole step: the same bits on all ranks and for all bucket sizes, clipping, masks, schedules. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as tf from '@tensorflow/tfjs-core'
import { describe, expect, test } from 'vitest'
import type { Ddp } from '../../src/runtime/ddp.js'
import * as optimizers from '../../src/runtime/optimizers/index.js'
import type { World } from '../../src/runtime/world.js'
import { variants } from './optimizers/cases.js'
import { asRanks, failures, samples, tinyModel } from './ranks.js'

const { adam, clipByGlobalNorm, cosine, lamb, linearWarmup, sgd } = optimizers
const loss = 'softmaxCrossEntropy'
type Given = Parameters<World['ddp']>[1]['optimizer']

async function train(world: World, ddp: Ddp, last: number): Promise<void> {
  while (ddp.stepCount < last) {
    const from = (ddp.stepCount * world.size + world.rank) * 4
    const { x, y } = samples(from, from + 4)
    await ddp.step(x, y)
  }
}

/** The hash of every rank's parameters after a few steps. */
function shas(size: number, optimizer: Given, bucketBytes = 4 * 2 ** 20): Promise<string[]> {
  return asRanks(size, async (world) => {
    const ddp = await world.ddp(tinyModel(), { loss, optimizer, bucketBytes })
    await train(world, ddp, 4)
    return ddp.paramsSha256()
  })
}

describe('the same bits on every rank and for every bucket size', () => {
  test.each(variants)('%s', async (_name, make) => {
    const [whole] = await shas(2, make(optimizers))
    for (const bucketBytes of [64, 192, 320]) {
      expect(await shas(2, make(optimizers), bucketBytes)).toEqual([whole, whole])
    }
    const [first, ...others] = await shas(3, make(optimizers), 128)
    expect(others).toEqual([first, first])
  })
})

test('clipping takes the norm of the mean gradient over all ranks', async () => {
  const maxNorm = 0.05
  const { x, y } = samples(0, 8)
  const expected = tf.tidy(() => {
    const model = tinyModel()
    const variables = model.trainableWeights.map((weight) => weight.read() as tf.Variable)
    const { grads } = tf.variableGrads(() => {
      const logits = model.apply(tf.tensor(x.data, x.shape)) as tf.Tensor
      return tf.losses.softmaxCrossEntropy(tf.oneHot(tf.tensor1d(y.data, 'int32'), 3), logits) as tf.Scalar
    }, variables)
    const norm = Math.hypot(...Object.values(grads).flatMap((grad) => [...grad.dataSync()]))
    expect(norm).toBeGreaterThan(2 * maxNorm)
    const rate = (0.5 * maxNorm) / (norm + 1e-6)
    for (const v of variables) v.assign(tf.sub(v, tf.mul(grads[v.name]!, rate)))
    return [...(model.predict(tf.tensor(x.data, x.shape)) as tf.Tensor).dataSync()]
  })
  for (const bucketBytes of [64, 1 << 20]) {
    await asRanks(2, async (world) => {
      const optimizer = clipByGlobalNorm(sgd(0.5), maxNorm)
      const ddp = await world.ddp(tinyModel(), { loss, optimizer, bucketBytes })
      const half = samples(world.rank * 4, world.rank * 4 + 4)
      await ddp.step(half.x, half.y)
      const { data } = await ddp.predict(x)
      expected.forEach((score, i) => {
        expect(Math.abs(data[i]! - score)).toBeLessThan(1e-6)
      })
    })
  }
})

test('a gradient that is not finite stops every rank before the update, when it is clipped by its norm', async () => {
  const errors = await failures(2, async (world) => {
    const w = tf.variable(tf.zeros([6]))
    const ddp = await world.ddp(
      { params: { w }, loss: ({ x }) => tf.mean(tf.sqrt(tf.mul(x, w))) },
      { optimizer: clipByGlobalNorm(adam(0.1), 1), bucketBytes: 64 },
    )
    const { x, y } = samples(0, 4)
    const before = ddp.paramsSha256()
    try {
      await ddp.step(x, y)
    } finally {
      expect(ddp.paramsSha256()).toBe(before)
      expect(ddp.stepCount).toBe(0)
    }
  })
  for (const { name, message } of errors) {
    expect(name).toBe('LockstepError')
    expect(message).toMatch(/^clipByGlobalNorm: the gradient norm of step 1 is (Infinity|NaN): .*$/)
  }
})

test('a mask is asked with names and shapes of whole parameters', async () => {
  for (const make of [optimizers.adamw, lamb, sgd, optimizers.lion]) {
    const asked = new Map<string, readonly number[]>()
    const mask = (name: string, shape: readonly number[]) => {
      asked.set(name, shape)
      return shape.length > 1
    }
    await shas(2, make(0.01, { weightDecay: 0.1, mask }), 64)
    expect(Object.fromEntries(asked)).toEqual({
      'hidden/kernel': [6, 8],
      'hidden/bias': [8],
      'scores/kernel': [8, 3],
      'scores/bias': [3],
    })
  }
})

test('an optimizer of TensorFlow.js trains as its equal', async () => {
  expect(await shas(2, tf.train.adam(0.01))).toEqual(await shas(2, adam(0.01, { epsilon: 1e-7 })))
  expect(await shas(2, tf.train.momentum(0.1, 0.8, true))).toEqual(
    await shas(2, optimizers.momentum(0.1, { momentum: 0.8, nesterov: true })),
  )
})

test('a resumed run goes on with its schedule; clipping may come and go', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'))
  const schedule = linearWarmup({ steps: 3, next: cosine({ lr: 0.1, steps: 5 }) })
  const start = (world: World, optimizer: Given = clipByGlobalNorm(lamb(schedule), 0.3)) =>
    world.ddp(tinyModel(), { loss, optimizer })
  try {
    const uninterrupted = await asRanks(2, async (world) => {
      const ddp = await start(world)
      await train(world, ddp, 6)
      return ddp.paramsSha256()
    })
    const resumed = await asRanks(2, async (world) => {
      const first = await start(world)
      await train(world, first, 4)
      await first.save(directory)
      const second = await start(world)
      await second.load(directory)
      await train(world, second, 6)
      const unclipped = await start(world, lamb(0.1))
      await unclipped.load(directory)
      expect(unclipped.stepCount).toBe(4)
      return second.paramsSha256()
    })
    expect(resumed).toEqual(uninterrupted)
  } finally {
    rmSync(directory, { recursive: true })
  }
})
