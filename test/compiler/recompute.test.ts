/** Recomputed activations: the same bits as when they are kept, and less memory. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import '@tensorflow/tfjs-backend-cpu'
import * as tf from '@tensorflow/tfjs-core'
import { type LayersModel, layers } from '@tensorflow/tfjs-layers'
import { expect, test } from 'vitest'
import { exchanged } from '../../src/compiler/exchanges.js'
import type { KernelGraph, Numbers } from '../../src/compiler/graph.js'
import { lower } from '../../src/compiler/lower.js'
import { Program, type ProgramRequest } from '../../src/compiler/program.js'
import { recomputed } from '../../src/compiler/recompute.js'
import { simplify } from '../../src/compiler/simplify.js'
import { StageProgram } from '../../src/compiler/stage-program.js'
import { trace } from '../../src/compiler/trace.js'
import { gpt } from '../../src/models/gpt.js'
import { residualBlocks } from '../../src/models/resnet.js'
import { quietTensorflow } from '../../src/runtime/quiet-tensorflow.js'
import { sequentialOf } from './models.js'
import { peakBytes } from './peak.js'

quietTensorflow()

const smallGpt = (depth: number) => gpt({ vocabulary: 32, context: 16, width: 16, heads: 2, depth })
const dense = (rest = {}) => layers.dense({ units: 8, activation: 'tanh', ...rest })
const withDropout = () =>
  sequentialOf(
    dense({ inputShape: [8] }),
    layers.dropout({ rate: 0.5 }),
    dense(),
    layers.gaussianNoise({ stddev: 1 }),
    dense(),
    dense(),
  )

const CASES: Readonly<Record<string, readonly [() => LayersModel, number[], 'int32' | 'float32']>> = {
  gpt: [() => smallGpt(3), [2, 16], 'int32'],
  'residual blocks': [() => residualBlocks({ seed: 1 }), [2, 16, 16, 16], 'float32'],
  'dropout and noise': [withDropout, [4, 8], 'float32'],
}

function requestOf([make, shape, dtype]: (typeof CASES)[string]) {
  const model = make()
  const variables = (weights: LayersModel['weights']) => weights.map((weight) => weight.read() as tf.Variable)
  const [trainable, frozen] = [variables(model.trainableWeights), variables(model.nonTrainableWeights)]
  const params = [...trainable, ...frozen].map((variable) => variable.dataSync().slice() as Numbers)
  const gradients = trainable.map(({ size }) => new Float32Array(size))
  const numbers = Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => i)
  const x = dtype === 'int32' ? Int32Array.from(numbers, (i) => i % 32) : Float32Array.from(numbers, Math.sin)
  const body = ([input]: tf.Tensor[]) => [
    tf.mean(tf.square(model.apply(input!, { training: true }) as tf.Tensor)),
  ]
  return { trainable, frozen, layers: [model], inputs: [{ shape, dtype }], body, params, gradients, x }
}

async function numbersOf({ x, ...request }: ProgramRequest & { x: Numbers }): Promise<number[][]> {
  const program = await Program.compile(request, { threads: 1 })
  for (const key of [1, 2]) await program.run([x], [key])
  const numbers = [
    ...program.outputs.map(({ data }) => data),
    ...request.gradients,
    ...program.updates.map(({ value }) => value),
  ]
  await program.release()
  return numbers.map((array) => [...array])
}

test.each(Object.keys(CASES))('%s: the same bits, in one piece and in segments', async (name) => {
  const request = requestOf(CASES[name]!)
  const kept = await numbersOf(request)
  for (const recompute of [true, 2] as const) expect(await numbersOf({ ...request, recompute })).toEqual(kept)
  expect(await numbersOf({ ...request, recompute: true, segments: [[2], [1], [0]] })).toEqual(kept)
})

/** The graph of a training pass, and the same with activations recomputed. */
function graphsOf(given: (typeof CASES)[string]) {
  const { gradients, ...request } = requestOf(given)
  const kept = simplify(trace(request))
  const cut = (recompute: true | number) => recomputed(kept, { recompute, forward: kept.outputs.slice(0, 1) })
  return { kept, cut }
}

const peakOf = (graph: KernelGraph) => peakBytes(lower(graph))

test('a GPT of eight layers needs a third of the memory, and its kernels run once more at most', async () => {
  const { kept, cut } = graphsOf([
    () => gpt({ vocabulary: 32, context: 64, width: 32, heads: 4, depth: 8 }),
    [4, 64],
    'int32',
  ])
  const peak = await peakOf(kept)
  expect((await peakOf(cut(true))) / peak).toBeLessThan(0.36)
  expect((await peakOf(cut(2))) / peak).toBeLessThan(0.7)
  const products = ({ nodes }: KernelGraph) => nodes.filter(({ kernel }) => /MatMul/.test(kernel)).length
  expect(products(cut(true)) / products(kept)).toBeLessThan(4 / 3)
})

test('nothing is recomputed in one segment', () => {
  const { kept, cut } = graphsOf(CASES.gpt!)
  expect(cut(1).nodes.length).toBe(kept.nodes.length)
})

test('onnxruntime runs what is recomputed, each block when the backward pass gets there', async () => {
  const { x, ...request } = requestOf(CASES.gpt!)
  const directory = mkdtempSync(join(tmpdir(), 'recompute-'))
  const options = { threads: 1, profile: join(directory, 'profile') }
  const program = await Program.compile({ ...request, recompute: true }, options)
  await program.run([x], [])
  program.endProfiling()
  await program.release()
  const file = join(directory, readdirSync(directory)[0]!)
  const events: { cat: string; name: string }[] = JSON.parse(readFileSync(file, 'utf8'))
  rmSync(directory, { recursive: true })
  const kernels = events.filter(({ cat }) => cat === 'Node').map(({ name }) => name)
  const first = (part: string) => kernels.findIndex((name) => name.startsWith(part))
  const places = [
    'block0_up/',
    'block1_up/',
    'block1_up (recomputed)/',
    'block1_up (backward)/',
    'block0_up (recomputed)/',
    'block0_up (backward)/',
  ].map(first)
  expect(places).not.toContain(-1)
  expect(places).toEqual(places.toSorted((a, b) => a - b))
})

test('what is exchanged in the forward pass is exchanged once', async () => {
  const doubled = tf.customGrad((x) => {
    const value = exchanged(x as tf.Tensor, {
      name: 'a',
      exchange: async (data) => {
        exchanges++
        data.forEach((n, i) => {
          data[i] = 2 * n
        })
      },
    })
    return { value, gradFunc: (dy) => tf.mul(dy as tf.Tensor, 2) }
  })
  let exchanges = 0
  const w = tf.variable(tf.tensor([0.1, 0.2, 0.3, 0.4]))
  const layer = (x: tf.Tensor) => tf.mul(tf.tanh(x), w)
  const x = Float32Array.from({ length: 4096 }, (_, i) => Math.sin(i))
  const request = {
    trainable: [w],
    frozen: [],
    layers: [],
    inputs: [{ shape: [1024, 4], dtype: 'float32' as const }],
    body: ([input]: tf.Tensor[]) => [tf.mean(layer(layer(doubled(layer(layer(input!))))))],
    params: [w.dataSync().slice()],
    gradients: [new Float32Array(4)],
    x,
  }
  const kept = await numbersOf(request)
  expect(await numbersOf({ ...request, recompute: true })).toEqual(kept)
  expect(exchanges).toBe(4)
})

test('a stage keeps its input in a slot and little else, and gives the same bits', async () => {
  const depth = 4
  const model = sequentialOf(...Array.from({ length: depth }, () => dense({ inputShape: [8], units: 8 })))
  const weights = model.trainableWeights.map((weight) => weight.read() as tf.Variable)
  const stage = async (inFlight?: number) => {
    const x = tf.variable(tf.zeros([64, 8]))
    const gradients = [new Float32Array(512), ...weights.map(({ size }) => new Float32Array(size))]
    const program = await StageProgram.compile(
      {
        trainable: [x, ...weights],
        frozen: [],
        layers: [model],
        inputs: [{ shape: [64, 8], dtype: 'float32' }],
        params: [undefined, ...weights.map((weight) => weight.dataSync().slice())],
        gradients,
        body: ([dy]) => {
          const y = model.apply(x, { training: true }) as tf.Tensor
          return [tf.sum(tf.mul(y, dy!)), y]
        },
        ...(inFlight !== undefined && { recompute: { recompute: true, inFlight } as const }),
      },
      { threads: 1 },
    )
    const [given, upstream] = [1, 2].map((k) => Float32Array.from({ length: 512 }, (_, i) => Math.sin(k * i)))
    const pass = { slot: program.slot(), params: [given!] }
    const y = new Float32Array(512)
    await program.forward({ ...pass, inputs: [undefined] }, [y], [])
    await program.backward({ ...pass, inputs: [upstream!] }, [])
    await program.release()
    x.dispose()
    const bytes = [...pass.slot.carried.values()].reduce((sum, { byteLength }) => sum + byteLength, 0)
    return { bytes, numbers: [y, ...gradients].map((array) => [...array]) }
  }
  const kept = await stage()
  const again = await stage(100)
  expect(again.numbers).toEqual(kept.numbers)
  expect([kept.bytes, again.bytes]).toEqual([depth * 64 * 8 * 4, 0])
})
