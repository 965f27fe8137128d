/** Images whose channels fill blocks take onnxruntime's direct convolutions: beside TensorFlow.js' cpu backend. */
import * as tf from '@tensorflow/tfjs-core'
import { layers } from '@tensorflow/tfjs-layers'
import { describe, expect, test } from 'vitest'
import { blockSize } from '../../src/compiler/block-size.js'
import { sizeOf } from '../../src/compiler/graph.js'
import { lower } from '../../src/compiler/lower.js'
import { BLOCKED_DOMAIN } from '../../src/compiler/onnx.js'
import { simplify } from '../../src/compiler/simplify.js'
import { trace } from '../../src/compiler/trace.js'
import { residualBlocks } from '../../src/models/resnet.js'
import { compare, floats, values } from './harness.js'
import { compareModel, images, sequentialOf } from './models.js'

const block = await blockSize()
const wide = block ?? 16

type Pad = 'same' | 'valid' | number
const convolutions: [size: number, kernel: number, stride: number, pad: Pad][] = [
  [5, 3, 1, 'valid'],
  [5, 3, 1, 'same'],
  [4, 2, 1, 'same'],
  [6, 3, 2, 'same'],
  [5, 3, 2, 'valid'],
  [4, 1, 1, 'valid'],
  [4, 1, 2, 'same'],
  [4, 3, 1, 1],
  // The mirrored window would need a negative padding.
  [4, 1, 1, 1],
]

test.skipIf(block === undefined)('the processor has blocks', () => {
  expect([4, 8, 16]).toContain(block)
})

describe('convolutions', () => {
  for (const [size, kernel, stride, pad] of convolutions) {
    for (const [input, output] of [
      [wide, wide],
      [wide, 2 * wide],
      [2 * wide, wide],
    ] as const) {
      test(`${size}×${size}, ${input} → ${output}, kernel ${kernel}, stride ${stride}, pad ${pad}`, () =>
        compare([floats([2, size, size, input]), floats([kernel, kernel, input, output])], (x, f) =>
          tf.conv2d(x, f, stride, pad as 'same'),
        ))
    }
  }
})

describe("filters' gradients by convolution", () => {
  for (const [size, kernel, stride, pad] of [
    [8, 3, 1, 'same'],
    [10, 3, 1, 'valid'],
    [17, 3, 2, 'valid'],
    [16, 1, 2, 'same'],
  ] as const) {
    for (const [input, output] of [
      [wide, 3],
      [2 * wide, wide],
    ] as const) {
      test(`${size}×${size}, ${input} → ${output}, kernel ${kernel}, stride ${stride}, pad ${pad}`, () =>
        compare([floats([3, size, size, input]), floats([kernel, kernel, input, output])], (x, f) =>
          tf.conv2d(x, f, stride, pad),
        ))
    }
  }
})

describe('what follows a convolution', () => {
  const following = (name: string, f: (y: tf.Tensor4D, other: tf.Tensor4D) => tf.Tensor, shape: number[]) =>
    test(name, () =>
      compare([floats([2, 4, 4, wide]), floats([3, 3, wide, wide]), floats(shape)], (x, w, other) =>
        f(tf.conv2d(x, w, 1, 'same'), other),
      ),
    )
  following('a bias per channel', (y, b) => tf.add(y, b), [wide])
  following('a bias and ReLU', (y, b) => tf.relu(tf.add(y, b)), [wide])
  following('a bias and sigmoid', (y, b) => tf.sigmoid(tf.add(y, b)), [1, 1, 1, wide])
  following('a scalar', (y, b) => tf.mul(y, b), [])
  following('an image', (y, b) => tf.mul(y, b), [2, 4, 4, wide])
  following('a number per pixel', (y, b) => tf.mul(y, b), [4, 4, 1])
  following('a number per row and channel', (y, b) => tf.mul(y, b), [4, 1, wide])
  following('a number per image and channel', (y, b) => tf.mul(y, b), [2, 1, 1, wide])
  following('reductions over pixels', (y, b) => tf.add(tf.mean(y, [1, 2]), b), [wide])
  following('reductions over images and pixels', (y, b) => tf.add(tf.sum(y, [0, 1, 2]), b), [wide])
  following('reductions that keep dimensions', (y, b) => tf.add(tf.mean(y, [1, 2], true), b), [wide])
  following('reductions over channels', (y, b) => tf.add(tf.sum(y, 3), b), [4])
  following('a narrow convolution', (y, f) => tf.conv2d(y, f, 1, 'valid'), [3, 3, wide, 3])
  following('a wide convolution', (y, f) => tf.conv2d(tf.relu(y), f, 1, 'same'), [3, 3, wide, 2 * wide])
  following('max-pooling', (y, b) => tf.add(tf.maxPool(y, 2, 2, 'valid'), b), [wide])
  following('flatten', (y, b) => tf.add(tf.reshape(y, [2, -1]), b), [1])
  following(
    'padding',
    (y, b) =>
      tf.add(
        tf.pad(y, [
          [0, 0],
          [1, 0],
          [0, 2],
          [0, 0],
        ]),
        b,
      ),
    [wide],
  )
  following('concat', (y, b) => tf.mul(tf.concat([y, tf.relu(y)], 3), b), [2 * wide])
})

test.each([[[]], [[4, 4, 1]], [[4, 4, wide]]])(
  'a fused bias of shape %j, read by another convolution',
  (shape) =>
    compare([floats([2, 4, 4, wide]), floats([3, 3, wide, wide]), floats(shape)], (x, filter, bias) =>
      tf.conv2d(tf.fused.conv2d({ x, filter, strides: 1, pad: 'same', bias }), filter, 1, 'same'),
    ),
)

test('padding is folded into the convolution, forward and backward', () =>
  compare([floats([2, 4, 4, wide]), floats([3, 3, wide, wide])], (x, f) => {
    const paddings: [number, number][] = [
      [0, 0],
      [1, 1],
      [2, 1],
      [0, 0],
    ]
    return tf.conv2d(tf.pad(tf.mul(x, 2), paddings), f, [2, 1], 'valid')
  }))

/** Numbers of few different values, zeros among them: most windows have several maxima. */
const tied = (shape: number[]) =>
  values(
    Array.from({ length: sizeOf(shape) }, (_, i) => ((i * 7 + (i >> 3)) % 4) - 2),
    shape,
  )

describe('max-pooling of windows that tile the image', () => {
  for (const [height, width] of [
    [2, 2],
    [1, 2],
    [3, 1],
    [3, 2],
    [1, 1],
  ] as const) {
    const window: [number, number] = [height, width]
    const image = [2, 2 * height, 3 * width, 2 * wide]
    test(`${height}×${width}`, () => compare([floats(image)], (x) => tf.maxPool(x, window, window, 'valid')))
    test(`${height}×${width}, ties go to the first`, () =>
      compare([tied(image)], (x) => tf.maxPool(x, window, window, 'valid')))
    test(`${height}×${width} of a ReLU`, () =>
      compare([tied(image)], (x) => tf.maxPool(tf.relu(x), window, window, 'valid')))
  }

  test('windows that overlap, or leave pixels out, of a ReLU', () =>
    compare([floats([2, 7, 7, wide])], (x) => [
      tf.maxPool(tf.relu(x), 3, 2, 'same'),
      tf.maxPool(tf.relu(x), 2, 2, 'valid'),
    ]))

  test('asks nobody for positions, and applies the ReLU to the pooled image', () => {
    const x = tf.variable(tf.zeros([2, 4, 4, 16]))
    const graph = simplify(
      trace({
        trainable: [x],
        frozen: [],
        layers: [],
        inputs: [],
        body: () => [tf.sum(tf.maxPool(tf.relu(x) as tf.Tensor4D, 2, 2, 'valid'))],
      }),
    )
    x.dispose()
    expect(graph.nodes.map(({ kernel }) => kernel)).not.toContain('Step')
    const pools = lower(graph, 16).onnx.nodes.filter(({ op }) => op === 'MaxPool')
    expect(pools.map(({ attributes }) => attributes.kernel_shape)).toEqual([
      [2, 2],
      [1, 2],
      [1, 1],
      [2, 1],
    ])
    expect(pools.every(({ outputs, domain }) => outputs.length === 1 && domain === BLOCKED_DOMAIN)).toBe(true)
  })
})

test('batch normalization stays in blocks', () =>
  compareModel(
    sequentialOf(
      layers.conv2d({ inputShape: [5, 5, wide], filters: wide, kernelSize: 3, padding: 'same' }),
      layers.batchNormalization({ gammaInitializer: 'randomNormal' }),
      layers.reLU(),
      layers.conv2d({ filters: 2, kernelSize: 1 }),
    ),
    {
      x: images([3, 5, 5, wide], -1, 1),
      y: { data: new Float32Array(150), shape: [3, 5, 5, 2], dtype: 'float32' },
    },
    (y, p) => tf.losses.meanSquaredError(y, p),
  ))

test.skipIf(block === undefined)('a residual network changes layout only where it must', () => {
  const model = residualBlocks()
  const variables = (list: typeof model.trainableWeights) =>
    list.map((weight) => weight.read() as tf.Variable)
  const graph = simplify(
    trace({
      trainable: variables(model.trainableWeights),
      frozen: variables(model.nonTrainableWeights),
      layers: [model],
      inputs: [
        { shape: [2, 32, 32, 16], dtype: 'float32' },
        { shape: [2, 10], dtype: 'float32' },
      ],
      body: ([x, y]) => [tf.losses.softmaxCrossEntropy(y!, model.apply(x!, { training: true }) as tf.Tensor)],
    }),
  )
  const count = (nodes: readonly { op: string; domain?: string }[], op: string, domain?: string) =>
    nodes.filter((node) => node.op === op && node.domain === domain).length
  const { nodes } = lower(graph, 16).onnx
  // Five forward; of the input gradients three: the first convolution's is not needed, two have stride 2.
  expect(
    count(
      nodes.filter(({ attributes }) => attributes.group === undefined),
      'Conv',
      BLOCKED_DOMAIN,
    ),
  ).toBe(7)
  // Of the filters' gradients one a tap: four times 3×3 and one 1×1.
  expect(count(nodes, 'Conv', BLOCKED_DOMAIN)).toBe(7 + 4 * 9 + 1)
  expect(count(nodes, 'Conv')).toBe(0)
  expect(count(nodes, 'Pad')).toBeLessThanOrEqual(4)
  expect(count(lower(graph).onnx.nodes, 'Conv')).toBe(5)
})
