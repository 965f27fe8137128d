/** Mixed precision: which nodes compute in 16 bits, what that does to numbers, segments, and variables kept in 16 bits. */
import * as tf from '@tensorflow/tfjs-core'
import { type LayersModel, layers, sequential } from '@tensorflow/tfjs-layers'
import { describe, expect, test } from 'vitest'
import { fromHalf, toHalf } from '../../src/collectives/kernels/half.js'
import { Bfloat16Bits, Float16Bits, type HalfArray } from '../../src/collectives/kernels/half-arrays.js'
import { type Autocast, autocast } from '../../src/compiler/autocast.js'
import type { Numbers } from '../../src/compiler/graph.js'
import { keptInHalf } from '../../src/compiler/half-storage.js'
import { lower } from '../../src/compiler/lower.js'
import { autocastOn } from '../../src/compiler/precision.js'
import { Program, type ProgramRequest } from '../../src/compiler/program.js'
import { simplify } from '../../src/compiler/simplify.js'
import { trace } from '../../src/compiler/trace.js'
import { gpt } from '../../src/models/gpt.js'
import { glorotFrom } from '../../src/models/seeds.js'
import { l2Norm } from '../../src/runtime/optimizers/norm.js'
import { quietTensorflow } from '../../src/runtime/quiet-tensorflow.js'
import { expectSame } from '../collectives/kernels/suite.js'

quietTensorflow()

const ROUNDED = { type: 'float16', native: false } as const
const NATIVE = { type: 'float16', native: true } as const

interface Case {
  readonly model: () => LayersModel
  readonly shape: number[]
  readonly words?: number
}

/** Of channels that fill blocks, too. */
function convolutions(): LayersModel {
  const glorot = glorotFrom(1)
  const conv = (rest: object) =>
    layers.conv2d({ filters: 16, kernelSize: 3, activation: 'relu', kernelInitializer: glorot(), ...rest })
  return sequential({
    layers: [
      conv({ inputShape: [12, 12, 3] }),
      conv({ padding: 'same' }),
      layers.maxPooling2d({ poolSize: 2 }),
      layers.flatten(),
      layers.dense({ units: 10, kernelInitializer: glorot() }),
    ],
  })
}

const CNN: Case = { model: convolutions, shape: [2, 12, 12, 3] }
const GPT: Case = {
  model: () => gpt({ vocabulary: 32, context: 8, width: 16, heads: 2, depth: 2, seed: 1 }),
  shape: [2, 8],
  words: 32,
}

function requestOf({ model: make, shape, words }: Case) {
  const model = make()
  const trainable = model.trainableWeights.map((w) => w.read() as tf.Variable)
  const size = shape.reduce((a, b) => a * b)
  const x: Numbers = words
    ? Int32Array.from({ length: size }, (_, i) => (i * 7) % words)
    : Float32Array.from({ length: size }, (_, i) => Math.sin(i))
  const request: ProgramRequest = {
    ...{ trainable, frozen: [], layers: [model] },
    inputs: [{ shape, dtype: words ? 'int32' : 'float32' }],
    body: ([input]) => [tf.mean(tf.square(model.apply(input!, { training: true }) as tf.Tensor))],
    params: trainable.map((v) => v.dataSync() as Float32Array),
    gradients: trainable.map((v) => new Float32Array(v.size)),
  }
  return { request, x }
}

const WHOLE: readonly (readonly number[])[] = [[]]
const PIECES = [[2], [1], [0]]

/** The gradients of one pass, one tensor after the other. */
async function pass(given: Case, casting: Autocast | undefined, segments = WHOLE): Promise<Float32Array[]> {
  const { request, x } = requestOf(given)
  const program = await Program.compile({ ...request, autocast: casting, segments }, { threads: 1 })
  await program.run([x], [])
  await program.release()
  return [...request.gradients] as Float32Array[]
}

/** The difference of the tensors that differ most, as a share of their norm. */
function apart(a: readonly Float32Array[], b: readonly Float32Array[]): number {
  return Math.max(
    ...a.map((tensor, i) => l2Norm(tensor.map((value, j) => value - b[i]![j]!)) / l2Norm(tensor)),
  )
}

describe.each([
  ['float16', 2 ** 11],
  ['bfloat16', 2 ** 8],
] as const)('%s on the cpu provider', (type, steps) => {
  /** To the nearest number with so many steps to the next power of two. */
  const rounded = (n: number) => {
    const unit = 2 ** Math.floor(Math.log2(Math.abs(n))) / (steps / 2)
    return Math.round(n / unit) * unit
  }

  test('operands and result of a product are rounded, nothing else', async () => {
    const w = tf.variable(tf.tensor([1.00123, -0.70707], [2, 1]))
    const x = Float32Array.of(0.30303, 0.90909)
    const program = await Program.compile(
      {
        ...{ trainable: [], frozen: [w], layers: [], gradients: [], params: [w.dataSync() as Float32Array] },
        inputs: [{ shape: [1, 2], dtype: 'float32' }],
        body: ([input]) => {
          const product = tf.matMul(input as tf.Tensor2D, w as tf.Tensor2D)
          return [product, tf.exp(product), tf.sum(input!)]
        },
        autocast: { type, native: false },
      },
      { threads: 1 },
    )
    await program.run([x], [])
    const [product, exp, sum] = program.outputs.map(({ data }) => data[0]!)
    const exact =
      rounded(x[0]!) * rounded(Math.fround(1.00123)) + rounded(x[1]!) * rounded(Math.fround(-0.70707))
    expect(product).toBe(rounded(exact))
    expect(exp).toBeCloseTo(Math.exp(rounded(exact)), 6)
    expect(sum).toBeCloseTo(x[0]! + x[1]!, 6)
  })

  test.each([
    ['convolutions', CNN],
    ['gpt', GPT],
  ])('%s: gradients near to float32, and the same bits in segments', async (_, given) => {
    const casting = { type, native: false }
    const whole = await pass(given, casting)
    const difference = apart(await pass(given, undefined), whole)
    expect(difference).toBeGreaterThan(1e-5)
    expect(difference).toBeLessThan(type === 'float16' ? 0.05 : 0.2)
    const pieces = await pass(given, casting, PIECES)
    for (const [i, gradient] of pieces.entries()) expectSame(gradient, whole[i]!)
  })
})

test('a provider of 16-bit kernels gets nodes of that type, whole and in segments', async () => {
  // The cpu provider takes them, too: it puts casts of its own around them, and takes ours away.
  for (const given of [CNN, GPT]) {
    const exact = await pass(given, undefined)
    expect(apart(exact, await pass(given, NATIVE))).toBeLessThan(0.05)
    expect(apart(exact, await pass(given, NATIVE, PIECES))).toBeLessThan(0.05)
  }
})

test('softmax, norms, losses and sums compute in float32, a mask of -1e9 too', () => {
  const { nodes, onnx } = autocast(lower(simplify(trace(requestOf(GPT).request)), undefined, true), NATIVE)
  const isHalf = (name: string) => name.endsWith('/half')
  const inHalf = new Set(nodes.filter(({ inputs }) => inputs.some(isHalf)).map(({ op }) => op))
  for (const op of ['MatMul', 'Gemm', 'Add', 'Reshape', 'Transpose']) expect(inHalf).toContain(op)
  for (const op of ['Softmax', 'LayerNormalization', 'Gelu', 'ReduceSum', 'ReduceMean', 'Exp', 'Sqrt'])
    expect(inHalf).not.toContain(op)
  const cast = new Set(nodes.filter(({ op }) => op === 'Cast').flatMap(({ inputs }) => inputs))
  const masks = onnx.constants.filter(
    ({ type, bytes }) =>
      type === 'float32' && new Float32Array(bytes.slice().buffer).some((value) => value === -1e9),
  )
  expect(masks).toHaveLength(1)
  expect(cast).not.toContain(masks[0]!.name)
})

test('casts are named after the layer that they are for, as a profile expects', () => {
  const { nodes } = autocast(lower(simplify(trace(requestOf(GPT).request))), ROUNDED)
  const ours = nodes.filter(({ outputs: [name] }) => /\/(half|rounded|exact)$/.test(name!))
  const names = ours.filter(({ op }) => op === 'Cast').map(({ name }) => name!)
  for (const name of names) expect(name).toMatch(/^(.+\/)?Cast#\d+$/)
  expect(names.some((name) => name.startsWith('block0_attention (backward)/Cast#'))).toBe(true)
})

test('a sum that is written as a product with ones stays in float32', () => {
  const { nodes } = autocast(lower(simplify(trace(requestOf(GPT).request))), ROUNDED)
  const sums = nodes.filter(({ op, inputs }) => op === 'MatMul' && /^c\d+$/.test(inputs[0]!))
  expect(sums.length).toBeGreaterThan(0)
  for (const { inputs } of sums) expect(inputs[1]).not.toMatch(/rounded/)
})

test('the cpu provider rounds, float32 casts nothing', async () => {
  expect(await autocastOn('cpu', 'float32')).toBeUndefined()
  expect(await autocastOn('cpu', 'bfloat16')).toEqual({ type: 'bfloat16', native: false })
})

describe.each([
  ['float16', Float16Bits],
  ['bfloat16', Bfloat16Bits],
] as const)('variables and gradients kept in %s', (type, Bits) => {
  const narrowed = (values: Float32Array) => {
    const bits = new Bits(values.length)
    toHalf(bits, values)
    return bits
  }
  const widened = (bits: HalfArray) => {
    const values = new Float32Array(bits.length)
    fromHalf(values, bits)
    return values
  }

  test.each([
    ['convolutions', CNN],
    ['gpt', GPT],
  ])('%s: the gradients of rounded variables, rounded, whole and in segments', async (_, given) => {
    const { request, x } = requestOf(given)
    const bits = request.params.map((values) => narrowed(values as Float32Array))
    const run = async (casting: Autocast, of: Partial<ProgramRequest>) => {
      const program = await Program.compile({ ...request, autocast: casting, ...of }, { threads: 1 })
      await program.run([x], [])
      await program.release()
    }
    const rounding = { type, native: false }
    await run(rounding, { params: bits.map(widened) })
    const expected = request.gradients.map((values) => narrowed(values as Float32Array))
    const gradients = request.gradients.map(({ length }) => new Bits(length))
    for (const segments of [WHOLE, PIECES]) {
      await run(rounding, { params: bits, gradients, segments })
      expect(gradients).toEqual(expected)
    }
    if (type === 'bfloat16') return // in which the cpu provider takes no products
    await run({ type, native: true }, { params: bits, gradients, segments: PIECES })
    expect(apart(expected.map(widened), gradients.map(widened))).toBeLessThan(0.05)
  })

  test('nobody rounds them again', () => {
    const graph = simplify(trace(requestOf(GPT).request))
    const whole = lower(graph, undefined, true)
    const kept = { params: new Set(whole.params), gradients: new Set<string>() }
    for (const native of [true, false]) {
      const { nodes } = keptInHalf(autocast(whole, { type, native }), kept, type)
      const readers = nodes.filter(({ inputs }) => inputs.some((name) => kept.params.has(name)))
      const casts = readers.filter(({ op }) => op === 'Cast')
      expect(new Set(casts.flatMap(({ inputs }) => inputs)).size).toBe(casts.length)
      expect(casts.map(({ attributes }) => attributes.to)).toEqual(casts.map(() => 1))
      if (!native) expect(casts).toHaveLength(readers.length)
    }
  })
})
