/** Programs in segments: the same bits as in one piece, gradients in the order in which they are made. */

import * as tf from '@tensorflow/tfjs-core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { describe, expect, test } from 'vitest'
import type { Numbers } from '../../src/compiler/graph.js'
import { Program } from '../../src/compiler/program.js'
import { cnn } from '../../src/models/cnn.js'
import { gpt } from '../../src/models/gpt.js'
import { mlp } from '../../src/models/mlp.js'
import { residualBlocks } from '../../src/models/resnet.js'
import { quietTensorflow } from '../../src/runtime/quiet-tensorflow.js'
import { expectSame } from '../collectives/kernels/suite.js'

quietTensorflow()

interface Case {
  readonly name: string
  readonly model: () => LayersModel
  readonly shape: number[]
  readonly words?: number
}

const CASES: readonly Case[] = [
  { name: 'mlp', model: () => mlp({ seed: 1 }), shape: [4, 28, 28, 1] },
  { name: 'cnn', model: () => cnn({ seed: 1 }), shape: [2, 28, 28, 1] },
  { name: 'residual blocks', model: () => residualBlocks({ seed: 1 }), shape: [2, 16, 16, 16] },
  {
    name: 'gpt',
    model: () => gpt({ vocabulary: 32, context: 8, width: 16, heads: 2, depth: 2, seed: 1 }),
    shape: [2, 8],
    words: 32,
  },
]

/** One forward and backward pass in `segments` segments, each for as many gradients, the last first. */
async function pass({ model: make, shape, words }: Case, segments: number) {
  const model = make()
  const variables = (trainable: boolean) =>
    (trainable ? model.trainableWeights : model.nonTrainableWeights).map((w) => w.read() as tf.Variable)
  const [trainable, frozen] = [variables(true), variables(false)]
  const size = shape.reduce((a, b) => a * b)
  const x: Numbers = words
    ? Int32Array.from({ length: size }, (_, i) => (i * 7) % words)
    : Float32Array.from({ length: size }, (_, i) => Math.sin(i))
  const gradients = trainable.map((v) => new Float32Array(v.size))
  const program = await Program.compile(
    {
      trainable,
      frozen,
      layers: [model],
      inputs: [{ shape, dtype: words ? 'int32' : 'float32' }],
      body: ([input]) => {
        const y = model.apply(input!, { training: true }) as tf.Tensor
        return [tf.mean(tf.square(y))]
      },
      params: [...trainable, ...frozen].map((v) => v.dataSync() as Float32Array),
      gradients,
      segments: Array.from({ length: segments }, (_, i) =>
        gradients
          .map((_, at) => at)
          .filter((at) => Math.floor(((gradients.length - 1 - at) * segments) / gradients.length) === i),
      ),
    },
    { threads: 1 },
  )
  const order: number[][] = []
  for (let run = 0; run < 2; run++) {
    order.length = 0
    await program.run([x], [], (ready) => {
      order.push([...ready])
    })
  }
  const result = {
    loss: program.outputs[0]!.data[0],
    gradients,
    updates: program.updates.map((u) => u.value),
    order,
  }
  await program.release()
  return result
}

describe.each(CASES)('$name', (each) => {
  test('the same numbers, however many segments', async () => {
    const whole = await pass(each, 1)
    expect(whole.order).toEqual([expect.any(Array)])
    for (const count of [2, 4]) {
      const parts = await pass(each, count)
      expect(parts.order.length).toBe(count)
      expect(parts.order.flat().toSorted((a, b) => a - b)).toEqual(whole.gradients.map((_, i) => i))
      expect(parts.loss).toBe(whole.loss)
      expect(parts.updates).toEqual(whole.updates)
      for (const [i, gradient] of parts.gradients.entries()) expectSame(gradient, whole.gradients[i]!)
    }
  })
})

test('the last layers come first', async () => {
  const { order, gradients } = await pass(CASES[0]!, 3)
  expect(order[0]).toContain(gradients.length - 1)
  expect(order.at(-1)).toContain(0)
})
