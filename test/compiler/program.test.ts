/** A compiled program and the caller's buffers: which are read and which are written, at every run. */
import '@tensorflow/tfjs-backend-cpu'
import * as tf from '@tensorflow/tfjs-core'
import '@tensorflow/tfjs-layers'
import { afterAll, describe, expect, test } from 'vitest'
import { Arena } from '../../src/collectives/kernels/arena.js'
import { Program, type ProgramRequest } from '../../src/compiler/program.js'
import { LockstepError } from '../../src/errors.js'

await tf.setBackend('cpu')

const w = tf.variable(tf.tensor([1, 2, 3]))
const frozen = tf.variable(tf.tensor([10]), false)
const unused = tf.variable(tf.tensor([5, 5]))
afterAll(() => tf.dispose([w, frozen, unused]))

/** Loss Σ x w f; the gradient of w is f Σ x over the batch. */
const request = (more: Partial<ProgramRequest> = {}) => ({
  trainable: [w, unused],
  frozen: [frozen],
  layers: [],
  inputs: [{ shape: [2, 3], dtype: 'float32' as const }],
  body: ([x]: tf.Tensor[]) => [tf.sum(tf.mul(tf.mul(x!, w), frozen)), tf.mul(x!, w)],
  params: [Float32Array.of(1, 2, 3), new Float32Array(2), Float32Array.of(10)],
  gradients: [new Float32Array(3), new Float32Array(2).fill(Number.NaN)],
  ...more,
})

const ones = new Float32Array(6).fill(1)

test('reads parameters at every run, and gives a variable without influence a gradient of zero', async () => {
  const { params, gradients, ...rest } = request()
  const program = await Program.compile({ ...rest, params, gradients }, { threads: 1 })
  const [loss, products] = program.outputs
  await program.run([ones], [])
  expect(loss).toEqual({ shape: [], data: Float32Array.of(120) })
  expect(products).toEqual({ shape: [2, 3], data: Float32Array.of(1, 2, 3, 1, 2, 3) })
  expect(gradients).toEqual([Float32Array.of(20, 20, 20), Float32Array.of(0, 0)])

  params[0]!.set([0, 0, 1])
  params[2]!.set([2])
  await program.run([ones.map((x) => 3 * x)], [])
  expect(loss!.data[0]).toBe(12)
  expect(gradients[0]).toEqual(Float32Array.of(12, 12, 12))
  await program.release()
})

test('buffers may be views of one WebAssembly memory', async () => {
  const arena = new Arena(4096)
  const params = [arena.alloc(3), arena.alloc(2), arena.alloc(1)]
  params[0]!.set([1, 2, 3])
  params[2]!.set([10])
  const gradients = [arena.alloc(3), arena.alloc(2)]
  const outputs = [arena.alloc(1), arena.alloc(6)]
  const program = await Program.compile(request({ params, gradients, outputs }), { threads: 1 })
  await program.run([ones], [])
  expect(outputs[0]![0]).toBe(120)
  expect([...gradients[0]!]).toEqual([20, 20, 20])
  expect(program.outputs[1]!.data.buffer).toBe(arena.memory.buffer)
  await program.release()
})

test('a variable that the body assigns is an update, and later reads see it', async () => {
  const program = await Program.compile(
    request({
      body: ([x]) => {
        frozen.assign(tf.add(frozen, 1))
        const loss = tf.sum(tf.mul(tf.mul(x!, w), frozen))
        frozen.assign(tf.mul(frozen, 2))
        return [loss]
      },
    }),
    { threads: 1 },
  )
  await program.run([ones], [])
  expect(program.outputs).toHaveLength(1)
  expect(program.outputs[0]!.data[0]).toBe(132)
  expect(program.updates).toEqual([{ param: 2, value: Float32Array.of(22) }])
  expect([...frozen.dataSync()]).toEqual([10])
  await program.release()
})

describe('numbers that index nothing are errors, also where onnxruntime would count from the end', () => {
  const lookUp: Record<string, (i: tf.Tensor) => tf.Tensor> = {
    gather: (i) => tf.gather(tf.ones([4, 2]), i as tf.Tensor1D),
    'gather of a batch': (i) => tf.gather(tf.ones([2, 4]), tf.reshape(i, [2, 1]), 1, 1),
    gatherND: (i) => tf.gatherND(tf.ones([4, 2]), tf.reshape(i, [2, 1])),
    scatterND: (i) => tf.scatterND(tf.reshape(i, [2, 1]), tf.ones([2]), [4]),
    tensorScatterUpdate: (i) => tf.tensorScatterUpdate(tf.zeros([4]), tf.reshape(i, [2, 1]), tf.ones([2])),
  }
  for (const [name, f] of Object.entries(lookUp)) {
    test(name, async () => {
      const program = await Program.compile(
        {
          trainable: [],
          frozen: [],
          layers: [],
          inputs: [{ shape: [2], dtype: 'int32' }],
          body: ([i]) => [f(i!)],
          params: [],
          gradients: [],
        },
        { threads: 1 },
      )
      await program.run([Int32Array.of(0, 3)], [])
      for (const wrong of [-1, 4]) {
        const error: Error = await program.run([Int32Array.of(0, wrong)], []).then(
          () => expect.fail('it ran'),
          (thrown) => thrown,
        )
        expect(error).toBeInstanceOf(LockstepError)
        expect(error.message).toMatch(
          /^an index (is negative or above 3, the last row|lies outside of its tensor)/,
        )
      }
      await program.release()
    })
  }
})
