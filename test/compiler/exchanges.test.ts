/** A program stops where a value is exchanged, and goes on with what it was exchanged for. */
import * as tf from '@tensorflow/tfjs-core'
import { expect, test } from 'vitest'
import { canExchange, exchanged } from '../../src/compiler/exchanges.js'
import { Program } from '../../src/compiler/program.js'
import { LockstepError } from '../../src/errors.js'
import { quietTensorflow } from '../../src/runtime/quiet-tensorflow.js'

quietTensorflow()

type Exchange = (data: Float32Array) => Promise<void>

const times =
  (factor: number): Exchange =>
  async (data) => {
    await Promise.resolve()
    for (let i = 0; i < data.length; i++) data[i]! *= factor
  }

/** Runs `body` on x = [1, 2, 3], twice, and gives what it returned. */
async function run(body: (x: tf.Tensor) => tf.Tensor[]): Promise<number[][]> {
  const program = await Program.compile(
    {
      trainable: [],
      frozen: [],
      layers: [],
      inputs: [{ shape: [3], dtype: 'float32' }],
      body: ([x]) => body(x!),
      params: [],
      gradients: [],
    },
    { threads: 1 },
  )
  try {
    await program.run([Float32Array.of(7, 8, 9)], [])
    await program.run([Float32Array.of(1, 2, 3)], [])
    return program.outputs.map(({ data }) => [...data])
  } finally {
    await program.release()
  }
}

test('what reads it reads the new numbers, what reads its source the old ones', async () => {
  const outputs = await run((x) => {
    const before = tf.add(x, 1)
    const after = exchanged(before, { name: 'a', exchange: times(10) })
    return [tf.mul(after, before), tf.sub(after, 1), before]
  })
  expect(outputs).toEqual([
    [40, 90, 160],
    [19, 29, 39],
    [2, 3, 4],
  ])
})

test('it may be an output, of an input too, and the last that there is', async () => {
  const outputs = await run((x) => [exchanged(x, { name: 'a', exchange: times(2) }), x])
  expect(outputs).toEqual([
    [2, 4, 6],
    [1, 2, 3],
  ])
})

test('one after the other, in the order of the trace; exchanges of one name are one', async () => {
  let count = 0
  const exchange: Exchange = async (data) => {
    count++
    await times(2)(data)
  }
  const outputs = await run((x) => {
    const once = exchanged(x, { name: 'a', exchange })
    const same = exchanged(x, { name: 'a', exchange })
    const other = exchanged(x, { name: 'b', exchange: times(-1) })
    return [exchanged(tf.add(once, same), { name: 'a', exchange: times(3) }), other]
  })
  expect(outputs).toEqual([
    [12, 24, 36],
    [-1, -2, -3],
  ])
  expect(count).toBe(2)
})

test('its error is the run’s', async () => {
  const failed = new LockstepError('rank 1 has left')
  const exchange = () => Promise.reject(failed)
  await expect(run((x) => [exchanged(x, { name: 'a', exchange })])).rejects.toBe(failed)
})

test('there are none while a backend computes', () => {
  expect(canExchange()).toBe(false)
})
