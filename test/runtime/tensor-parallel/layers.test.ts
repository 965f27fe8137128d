/** Models of one's own: what may lie between a dense layer split by column and one split by row, and heads of one's own. */
import * as tf from '@tensorflow/tfjs-core'
import {
  initializers,
  input,
  type LayersModel,
  type LayerVariable,
  layers,
  model,
  type SymbolicTensor,
} from '@tensorflow/tfjs-layers'
import { expect, test } from 'vitest'
import { glorotFrom } from '../../../src/models/seeds.js'
import { momentum } from '../../../src/runtime/optimizers/index.js'
import type { SplitPlan } from '../../../src/runtime/tensor-parallel/plan.js'
import { joined, type Split, sliceOf } from '../../../src/runtime/tensor-parallel/slices.js'
import type { HeadsLayer } from '../../../src/runtime/tensor-parallel/styles.js'
import { asRanks, samples } from '../ranks.js'

/** Losses of eight steps and the weights after them. */
async function train(ranks: number, make: () => LayersModel, plan: SplitPlan) {
  const [first, ...others] = await asRanks(ranks, async (world) => {
    const own = make()
    const loss = 'softmaxCrossEntropy'
    const trainer = await world.tensorParallel(own, { tp: ranks, plan, loss, optimizer: momentum(0.05) })
    const losses: number[] = []
    for (let step = 0; step < 8; step++) {
      const { x, y } = samples(step * 8, step * 8 + 8)
      losses.push((await trainer.step(x, y)).loss)
    }
    await trainer.updateModel()
    return { losses, weights: own.weights.flatMap((weight) => [...weight.read().dataSync()]) }
  })
  for (const other of others) expect(other).toEqual(first)
  return first!
}

async function expectAsAlone(make: () => LayersModel, plan: SplitPlan, ranks = 2) {
  const [alone, shared] = [await train(1, make, plan), await train(ranks, make, plan)]
  shared.losses.forEach((loss, i) => {
    expect(Math.abs(loss / alone.losses[i]! - 1)).toBeLessThan(1e-4)
  })
  shared.weights.forEach((weight, i) => {
    expect(Math.abs(weight - alone.weights[i]!)).toBeLessThan(1e-4)
  })
  expect(alone.losses.at(-1)).not.toBe(alone.losses[0])
}

const apply = (layer: layers.Layer, x: SymbolicTensor | SymbolicTensor[]) => layer.apply(x) as SymbolicTensor

test('a gated layer: two split by column, multiplied, split by row; a bias and an activation behind the sum', () =>
  expectAsAlone(
    () => {
      const glorot = glorotFrom(1)
      const dense = (units: number, name: string, rest = {}) =>
        layers.dense({ units, name, kernelInitializer: glorot(), biasInitializer: 'ones', ...rest })
      const x = input({ shape: [6] })
      const gate = apply(layers.activation({ activation: 'swish' }), apply(dense(8, 'gate'), x))
      const up = apply(layers.leakyReLU(), apply(dense(8, 'up', { activation: 'relu' }), x))
      const down = apply(dense(5, 'down', { activation: 'tanh' }), apply(layers.multiply(), [gate, up]))
      return model({ inputs: x, outputs: apply(dense(3, 'scores'), down) })
    },
    { gate: 'column', up: 'column', down: 'row' },
    4,
  ))

/** Each head takes a mean of the features weighed by a softmax of its own. */
class Pool extends layers.Layer implements HeadsLayer {
  static readonly className = 'TestPool'
  readonly heads = 4
  readonly splitByHeads = { weigh: { axis: 0 }, out: { axis: 0 } }
  private weigh!: LayerVariable
  private out!: LayerVariable
  private bias!: LayerVariable

  override build(shape: number[]): void {
    const uniform = (seed: number) => initializers.randomUniform({ minval: -1, maxval: 1, seed })
    this.weigh = this.addWeight('weigh', [this.heads, shape.at(-1)!], 'float32', uniform(1))
    this.out = this.addWeight('out', [this.heads, 3], 'float32', uniform(2))
    this.bias = this.addWeight('bias', [3], 'float32', uniform(3))
    this.built = true
  }

  override computeOutputShape(): number[] {
    return [null as unknown as number, 3]
  }

  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    const x = (Array.isArray(inputs) ? inputs[0]! : inputs) as tf.Tensor2D
    const means = tf.matMul(x, tf.softmax(this.weigh.read()) as tf.Tensor2D, false, true)
    return tf.add(this.sumOverRanks(tf.matMul(means, this.out.read() as tf.Tensor2D)), this.bias.read())
  }

  sumOverRanks(x: tf.Tensor): tf.Tensor {
    return x
  }
}

test('heads of one’s own', () =>
  expectAsAlone(
    () => {
      const x = input({ shape: [6] })
      const features = layers.dense({ units: 6, kernelInitializer: glorotFrom(2)() })
      return model({ inputs: x, outputs: apply(new Pool({ name: 'pool' }), apply(features, x)) })
    },
    { pool: 'heads' },
  ))

test('the model is as it was while nothing is computed', async () => {
  await asRanks(2, async (world) => {
    const own = layers.dense({ inputShape: [6], units: 8, name: 'up' })
    const down = layers.dense({ units: 3, name: 'down' })
    const x = input({ shape: [6] })
    const whole = model({ inputs: x, outputs: apply(down, apply(own, x)) })
    const plan = { up: 'column', down: 'row' } as const
    const options = { tp: 2, plan, loss: 'softmaxCrossEntropy', optimizer: momentum(0.05) } as const
    const trainer = await world.tensorParallel(whole, options)
    const { x: features, y } = samples(0, 8)
    const before = whole.predict(tf.tensor2d(features.data, [8, 6])) as tf.Tensor
    const predicted = await trainer.predict(features)
    before.dataSync().forEach((n, i) => {
      expect(n).toBeCloseTo(predicted.data[i]!, 5)
    })
    await trainer.step(features, y)
    expect([...Object.keys(own), ...Object.keys(down)]).not.toContain('call')
    expect(own.weights.map(({ shape }) => shape)).toEqual([[6, 8], [8]])
    expect(down.inputSpec).not.toEqual([])
  })
})

test.each<[number[], Split]>([
  [[4, 6], { axis: 0 }],
  [[4, 6], { axis: 1 }],
  [[3, 12], { axis: 1, groups: 3 }],
  [[2, 4, 3], { axis: 1, groups: 2 }],
])('slices of %j by %j are a partition', (shape, split) => {
  const size = shape.reduce((a, b) => a * b)
  const whole = Float32Array.from({ length: size }, (_, i) => i)
  const slices = [0, 1].flatMap((rank) => [...sliceOf(whole, shape, split, rank, 2)])
  expect(slices.toSorted((a, b) => a - b)).toEqual([...whole])
  expect(joined(Float32Array.from(slices), shape, split, 2)).toEqual(whole)
})

test('a slice along groups has a part of each', () => {
  const whole = Float32Array.from({ length: 12 }, (_, i) => i)
  expect([...sliceOf(whole, [12], { axis: 0, groups: 3 }, 1, 2)]).toEqual([2, 3, 6, 7, 10, 11])
})
