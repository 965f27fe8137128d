/** The printed kernel graph, and the rewrites that make it smaller without changing what it computes. */
import '@tensorflow/tfjs-backend-cpu'
import * as tf from '@tensorflow/tfjs-core'
import { layers } from '@tensorflow/tfjs-layers'
import { describe, expect, test } from 'vitest'
import { type KernelGraph, printGraph } from '../../src/compiler/graph.js'
import { simplify } from '../../src/compiler/simplify.js'
import { trace } from '../../src/compiler/trace.js'
import { compare, floats, type TensorFunction } from './harness.js'
import { sequentialOf, trainableOf } from './models.js'

await tf.setBackend('cpu')

const forward = (shapes: readonly number[][], f: TensorFunction): KernelGraph =>
  trace({
    trainable: [],
    frozen: [],
    layers: [],
    inputs: shapes.map((shape) => ({ shape, dtype: 'float32' })),
    body: (inputs) => [f(...(inputs as tf.Tensor4D[]))].flat(),
  })

const kernels = (graph: KernelGraph): string[] => graph.nodes.map(({ kernel }) => kernel)

const simplified = (shapes: readonly number[][], f: TensorFunction): string[] =>
  kernels(simplify(forward(shapes, f)))

/** What `f` becomes, once it is known to compute the same as eagerly. */
async function becomes(shapes: readonly number[][], f: TensorFunction): Promise<string[]> {
  await compare(
    shapes.map((shape) => floats(shape)),
    f,
  )
  return simplified(shapes, f)
}

const logSum = (x: tf.Tensor) => tf.log(tf.sum(tf.exp(x), 1, true))

test('the training step of a small MLP, printed', () => {
  const model = sequentialOf(
    layers.dense({ inputShape: [4], units: 3, activation: 'relu' }),
    layers.dense({ units: 2 }),
  )
  const graph = trace({
    trainable: trainableOf(model),
    frozen: [],
    layers: [model],
    inputs: [
      { shape: [5, 4], dtype: 'float32' },
      { shape: [5, 2], dtype: 'float32' },
    ],
    body: ([x, y]) => [
      tf.losses.softmaxCrossEntropy(y!, model.apply(x!, { training: true }) as tf.Tensor) as tf.Tensor,
    ],
  })
  model.dispose()
  expect(`${printGraph(simplify(graph))}\n`).toMatchInlineSnapshot(`
    "params %0 float32[4,3], %1 float32[3], %2 float32[3,2], %3 float32[2]
    inputs %4 float32[5,4], %5 float32[5,2]
    randoms 
    constants %26 float32[], %28 float32[], %31 float32[5]
    %6 float32[5,3] = BatchMatMul(%4, %0) {"transposeA":false,"transposeB":false}
    %7 float32[5,3] = Add(%6, %1) {}
    %8 float32[5,3] = Relu(%7) {}
    %9 float32[1,5,3] = Reshape(%8) {"shape":[1,5,3]}
    %10 float32[1,3,2] = Reshape(%2) {"shape":[1,3,2]}
    %11 float32[1,5,2] = _FusedMatMul(%9, %10, %3) {"transposeA":false,"transposeB":false,"activation":"linear","leakyreluAlpha":0.2}
    %12 float32[5,2] = Reshape(%11) {"shape":[5,2]}
    %21 float32[5,2] = LogSoftmax(%12) {"axis":1}
    %22 float32[5,2] = Multiply(%21, %5) {}
    %23 float32[5,2] = Neg(%22) {}
    %24 float32[5] = Sum(%23) {"axis":[1],"keepDims":false}
    %25 float32[] = Sum(%24) {"axis":null,"keepDims":false}
    %27 float32[] = RealDiv(%25, %26) {}
    %29 float32[] = RealDiv(%28, %26) {}
    %30 float32[1] = Reshape(%29) {"shape":[1]}
    %32 float32[5] = Multiply(%30, %31) {}
    %33 float32[5,1] = Reshape(%32) {"shape":[5,1]}
    %34 float32[5,2] = Exp(%21) {}
    %39 float32[5,2] = Sub(%34, %5) {}
    %40 float32[5,2] = Multiply(%33, %39) {}
    %41 float32[1,5,2] = Reshape(%40) {"shape":[1,5,2]}
    %42 float32[1,5,3] = BatchMatMul(%41, %10) {"transposeA":false,"transposeB":true}
    %43 float32[1,3,2] = BatchMatMul(%9, %41) {"transposeA":true,"transposeB":false}
    %44 float32[2] = Sum(%41) {"axis":[0,1],"keepDims":false}
    %45 float32[3,2] = Reshape(%43) {"shape":[3,2]}
    %46 float32[5,3] = Reshape(%42) {"shape":[5,3]}
    %47 float32[5,3] = Step(%8) {"alpha":0}
    %48 float32[5,3] = Multiply(%46, %47) {}
    %49 float32[3] = Sum(%48) {"axis":[0],"keepDims":false}
    %50 float32[4,3] = BatchMatMul(%4, %48) {"transposeA":true,"transposeB":false}
    outputs %27, %50, %49, %45, %44
    "
  `)
})

test('infinities and NaN are printed as such', () => {
  const graph = forward([[2]], (x) => tf.clipByValue(x, -Infinity, Infinity))
  expect(printGraph(graph)).toContain('{"clipValueMin":"-Infinity","clipValueMax":"Infinity"}')
})

describe('simplify', () => {
  test('merges duplicates', async () => {
    const f: TensorFunction = (x) => tf.mul(tf.exp(tf.neg(x)), tf.sin(tf.exp(tf.neg(x))))
    expect(await becomes([[2, 3]], f)).toEqual(['Neg', 'Exp', 'Sin', 'Multiply'])
  })

  test('keeps apart what differs only in its attributes', async () => {
    const f: TensorFunction = (x) => [
      tf.clipByValue(x, 0, Infinity),
      tf.clipByValue(x, -Infinity, 0),
      tf.leakyRelu(x, 0.1),
      tf.leakyRelu(x, 0.2),
    ]
    expect(await becomes([[2, 3]], f)).toHaveLength(4)
  })

  test('does not merge random draws', () => {
    const model = sequentialOf(layers.dropout({ rate: 0.5, inputShape: [4] }), layers.dropout({ rate: 0.5 }))
    const graph = trace({
      trainable: [],
      frozen: [],
      layers: [model],
      inputs: [{ shape: [2, 4], dtype: 'float32' }],
      body: ([x]) => [model.apply(x!, { training: true }) as tf.Tensor],
    })
    expect(simplify(graph).randoms).toHaveLength(2)
    expect(kernels(simplify(graph)).filter((name) => name === 'GreaterEqual')).toHaveLength(2)
  })

  test('cuts chains of reshapes short, and drops those that lead back', async () => {
    expect(
      await becomes([[2, 6]], (x) => tf.reshape(tf.reshape(tf.reshape(x, [12]), [3, 4]), [4, 3])),
    ).toEqual(['Reshape'])
    expect(await becomes([[2, 6]], (x) => tf.exp(tf.reshape(tf.reshape(x, [12]), [2, 6])))).toEqual(['Exp'])
  })

  test('drops what nobody needs', () => {
    const f: TensorFunction = (x) => {
      tf.exp(tf.sin(x))
      return tf.neg(tf.add(x, [1, 2]))
    }
    const graph = simplify(forward([[2]], f))
    expect(kernels(graph)).toEqual(['Add', 'Neg'])
    expect(graph.constants.size).toBe(1)
    expect(simplify(forward([[2]], (x) => [tf.split(x, 2)[1]!, x])).nodes).toHaveLength(1)
  })

  test('folds a bias into its convolution', async () => {
    const conv = (x: tf.Tensor4D, w: tf.Tensor4D) => tf.conv2d(x, w, 1, 'same')
    const image = [1, 3, 3, 2]
    const filter = [2, 2, 2, 3]
    for (const bias of [[3], [1, 1, 1, 3], [1, 3]]) {
      expect(await becomes([image, filter, bias], (x, w, b) => tf.add(conv(x, w), b))).toEqual([
        'FusedConv2D',
      ])
    }
    // A bias a pixel, a bias of higher rank, a second use of the convolution: left as they are.
    expect(await becomes([image, filter, [3, 1]], (x, w, b) => tf.add(conv(x, w), b))).toEqual([
      'Conv2D',
      'Add',
    ])
    expect(await becomes([image, filter, [1, 1, 1, 1, 3]], (x, w, b) => tf.add(conv(x, w), b))).toEqual([
      'Conv2D',
      'Add',
    ])
    expect(await becomes([image, filter, [3]], (x, w, b) => [tf.add(conv(x, w), b), conv(x, w)])).toEqual([
      'Conv2D',
      'Add',
    ])
  })

  test('makes one kernel of a log-softmax, as losses and users spell it', async () => {
    const minusLogSumExp = (x: tf.Tensor) => tf.sub(x, tf.logSumExp(x, -1, true))
    expect(await becomes([[4, 3]], (x) => tf.logSoftmax(x))).toEqual(['LogSoftmax'])
    expect(await becomes([[4, 3]], minusLogSumExp)).toEqual(['LogSoftmax'])
    expect(await becomes([[2, 4, 3]], minusLogSumExp)).toEqual(['LogSoftmax'])
  })

  test.each<[string, TensorFunction]>([
    ['over another dimension', (x) => tf.sub(x, tf.logSumExp(x, 0, true))],
    ['of a row for all', (x) => tf.sub(x, tf.logSumExp(x, -1))],
    ['of other scores', (x, y) => tf.sub(y!, tf.logSumExp(x, -1, true))],
    ['with other scores below', (x, y) => tf.sub(tf.sub(x, tf.max(x, 1, true)), logSum(tf.sub(x, y!)))],
    [
      'with maxima of others',
      (x, y) => tf.sub(tf.sub(x, tf.max(y!, 1, true)), logSum(tf.sub(x, tf.max(y!, 1, true)))),
    ],
    [
      'of squares',
      (x) => tf.sub(x, tf.add(tf.max(x, 1, true), logSum(tf.square(tf.sub(x, tf.max(x, 1, true)))))),
    ],
    ['of one maximum', (x) => tf.sub(tf.sub(x, tf.max(x)), logSum(tf.sub(x, tf.max(x))))],
  ])('leaves what is no log-softmax: %s', (_, f) => {
    expect(
      simplified(
        [
          [3, 3],
          [3, 3],
        ],
        f,
      ),
    ).not.toContain('LogSoftmax')
  })

  test("takes ReLU's gradient from its output", () => {
    const graph = simplify(forward([[2]], (x) => [tf.relu(x), tf.step(x)]))
    const [relu, step] = graph.nodes
    expect(step!.inputs[0]).toBe(relu!.outputs[0])
  })

  test('leaves the graph that it was given alone', () => {
    const graph = forward([[2, 6]], (x) => tf.add(tf.exp(x), tf.exp(x)))
    const before = printGraph(graph)
    simplify(graph)
    expect(printGraph(graph)).toBe(before)
  })

  test('an output that was merged is still an output', async () => {
    expect(
      await becomes([[2]], (x) => [tf.exp(x), tf.exp(x), tf.reshape(tf.reshape(x, [1, 2]), [2])]),
    ).toEqual(['Exp'])
  })
})
