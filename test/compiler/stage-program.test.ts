/** Forward and backward halves against a pass in one piece, with several passes between the two. */
import '@tensorflow/tfjs-backend-cpu'
import * as tf from '@tensorflow/tfjs-core'
import { layers } from '@tensorflow/tfjs-layers'
import { expect, test } from 'vitest'
import { exchanged } from '../../src/compiler/exchanges.js'
import { Program } from '../../src/compiler/program.js'
import { StageProgram } from '../../src/compiler/stage-program.js'

const options = { threads: 1 }
const weights = Float32Array.from({ length: 12 }, (_, i) => Math.sin(i))
const batches = [0, 1, 2].map((m) => Float32Array.from({ length: 8 }, (_, i) => Math.cos(i + 5 * m)))
const upstream = [0, 1, 2].map((m) => Float32Array.from({ length: 6 }, (_, i) => i - m))

/** y = tanh(x w) of x [2, 4] and w [4, 3]; the scalar sum(y dy) is what is differentiated. */
function request(x: tf.Variable, w: tf.Variable) {
  return {
    trainable: [x, w],
    frozen: [],
    layers: [],
    inputs: [{ shape: [2, 3], dtype: 'float32' as const }],
    body: ([dy]: tf.Tensor[]) => {
      const y = tf.tanh(tf.matMul(x as unknown as tf.Tensor2D, w as unknown as tf.Tensor2D))
      return [tf.sum(tf.mul(y, dy!)), y]
    },
  }
}

const variables = () => [tf.variable(tf.zeros([2, 4])), tf.variable(tf.zeros([4, 3]))] as const

/** y, and the gradients of x and w, of one batch at a time. */
async function inOnePiece(m: number) {
  const [x, w] = variables()
  const gradients = [new Float32Array(8), new Float32Array(12)]
  const program = await Program.compile(
    { ...request(x, w), params: [batches[m]!, weights], gradients },
    options,
  )
  await program.run([upstream[m]!], [])
  const y = [...program.outputs[1]!.data]
  await program.release()
  return { y, dx: [...gradients[0]!], dw: [...gradients[1]!] }
}

test('three passes in flight, ended in another order', async () => {
  const [x, w] = variables()
  const dw = new Float32Array(12).fill(0.5)
  const sum = dw.slice()
  const program = await StageProgram.compile(
    { ...request(x, w), params: [undefined, weights], gradients: [undefined, dw] },
    options,
  )
  const passes = batches.map((batch) => ({ slot: program.slot(), params: [batch], y: new Float32Array(6) }))
  // The gradient of what comes after is not known yet.
  for (const { y, ...pass } of passes) await program.forward({ ...pass, inputs: [undefined] }, [y], [])
  for (const m of [1, 2, 0]) {
    const { y, ...pass } = passes[m]!
    const dx = new Float32Array(8)
    await program.backward({ ...pass, inputs: [upstream[m]] }, [dx])
    const expected = await inOnePiece(m)
    expect([...y]).toEqual(expected.y)
    expect([...dx]).toEqual(expected.dx)
    sum.forEach((before, i) => {
      sum[i] = before + expected.dw[i]!
      expect(dw[i]).toBeCloseTo(sum[i]!, 5)
    })
  }
  await program.release()
})

test('random numbers of the forward half are those of its backward half', async () => {
  const x = tf.variable(tf.ones([1, 64]))
  const dropout = layers.dropout({ rate: 0.5 })
  const program = await StageProgram.compile(
    {
      trainable: [x],
      frozen: [],
      layers: [dropout],
      inputs: [],
      params: [undefined],
      gradients: [undefined],
      body: () => {
        const y = dropout.apply(x, { training: true }) as tf.Tensor
        return [tf.sum(y), y]
      },
    },
    options,
  )
  const ones = new Float32Array(64).fill(1)
  const passes = [1, 2].map((key) => ({ key, slot: program.slot(), y: new Float32Array(64) }))
  for (const { key, slot, y } of passes)
    await program.forward({ slot, params: [ones], inputs: [] }, [y], [key])
  expect(passes[0]!.y).not.toEqual(passes[1]!.y)
  for (const { slot, y } of passes) {
    const dx = new Float32Array(64)
    await program.backward({ slot, params: [ones], inputs: [] }, [dx])
    expect(dx).toEqual(y)
  }
  await program.release()
})

test('nothing to train: no backward half', async () => {
  const w = tf.variable(tf.ones([2]))
  const program = await StageProgram.compile(
    {
      trainable: [],
      frozen: [w],
      layers: [],
      inputs: [{ shape: [2], dtype: 'float32' }],
      params: [weights.subarray(0, 2)],
      gradients: [],
      body: ([x]) => [tf.sum(x!), tf.mul(x!, w)],
    },
    options,
  )
  const pass = { slot: program.slot(), params: [], inputs: [Float32Array.of(3, 4)] }
  const y = new Float32Array(2)
  await program.forward(pass, [y], [])
  await program.backward(pass, [])
  expect([...y]).toEqual([Math.fround(3 * weights[0]!), Math.fround(4 * weights[1]!)])
  await program.release()
})

test('values exchanged in both halves, and handed on as they are', async () => {
  const times = (factor: number) => async (data: Float32Array) => {
    data.forEach((n, i) => {
      data[i] = n * factor
    })
  }
  const operator = tf.customGrad((x) => ({
    value: exchanged(x as tf.Tensor, { name: 'forward', exchange: times(2) }),
    gradFunc: (dy: tf.Tensor) => exchanged(dy, { name: 'backward', exchange: times(3) }),
  }))
  const [x, w] = variables()
  const { body: _, ...plain } = request(x, w)
  const exchanging = {
    ...plain,
    body: ([dy]: tf.Tensor[]) => {
      const y = operator(tf.tanh(tf.matMul(x as unknown as tf.Tensor2D, w as unknown as tf.Tensor2D)))
      return [tf.sum(tf.mul(tf.square(y), dy!)), y]
    },
  }
  const dw = new Float32Array(12)
  const params = [undefined, weights]
  const program = await StageProgram.compile({ ...exchanging, params, gradients: [undefined, dw] }, options)
  const passes = batches.map((batch) => ({ slot: program.slot(), params: [batch], y: new Float32Array(6) }))
  for (const { y, ...pass } of passes) await program.forward({ ...pass, inputs: [undefined] }, [y], [])
  for (const m of [1, 2, 0]) {
    const { y, ...pass } = passes[m]!
    dw.fill(0)
    await program.backward({ ...pass, inputs: [upstream[m]] }, [new Float32Array(8)])
    const whole = new Float32Array(12)
    const gradients = [new Float32Array(8), whole]
    const one = await Program.compile({ ...exchanging, params: [batches[m]!, weights], gradients }, options)
    await one.run([upstream[m]!], [])
    expect([...y]).toEqual([...one.outputs[1]!.data])
    expect(y.some((n) => Math.abs(n) > 1)).toBe(true) // more than a tanh
    expect([...dw]).toEqual([...whole])
    await one.release()
  }
  await program.release()
})
