/** Regularisers, constraints, shared and frozen weights, custom layers: a step beside the same by hand. */
import * as tf from '@tensorflow/tfjs-core'
import {
  constraints,
  initializers,
  input,
  type LayersModel,
  layers,
  model,
  regularizers,
  type SymbolicTensor,
  sequential,
} from '@tensorflow/tfjs-layers'
import { describe, expect, test } from 'vitest'
import { glorotFrom } from '../../src/models/seeds.js'
import { sgd } from '../../src/runtime/optimizers/index.js'
import { asRanks, samples } from './ranks.js'

const loss = 'softmaxCrossEntropy'
const RATE = 0.5

const weights = (of: LayersModel) => of.getWeights().map((w) => [...w.dataSync()])

/** One step of gradient descent with TensorFlow.js, regularisers and constraints included. @returns the loss */
function eagerStep(of: LayersModel): number {
  const { x, y } = samples(0, 8)
  return tf.tidy(() => {
    const variables = of.trainableWeights.map((weight) => weight.read() as tf.Variable)
    const { value, grads } = tf.variableGrads(() => {
      const logits = of.apply(tf.tensor(x.data, x.shape), { training: true }) as tf.Tensor
      const data = tf.losses.softmaxCrossEntropy(tf.oneHot(tf.tensor1d(y.data, 'int32'), 3), logits)
      return of.calculateLosses().reduce((sum, term) => tf.add(sum, term), data as tf.Scalar) as tf.Scalar
    }, variables)
    of.trainableWeights.forEach((weight, i) => {
      const updated = tf.sub(variables[i]!, tf.mul(grads[variables[i]!.name]!, RATE))
      variables[i]!.assign(weight.constraint ? weight.constraint.apply(updated) : updated)
    })
    return value.dataSync()[0]!
  })
}

/** Three steps on two ranks, half the samples each, and three by hand with all of them, end in the same weights. */
async function compareSteps(make: () => LayersModel): Promise<void> {
  const oracle = make()
  const losses = [1, 2, 3].map(() => eagerStep(oracle))
  const results = await asRanks(2, async (world) => {
    const own = make()
    const ddp = await world.ddp(own, { loss, optimizer: sgd(RATE) })
    const { x, y } = samples(world.rank * 4, world.rank * 4 + 4)
    const stepLosses: number[] = []
    for (let step = 0; step < 3; step++) stepLosses.push((await ddp.step(x, y)).loss)
    ddp.updateModel()
    return { stepLosses, weights: weights(own), sha: ddp.paramsSha256() }
  })
  expect(results[1]!.sha).toBe(results[0]!.sha)
  results[0]!.stepLosses.forEach((n, i) => {
    expect(n).toBeCloseTo(losses[i]!, 5)
  })
  results[0]!.weights.forEach((tensor, t) => {
    tensor.forEach((n, i) => {
      expect(n).toBeCloseTo(weights(oracle)[t]![i]!, 5)
    })
  })
}

type DenseArgs = Omit<Parameters<typeof layers.dense>[0], 'units'>

const withDense = (args: () => DenseArgs) => () => {
  const glorot = glorotFrom(1)
  const bias = glorotFrom(7)
  return sequential({
    layers: [
      layers.dense({
        inputShape: [6],
        units: 8,
        activation: 'relu',
        kernelInitializer: glorot(),
        biasInitializer: initializers.randomUniform({ minval: -1, maxval: 1, seed: 3 }),
        ...args(),
      }),
      layers.dense({ units: 3, kernelInitializer: bias() }),
    ],
  })
}

describe('regularisers', () => {
  test('l2 of a kernel', () =>
    compareSteps(withDense(() => ({ kernelRegularizer: regularizers.l2({ l2: 0.1 }) }))))
  test('l1 and l2 of kernel and bias', () =>
    compareSteps(
      withDense(() => ({
        kernelRegularizer: regularizers.l1l2({ l1: 0.01, l2: 0.02 }),
        biasRegularizer: regularizers.l1({ l1: 0.05 }),
      })),
    ))

  test('count in training, not in evaluation', async () => {
    await asRanks(1, async (world) => {
      const ddp = await world.ddp(withDense(() => ({ kernelRegularizer: regularizers.l2({ l2: 10 }) }))(), {
        loss,
        optimizer: sgd(0),
      })
      const { x, y } = samples(0, 8)
      const trained = (await ddp.step(x, y)).loss
      expect(trained).toBeGreaterThan(2 * (await ddp.evaluate([{ x, y }])).loss)
    })
  })
})

describe('constraints', () => {
  const kinds = {
    maxNorm: () => constraints.maxNorm({ maxValue: 0.5, axis: 0 }),
    unitNorm: () => constraints.unitNorm({ axis: 0 }),
    nonNeg: () => constraints.nonNeg(),
    minMaxNorm: () => constraints.minMaxNorm({ minValue: 0.3, maxValue: 0.6, rate: 0.7, axis: 1 }),
  }
  for (const [name, make] of Object.entries(kinds)) {
    test(`${name} of a kernel`, () => compareSteps(withDense(() => ({ kernelConstraint: make() }))))
  }

  test('of kernel and bias, with a regulariser', () =>
    compareSteps(
      withDense(() => ({
        kernelConstraint: kinds.unitNorm(),
        biasConstraint: kinds.nonNeg(),
        kernelRegularizer: regularizers.l2({ l2: 0.1 }),
      })),
    ))
})

/** w x + x² with one w a column. */
class Quadratic extends layers.Layer {
  static className = 'Quadratic'
  override build(inputShape: number[]): void {
    this.addWeight('w', [inputShape.at(-1)!], 'float32', initializers.ones(), regularizers.l2({ l2: 0.1 }))
    this.built = true
  }
  override computeOutputShape(inputShape: number[]): number[] {
    return inputShape
  }
  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    const [x] = Array.isArray(inputs) ? inputs : [inputs]
    return tf.add(tf.mul(x!, this.weights[0]!.read()), tf.square(x!))
  }
}

describe('weights', () => {
  test('of a layer used twice', () =>
    compareSteps(() => {
      const glorot = glorotFrom(2)
      const x = input({ shape: [6] })
      const shared = layers.dense({ units: 6, activation: 'tanh', kernelInitializer: glorot() })
      const twice = shared.apply(shared.apply(x)) as SymbolicTensor
      const scores = layers.dense({ units: 3, kernelInitializer: glorot() }).apply(twice) as SymbolicTensor
      return model({ inputs: x, outputs: scores })
    }))

  test('of a frozen layer stay', () => compareSteps(withDense(() => ({ trainable: false }))))

  test('of a custom layer with a regulariser', () =>
    compareSteps(() =>
      sequential({
        layers: [
          new Quadratic({ inputShape: [6] }),
          layers.dense({ units: 3, kernelInitializer: glorotFrom(3)() }),
        ],
      }),
    ))
})
