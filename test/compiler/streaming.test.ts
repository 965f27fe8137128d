/** Programs whose variables are there for a while only: the same bits, with few places, each overwritten again and again. */
import * as tf from '@tensorflow/tfjs-core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { expect, test } from 'vitest'
import type { Numbers } from '../../src/compiler/graph.js'
import { Program } from '../../src/compiler/program.js'
import type { Streaming } from '../../src/compiler/streaming.js'
import { cnn } from '../../src/models/cnn.js'
import { gpt } from '../../src/models/gpt.js'
import { residualBlocks } from '../../src/models/resnet.js'
import { quietTensorflow } from '../../src/runtime/quiet-tensorflow.js'

quietTensorflow()

const CASES: readonly (readonly [string, () => LayersModel, number[], 'int32' | 'float32'])[] = [
  ['cnn', () => cnn({ seed: 1 }), [2, 28, 28, 1], 'float32'],
  ['residual blocks', () => residualBlocks({ seed: 1 }), [2, 16, 16, 16], 'float32'],
  ['gpt', () => gpt({ vocabulary: 32, context: 8, width: 16, heads: 2, depth: 2 }), [2, 8], 'int32'],
]

const bytes = ({ buffer, byteOffset, byteLength }: Float32Array) =>
  Buffer.from(buffer, byteOffset, byteLength)

test.each(CASES)('%s', async (_, make, shape, dtype) => {
  const model = make()
  const variables = (weights: LayersModel['weights']) => weights.map((weight) => weight.read() as tf.Variable)
  const trainable = variables(model.trainableWeights)
  const frozen = variables(model.nonTrainableWeights)
  const values = [...trainable, ...frozen].map((variable) => variable.dataSync().slice() as Float32Array)
  const numbers = Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => i)
  const x: Numbers =
    dtype === 'int32' ? Int32Array.from(numbers, (i) => i % 32) : Float32Array.from(numbers, Math.sin)
  /** Every second unit has two variables. */
  const units: number[][] = []
  for (let i = 0; i < trainable.length; ) {
    const unit = units.length % 2 ? [i, i + 1] : [i]
    units.push(unit.filter((position) => position < trainable.length))
    i += unit.length
  }
  const order = units.toReversed()

  async function pass(streamed?: { ahead: boolean }) {
    const gradients = trainable.map(({ size }) => new Float32Array(size))
    const made: number[][] = []
    const views = new Map<string, Float32Array>()
    const places = new Set<number>()
    const streaming: Streaming | undefined = streamed && {
      units,
      ahead: streamed.ahead,
      viewAt(variable, place) {
        const key = `${variable} ${place}`
        const view = views.get(key) ?? new Float32Array(trainable[variable]!.size)
        views.set(key, view)
        return view
      },
      async bring(unit, place) {
        places.add(place)
        await new Promise((resolve) => setImmediate(resolve))
        for (const [key, view] of views) if (key.endsWith(` ${place}`)) view.fill(Number.NaN)
        for (const variable of units[unit]!) views.get(`${variable} ${place}`)?.set(values[variable]!)
      },
    }
    const program = await Program.compile(
      {
        trainable,
        frozen,
        layers: [model],
        inputs: [{ shape, dtype }],
        body: ([input]) => [tf.mean(tf.square(model.apply(input!, { training: true }) as tf.Tensor))],
        params: values,
        gradients,
        streaming,
      },
      { threads: 1 },
    )
    for (let run = 0; run < 2; run++)
      await program.run([x], [], (positions) => {
        if (positions.length > 0) made.push([...positions])
      })
    const loss = program.outputs[0]!.data[0]
    await program.release()
    return { loss, gradients, made, places: places.size }
  }

  const plain = await pass()
  for (const ahead of [false, true]) {
    const { loss, gradients, made, places } = await pass({ ahead })
    expect(loss).toBe(plain.loss)
    for (const [i, gradient] of gradients.entries())
      expect(Buffer.compare(bytes(gradient), bytes(plain.gradients[i]!))).toBe(0)
    expect(made.map((positions) => positions.toSorted((a, b) => a - b))).toEqual([...order, ...order])
    expect(places).toBeLessThanOrEqual(ahead ? 6 : 4)
    expect(places).toBeLessThan(units.length)
  }
})
