/** Dropout in a compiled step: drawn anew for every key, kept in proportion, the same forward and backward. */
import * as tf from '@tensorflow/tfjs-core'
import { initializers, type LayersModel, layers } from '@tensorflow/tfjs-layers'
import { afterEach, describe, expect, test } from 'vitest'
import { type Batch, type Compiled, compileModel, sequentialOf } from './models.js'

type DropoutArgs = Parameters<typeof layers.dropout>[0]

const UNITS = 1000
const ROWS = 20

const ones = (shape: number[]): Batch['x'] => ({
  data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1),
  shape,
})
const batch: Batch = { x: ones([ROWS, UNITS]), y: { ...ones([ROWS, UNITS]), dtype: 'float32' } }

const open: { release(): unknown; model: LayersModel }[] = []
afterEach(async () => {
  for (const { release, model } of open.splice(0)) {
    await release()
    model.dispose()
  }
})

/** x · w with one w a column, at first 1: a weight to train before the dropout. */
class Scale extends layers.Layer {
  static className = 'Scale'
  override build(inputShape: number[]): void {
    this.addWeight('w', [inputShape.at(-1)!], 'float32', initializers.ones())
    this.built = true
  }
  override computeOutputShape(inputShape: number[]): number[] {
    return inputShape
  }
  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    const [x] = Array.isArray(inputs) ? inputs : [inputs]
    return tf.mul(x!, this.weights[0]!.read())
  }
}

/** Ones · w through dropout layers; the loss is the sum. */
async function compiled(args: readonly DropoutArgs[], training = true): Promise<Compiled> {
  const dropouts = args.map((each) => layers.dropout(each))
  const model = sequentialOf(new Scale({ inputShape: [UNITS] }), ...dropouts)
  const program = await compileModel(model, batch, (_, p) => tf.sum(p), training)
  open.push({ release: program.release, model })
  return program
}

const kept = (mask: Float32Array) => mask.filter((x) => x !== 0).length / mask.length

describe('dropout', () => {
  test('keeps 1 - rate of its input, scaled so that the mean stays', async () => {
    const program = await compiled([{ rate: 0.3 }])
    const { predictions } = await program.run([1, 0, 1])
    // Five standard errors of a share of 20,000.
    expect(Math.abs(kept(predictions) - 0.7)).toBeLessThan(5 * Math.sqrt((0.7 * 0.3) / predictions.length))
    for (const x of new Set(predictions)) expect([0, Math.fround(1 / 0.7)]).toContain(x)
  })

  test('depends on every part of the key, and on nothing else', async () => {
    const program = await compiled([{ rate: 0.5 }])
    const draws = []
    for (const key of [
      [1, 0, 1],
      [2, 0, 1],
      [1, 1, 1],
      [1, 0, 2],
      [1, 0, 1],
    ])
      draws.push((await program.run(key)).predictions)
    const [first, ...others] = draws
    expect(others.pop()).toEqual(first)
    for (const other of others) {
      const equal = other.filter((x, i) => x === first![i]).length / other.length
      expect(equal).toBeGreaterThan(0.45)
      expect(equal).toBeLessThan(0.55)
    }
  })

  test('a program compiled again draws the same', async () => {
    const [one, other] = [await compiled([{ rate: 0.5 }]), await compiled([{ rate: 0.5 }])]
    expect((await one.run([3, 1, 4])).predictions).toEqual((await other.run([3, 1, 4])).predictions)
  })

  test('no two rows of a batch and no two layers share a mask', async () => {
    const both = await compiled([{ rate: 0.5 }, { rate: 0.5 }])
    const draw = (await both.run([1])).predictions
    // Two independent halves keep a quarter; the same mask twice would keep half.
    expect(Math.abs(kept(draw) - 0.25)).toBeLessThan(0.02)
    expect(draw.subarray(0, UNITS)).not.toEqual(draw.subarray(UNITS, 2 * UNITS))
  })

  test('the gradient uses the mask of the forward pass', async () => {
    const program = await compiled([{ rate: 0.4 }])
    for (const key of [[1], [2]]) {
      const { predictions, gradients } = await program.run(key)
      const columns = Float32Array.from({ length: UNITS }, (_, c) =>
        Array.from({ length: ROWS }, (_, r) => predictions[r * UNITS + c]!).reduce((a, b) => a + b, 0),
      )
      // predictions = x · w · mask with x = w = 1, so that the gradient of w is the sum of each column.
      gradients[0]!.forEach((g, c) => {
        expect(g).toBeCloseTo(columns[c]!, 4)
      })
    }
  })

  test('a noise shape is one draw for all that it broadcasts to', async () => {
    const program = await compiled([{ rate: 0.5, noiseShape: [1, UNITS] }])
    const { predictions } = await program.run([1])
    expect(Math.abs(kept(predictions) - 0.5)).toBeLessThan(0.1)
    for (let r = 1; r < ROWS; r++) {
      expect(predictions.subarray(r * UNITS, (r + 1) * UNITS)).toEqual(predictions.subarray(0, UNITS))
    }
  })

  test('a seeded layer is redrawn like any other', async () => {
    const program = await compiled([{ rate: 0.5, seed: 1 }])
    expect((await program.run([1])).predictions).not.toEqual((await program.run([2])).predictions)
  })

  test('is off in evaluation, and at rate 0', async () => {
    const evaluation = await compiled([{ rate: 0.5 }], false)
    expect((await evaluation.run([1])).predictions).toEqual(batch.x.data)
    const zero = await compiled([{ rate: 0 }])
    expect((await zero.run([1])).predictions).toEqual(batch.x.data)
  })

  test('refuses a rate that keeps nothing', async () => {
    await expect(compiled([{ rate: 1 }])).rejects.toThrow(
      /^layer dropout_Dropout\d+ has a dropout rate of 1: expected less than 1$/,
    )
  })
})
