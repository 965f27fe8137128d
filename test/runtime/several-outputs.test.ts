/** Models of several inputs and outputs: trained like TensorFlow.js by hand, and what is refused at the door. */
import * as tf from '@tensorflow/tfjs-core'
import { input, type LayersModel, layers, model, type SymbolicTensor } from '@tensorflow/tfjs-layers'
import { describe, expect, test } from 'vitest'
import type { NdArray } from '../../src/data/dataset.js'
import { glorotFrom } from '../../src/models/seeds.js'
import type { Ddp } from '../../src/runtime/ddp.js'
import { sgd } from '../../src/runtime/optimizers/index.js'
import { asRanks, samples } from './ranks.js'

const LOSSES = ['softmaxCrossEntropy', 'meanSquaredError'] as const

/** [batch, 6] and [batch, 2] → [batch, 3] scores and [batch, 1]. */
function twoByTwo(): LayersModel {
  const glorot = glorotFrom(4)
  const dense = (units: number) => layers.dense({ units, kernelInitializer: glorot() })
  const [wide, narrow] = [input({ shape: [6] }), input({ shape: [2] })]
  const joined = layers.concatenate().apply([dense(4).apply(wide) as SymbolicTensor, narrow])
  const hidden = layers.reLU().apply(joined) as SymbolicTensor
  const outputs = [dense(3).apply(hidden), dense(1).apply(hidden)] as SymbolicTensor[]
  return model({ inputs: [wide, narrow], outputs })
}

/** Samples [from, to) for it: the narrow input is a part of the wide one, the second label its sum. */
function batch(from: number, to: number): { x: [NdArray, NdArray]; y: [NdArray, NdArray] } {
  const { x, y } = samples(from, to)
  const rows = to - from
  const narrow = Float32Array.from({ length: rows * 2 }, (_, i) => x.data[Math.floor(i / 2) * 6 + (i % 2)]!)
  const sums = Float32Array.from({ length: rows }, (_, i) =>
    Array.from(x.data.subarray(i * 6, i * 6 + 6)).reduce((a, b) => a + b, 0),
  )
  return {
    x: [x, { data: narrow, shape: [rows, 2] }],
    y: [y, { data: sums, shape: [rows, 1] }],
  }
}

const tensor = ({ data, shape }: NdArray) => tf.tensor(data, [...shape])

/** One step of gradient descent on the sum of both losses, with TensorFlow.js. @returns the loss */
function eagerStep(of: LayersModel): number {
  const { x, y } = batch(0, 8)
  return tf.tidy(() => {
    const variables = of.trainableWeights.map((weight) => weight.read() as tf.Variable)
    const { value, grads } = tf.variableGrads(() => {
      const [scores, sums] = of.apply(x.map(tensor), { training: true }) as [tf.Tensor, tf.Tensor]
      const labels = tf.oneHot(tf.tensor1d(y[0].data, 'int32'), 3)
      const first = tf.losses.softmaxCrossEntropy(labels, scores)
      return tf.add(first, tf.losses.meanSquaredError(tensor(y[1]), sums)) as tf.Scalar
    }, variables)
    for (const v of variables) v.assign(tf.sub(v, tf.mul(grads[v.name]!, 0.1)))
    return value.dataSync()[0]!
  })
}

test('two ranks train two inputs and two outputs as TensorFlow.js does with all samples', async () => {
  const oracle = twoByTwo()
  const losses = [1, 2, 3].map(() => eagerStep(oracle))
  const probe = batch(20, 24)
  const expected = tf.tidy(() =>
    (oracle.predict(probe.x.map(tensor)) as tf.Tensor[]).map((t) => [...t.dataSync()]),
  )
  const results = await asRanks(2, async (world) => {
    const ddp = await world.ddp(twoByTwo(), { loss: LOSSES, optimizer: sgd(0.1) })
    const { x, y } = batch(world.rank * 3, world.rank === 0 ? 3 : 8)
    const steps: number[] = []
    for (let i = 0; i < 3; i++) steps.push((await ddp.step(x, y)).loss)
    const { loss, accuracy, samples: count } = await ddp.evaluate([{ x, y }])
    return { steps, loss, accuracy, count, outputs: await ddp.predictAll(probe.x) }
  })
  results[0]!.steps.forEach((n, i) => {
    expect(n).toBeCloseTo(losses[i]!, 5)
  })
  expect(results[0]!.loss).toBeLessThan(losses[2]!)
  expect(results[0]!.accuracy).toBeUndefined()
  expect(results[0]!.count).toBe(8)
  results[0]!.outputs.forEach(({ data, shape }, i) => {
    expect(shape).toEqual([4, i === 0 ? 3 : 1])
    data.forEach((n, k) => {
      expect(n).toBeCloseTo(expected[i]![k]!, 5)
    })
  })
})

test('micro-batches accumulate, and one loss serves all outputs', async () => {
  await asRanks(1, async (world) => {
    const options = { loss: 'meanSquaredError', optimizer: sgd(0.1) } as const
    const targets = (from: number, to: number) => {
      const b = batch(from, to)
      const shape = [to - from, 3]
      const data = new Float32Array(shape[0]! * 3).map((_, i) => b.y[0].data[Math.floor(i / 3)]! + i)
      return { x: b.x, y: [{ data, shape }, b.y[1]] }
    }
    const [one, parts] = [await world.ddp(twoByTwo(), options), await world.ddp(twoByTwo(), options)]
    const whole = targets(0, 8)
    const rows = (array: NdArray, from: number, to: number): NdArray => {
      const width = array.data.length / array.shape[0]!
      return { data: array.data.slice(from * width, to * width), shape: [to - from, ...array.shape.slice(1)] }
    }
    const part = (from: number, to: number) => ({
      x: whole.x.map((a) => rows(a, from, to)),
      y: whole.y.map((a) => rows(a, from, to)),
    })
    await one.step(whole.x, whole.y)
    await parts.accumulate(part(0, 3).x, part(0, 3).y)
    await parts.step(part(3, 8).x, part(3, 8).y)
    const [a, b] = [await one.predictAll(whole.x), await parts.predictAll(whole.x)]
    a.forEach(({ data }, i) => {
      data.forEach((n, k) => {
        expect(b[i]!.data[k]).toBeCloseTo(n, 4)
      })
    })
  })
})

describe('refused', () => {
  const { x, y } = batch(0, 4)
  const refused = async (f: (ddp: Ddp) => Promise<unknown>) => {
    const [error] = await asRanks(1, async (world) => {
      const ddp = await world.ddp(twoByTwo(), { loss: LOSSES, optimizer: sgd(0.1) })
      return f(ddp).then(
        () => 'nothing',
        (thrown: Error) => thrown.message,
      )
    })
    return error
  }

  test('one input for two', async () => {
    expect(await refused((ddp) => ddp.step(x[0], y))).toBe(
      "the batch has 1 x for 2 of the model's inputs: expected an array of 2, in the order of the model's",
    )
  })
  test('three labels for two', async () => {
    expect(await refused((ddp) => ddp.step(x, [...y, y[0]]))).toMatch(
      /^the batch has 3 y for 2 of the model's outputs/,
    )
  })
  test('an input of another shape', async () => {
    expect(await refused((ddp) => ddp.step([x[1], x[1]], y))).toBe(
      "x[0] has shape [4, 2]: the model's input is [batch, 6]",
    )
  })
  test('inputs and labels of different lengths', async () => {
    const short = batch(0, 3)
    expect(await refused((ddp) => ddp.step([x[0], short.x[1]], y))).toMatch(
      /^the batch has 4 samples and 3 of another x/,
    )
    expect(await refused((ddp) => ddp.step(x, [y[0], short.y[1]]))).toMatch(
      /^the batch has 4 samples and 3 labels/,
    )
  })
  test('predict, where it would have to choose', async () => {
    expect(await refused((ddp) => ddp.predict(x))).toBe(
      'the model has 2 outputs: call predictAll() for all of them',
    )
  })
  test('losses that are neither one nor one for each', async () => {
    const [message] = await asRanks(1, (world) =>
      world.ddp(twoByTwo(), { loss: [...LOSSES, 'huberLoss'], optimizer: sgd(0.1) }).then(
        () => 'nothing',
        (thrown: Error) => thrown.message,
      ),
    )
    expect(message).toBe(
      'ddp() was given 3 losses for a model of 2 outputs: expected one for all, or one for each',
    )
  })
})
