/**
 * Cases of convolution and pooling, and of every kind of op on their outputs: these are the values that the compiler
 * keeps in NCHW, so each op meets them in an order of dimensions that is not TensorFlow.js'.
 */
import * as tf from '@tensorflow/tfjs-core'
import { type Case, example } from './case.js'
import { type Argument, fixed, floats, type TensorFunction, values } from './harness.js'
import { axisSubsets } from './reduction.cases.js'

const image = () => floats([2, 5, 4, 3])
const filter = () => floats([2, 2, 3, 5])
/** [2, 4, 3, 5], four different sizes, so that dimensions in a wrong order cannot go unseen. */
const conv = (x: tf.Tensor4D, w: tf.Tensor4D): tf.Tensor4D => tf.conv2d(x, w, 1, 'valid')

/** `f` of a convolution's output, and of further arguments. */
const onConv = (name: string, f: TensorFunction, ...others: Argument[]): Case =>
  example(`${name} of a convolution`, [image(), filter(), ...others], (x, w, ...rest) =>
    f(conv(x, w), ...rest),
  )

const biases = [
  [5],
  [1, 1, 1, 5],
  [],
  [1],
  [2, 4, 3, 5],
  [4, 3, 5],
  [3, 5],
  [3, 1],
  [4, 1, 1],
  [2, 1, 1, 1],
  [2, 1, 1, 5],
  [1, 4, 3, 1],
  [1, 1, 5],
  [1, 5],
]

const arithmetic: Case[] = biases.flatMap((shape) => [
  onConv(`add [${shape}]`, (y, b) => tf.relu(tf.add(y, b)), floats(shape)),
  onConv(`[${shape}] minus`, (y, b) => tf.sub(b, tf.mul(y, b)), floats(shape)),
])

const reductions: Case[] = axisSubsets(4).flatMap((axes) =>
  [false, true].map((keep) =>
    onConv(`sum over [${axes}]${keep ? ', kept,' : ''}`, (y) => tf.sum(y, axes, keep)),
  ),
)

const others: Case[] = [
  ...[[1, 2], [0, 1, 2], [3], [0]].map((axes) =>
    onConv(`max, mean and min over [${axes}]`, (y) => [tf.max(y, axes), tf.mean(y, axes), tf.min(y, axes)]),
  ),
  ...[0, 1, 2, 3].map((axis) => onConv(`concat along ${axis}`, (y) => tf.concat([y, tf.tanh(y)], axis))),
  ...[0, 3].map((axis) => onConv(`split along ${axis}`, (y) => tf.split(y, axis === 0 ? 2 : [2, 3], axis))),
  ...[0, 1, 3].map((axis) => onConv(`unstack along ${axis}`, (y) => tf.unstack(y, axis))),
  onConv('slice', (y) => tf.slice(y, [0, 1, 0, 2], [2, 2, 3, 2])),
  onConv('pad', (y) =>
    tf.pad(y, [
      [0, 0],
      [1, 2],
      [0, 1],
      [2, 0],
    ]),
  ),
  onConv('transpose', (y) => tf.transpose(y, [0, 3, 1, 2])),
  onConv('another transpose', (y) => tf.transpose(y, [2, 0, 1, 3])),
  onConv('reshape', (y) => tf.reshape(y, [2, -1])),
  onConv('squared, then flattened', (y) => tf.reshape(tf.square(y), [-1])),
  onConv('tile', (y) => tf.tile(y, [1, 2, 1, 2])),
  onConv('expandDims', (y) => tf.expandDims(y, 3)),
  onConv('stack', (y) => tf.stack([y, tf.neg(y)], 1)),
  onConv('softmax', (y) => tf.softmax(y)),
  onConv('logSoftmax', (y) => tf.logSoftmax(y)),
  onConv('matMul', (y) => tf.matMul(y, y, false, true)),
  onConv('where', (y) => tf.where(tf.greaterEqual(y, 0), y, tf.mul(y, 0.1))),
  onConv('prelu', (y, a) => tf.prelu(y, a), floats([5], 0.1, 0.5)),
  onConv('prelu with a slope a pixel', (y, a) => tf.prelu(y, a), floats([4, 3, 5], 0.1, 0.5)),
  onConv('elu', (y) => tf.elu(y)),
  onConv('clip', (y) => tf.clipByValue(y, -0.5, 0.5)),
  onConv('zerosLike, onesLike and cast', (y) => [tf.add(tf.zerosLike(y), y), tf.mul(tf.onesLike(y), y)]),
  onConv('rank-5 sum', (y, b) => tf.add(y, b), floats([1, 1, 1, 1, 5])),
  onConv('two uses', (y) => [y, tf.relu(y), tf.mean(y, [1, 2])]),
  onConv(
    'a wider image',
    (y, b) => tf.add(tf.slice(y, [0, 0, 0, 0], [1, -1, -1, -1]), b),
    floats([2, 4, 3, 5]),
  ),
  example('argMax of a convolution', [fixed(image()), fixed(filter())], (x, w) =>
    [1, 3].map((i) => tf.argMax(conv(x, w), i)),
  ),
  example('comparison of convolutions', [fixed(image()), fixed(filter())], (x, w) => {
    const y = conv(x, w)
    return [
      tf.greater(y, 0),
      tf.logicalAnd(tf.greater(y, 0), tf.less(y, 1)),
      tf.all(tf.less(y, 1), 3),
      tf.cast(y, 'int32'),
    ]
  }),
  example('image times convolution of one channel', [image(), floats([1, 1, 3, 1])], (x, w) =>
    tf.mul(x, tf.conv2d(x, w, 1, 'same')),
  ),
  example('squeeze and excite', [image(), floats([3, 3])], (x, w) => {
    const y = tf.conv2d(x, tf.reshape(w, [1, 1, 3, 3]) as tf.Tensor4D, 1, 'same')
    return tf.mul(y, tf.sigmoid(tf.mean(y, [1, 2], true)))
  }),
  example('residual block', [image(), floats([3, 3, 3, 3]), floats([3])], (x, w, b) => {
    const y = tf.relu(tf.add(tf.conv2d(x, w, 1, 'same'), b))
    return tf.relu(tf.add(tf.conv2d(y as tf.Tensor4D, w, 1, 'same'), x))
  }),
  example('convolution, pooling, dense', [image(), filter(), floats([5]), floats([10, 4])], (x, w, b, v) => {
    const y = tf.maxPool(tf.relu(tf.add(conv(x, w), b)) as tf.Tensor4D, 2, 2, 'valid')
    return tf.matMul(tf.reshape(y, [2, -1]), v)
  }),
]

type Size = number | [number, number]

/**
 * Average pooling from parts that the cpu backend has right: its own gradient divides by the whole window also where
 * the window lies half in the padding. The mean of an image of zeros and ones is the share that counts.
 */
export function avgPoolOracle(x: tf.Tensor4D, size: Size, strides: Size, pad: 'valid' | 'same' | number) {
  const rounding = typeof pad === 'number' ? 'floor' : undefined
  const { padInfo } = tf.backend_util.computePool2DInfo(x.shape, size, strides, 1, pad, rounding)
  const paddings: [number, number][] = [
    [0, 0],
    [padInfo.top, padInfo.bottom],
    [padInfo.left, padInfo.right],
    [0, 0],
  ]
  const mean = (image: tf.Tensor4D) => tf.avgPool(tf.pad(image, paddings), size, strides, 'valid')
  return tf.div(mean(x), mean(tf.ones(x.shape)))
}

const averages = (pad: 'same' | 1): Case =>
  example(
    `average pooling with padding ${pad}`,
    [image()],
    (x) => tf.avgPool(x, 3, 2, pad, pad === 1 ? 'floor' : undefined),
    (x) => avgPoolOracle(x, 3, 2, pad),
  )

const normalize: TensorFunction = (x, mean, variance, offset, scale) =>
  tf.batchNorm(
    x,
    mean as unknown as tf.Tensor1D,
    variance as unknown as tf.Tensor1D,
    offset as unknown as tf.Tensor1D,
    scale as unknown as tf.Tensor1D,
    1e-3,
  )

const normalization: Case[] = [
  ...[
    [2, 4, 3, 5],
    [4, 5],
    [2, 3, 5],
  ].map((shape) =>
    example(
      `batchNorm [${shape}]`,
      [floats(shape), floats([5]), floats([5], 0.5, 2), floats([5]), floats([5])],
      normalize,
    ),
  ),
  onConv('batchNorm', normalize, floats([5]), floats([5], 0.5, 2), floats([5]), floats([5])),
  example(
    'batchNorm without offset and scale',
    [fixed(floats([4, 5])), fixed(floats([5])), fixed(floats([5], 0.5, 2))],
    (x, mean, variance) =>
      tf.batchNorm(x, mean as unknown as tf.Tensor1D, variance as unknown as tf.Tensor1D),
  ),
]

const pooling: Case[] = [
  onConv('pooling', (y) => [tf.maxPool(y, 2, 1, 'valid'), tf.avgPool(y, [2, 3], 2, 'valid')]),
  onConv('max-pooling with padding same', (y) => tf.maxPool(y, 2, 1, 'same')),
  averages('same'),
  averages(1),
  example('max-pooling with a padding of 1', [image()], (x) => tf.maxPool(x, 3, 2, 1, 'floor')),
  example('pooling of an image without a batch', [floats([5, 4, 3])], (x) => [
    tf.maxPool(x as unknown as tf.Tensor3D, 2, 2, 'valid'),
    tf.avgPool(x as unknown as tf.Tensor3D, 2, 2, 'valid'),
  ]),
  example('max-pooling of ties', [values([1, 1, 1, 1, 2, 2, 0, 2, 2], [1, 3, 3, 1])], (x) =>
    tf.maxPool(x, 2, 1, 'valid'),
  ),
  example('max-pooling of equal numbers', [values(Array(16).fill(0), [1, 4, 4, 1])], (x) =>
    tf.maxPool(x, 3, 2, 'same'),
  ),
  example('max-pooling of negative numbers at the border', [floats([1, 3, 3, 2], -2, -1)], (x) =>
    tf.maxPool(x, 3, 2, 'same'),
  ),
  example('pooling by 1', [image()], (x) => [tf.maxPool(x, 1, 1, 'valid'), tf.avgPool(x, 1, 1, 'valid')]),
  example('pooling by 1 with a stride', [image()], (x) => [
    tf.maxPool(x, 1, 2, 'valid'),
    tf.avgPool(x, 1, 2, 'same'),
  ]),
  example('pooling, rounded up, forward', [fixed(floats([1, 5, 6, 2]))], (x) => [
    tf.maxPool(x, 2, 2, 0, 'ceil'),
    tf.avgPool(x, 2, 2, 0, 'ceil'),
    tf.maxPool(x, 3, 2, 1, 'ceil'),
    tf.avgPool(x, 3, 2, 1, 'ceil'),
  ]),
]

const convolution: Case[] = [
  example('convolution of an image without a batch', [floats([5, 4, 3]), filter()], (x, w) =>
    tf.conv2d(x as unknown as tf.Tensor3D, w, 1, 'valid'),
  ),
  example('dilated convolution', [fixed(floats([1, 7, 7, 2])), fixed(floats([2, 3, 2, 3]))], (x, w) =>
    tf.conv2d(x, w, 1, 'same', 'NHWC', [2, 1]),
  ),
  example('convolution with a padding of 1', [image(), filter()], (x, w) =>
    tf.conv2d(x, w, 1, 1, 'NHWC', 1, 'floor'),
  ),
  example('convolution with its own paddings', [image(), filter()], (x, w) =>
    tf.conv2d(x, w, 1, [
      [0, 0],
      [1, 0],
      [0, 2],
      [0, 0],
    ]),
  ),
  example(
    'convolution, rounded up, forward',
    [fixed(floats([1, 6, 5, 2])), fixed(floats([3, 3, 2, 3]))],
    (x, w) => tf.conv2d(x, w, 2, 1, 'NHWC', 1, 'ceil'),
  ),
  example('transposed convolution', [floats([2, 3, 2, 4]), floats([3, 3, 2, 4])], (x, w) =>
    tf.conv2dTranspose(x, w, [2, 6, 4, 2], 2, 'same'),
  ),
  example('transposed convolution, one more row', [floats([1, 3, 2, 1]), floats([2, 2, 2, 1])], (x, w) =>
    tf.conv2dTranspose(x, w, [1, 7, 4, 2], 2, 'valid'),
  ),
  ...(['linear', 'relu', 'relu6', 'elu', 'sigmoid', 'leakyrelu'] as const).flatMap((activation) => {
    const args = [image(), filter(), floats([5])]
    const f: TensorFunction = (x, filter, bias) =>
      tf.fused.conv2d({ x, filter, bias, strides: 1, pad: 'same', activation, leakyreluAlpha: 0.3 })
    return [
      example(`fused with ${activation}, training`, args, f),
      example(`fused with ${activation}, forward`, args.map(fixed), f),
    ]
  }),
  example('fused without bias', [fixed(image()), fixed(filter())], (x, filter) =>
    tf.fused.conv2d({ x, filter, strides: 2, pad: 'valid', activation: 'relu' }),
  ),
  example(
    'fused with a scalar bias',
    [fixed(image()), fixed(filter()), fixed(floats([]))],
    (x, filter, bias) => tf.fused.conv2d({ x, filter, bias, strides: 2, pad: 'valid' }),
  ),
  example('two convolutions of one image', [image(), filter(), filter()], (x, v, w) =>
    tf.mul(conv(x, v), conv(x, w)),
  ),
  example('one filter, two images', [image(), image(), filter()], (x, y, w) =>
    tf.add(conv(x, w), conv(y, w)),
  ),
]

export const imageCases: readonly Case[] = [
  ...convolution,
  ...normalization,
  ...pooling,
  ...arithmetic,
  ...reductions,
  ...others,
]
