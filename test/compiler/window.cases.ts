/** Cases of depthwise, dilated and three-dimensional convolution and pooling. */
import * as tf from '@tensorflow/tfjs-core'
import { type Case, example } from './case.js'
import { fixed, floats, type TensorFunction, values } from './harness.js'

const as3 = (x: tf.Tensor) => x as tf.Tensor3D
const as5 = (x: tf.Tensor) => x as tf.Tensor5D
const image = () => floats([2, 5, 4, 3])
const volume = () => floats([2, 4, 5, 3, 2])

type Pad = 'same' | 'valid'

/** A filter with zeros between its taps: what a dilated convolution multiplies with. */
export function dilatedFilter(filter: tf.Tensor, dilations: readonly number[]): tf.Tensor {
  return dilations.reduce((spread, dilation, axis) => {
    if (dilation === 1 || spread.shape[axis] === 1) return spread
    const rows = tf.unstack(spread, axis)
    const zeros = tf.zerosLike(rows[0]!)
    const gap = Array<tf.Tensor>(dilation - 1).fill(zeros)
    return tf.stack(
      rows.flatMap((row, i) => (i === 0 ? [row] : [...gap, row])),
      axis,
    )
  }, filter)
}

const dilated: Case[] = [
  ...(['same', 'valid'] as const).map((pad) =>
    example(
      `dilated convolution, ${pad}`,
      [floats([2, 7, 6, 2]), floats([2, 3, 2, 3])],
      (x, w) => tf.conv2d(x, w, 1, pad, 'NHWC', [3, 2]),
      (x, w) => tf.conv2d(x, dilatedFilter(w, [3, 2]) as tf.Tensor4D, 1, pad),
    ),
  ),
  example(
    'dilated depthwise convolution',
    [floats([2, 7, 6, 2]), floats([2, 3, 2, 2])],
    (x, w) => tf.depthwiseConv2d(x, w, 1, 'same', 'NHWC', 2),
    (x, w) => tf.depthwiseConv2d(x, dilatedFilter(w, [2, 2]) as tf.Tensor4D, 1, 'same'),
  ),
  example(
    'dilated convolution of volumes',
    [floats([1, 5, 4, 5, 2]), floats([2, 2, 2, 2, 3])],
    (x, w) => tf.conv3d(as5(x), as5(w), 1, 'same', 'NDHWC', [2, 1, 3]),
    (x, w) => tf.conv3d(as5(x), as5(dilatedFilter(w, [2, 1, 3])), 1, 'same'),
  ),
  example(
    'convolution of small, wide volumes',
    [floats([3, 3, 4, 2, 16]), floats([2, 3, 1, 16, 3])],
    (x, w) => tf.conv3d(as5(x), as5(w), [1, 2, 1], 'same'),
  ),
  example('convolution of sequences', [floats([2, 7, 3]), floats([3, 3, 4])], (x, w) =>
    tf.conv1d(x as unknown as tf.Tensor3D, w as unknown as tf.Tensor3D, 2, 'same'),
  ),
  example(
    'dilated convolution of sequences',
    [floats([2, 7, 3]), floats([3, 3, 4])],
    (x, w) => tf.conv1d(x as unknown as tf.Tensor3D, w as unknown as tf.Tensor3D, 1, 'valid', 'NWC', 2),
    (x, w) => tf.conv1d(x as unknown as tf.Tensor3D, dilatedFilter(w, [2]) as tf.Tensor3D, 1, 'valid'),
  ),
]

const depthwise: Case[] = [
  ...(['same', 'valid'] as const).flatMap((pad: Pad) =>
    ([1, 2, [2, 1]] as (number | [number, number])[]).flatMap((strides) =>
      [1, 3].map((multiplier) =>
        example(
          `depthwise convolution, ${pad}, strides ${strides}, multiplier ${multiplier}`,
          [image(), floats([3, 2, 3, multiplier])],
          (x, w) => tf.depthwiseConv2d(x, w, strides, pad),
        ),
      ),
    ),
  ),
  example(
    'depthwise convolution of an image without a batch',
    [floats([5, 4, 3]), floats([2, 2, 3, 1])],
    (x, w) => tf.depthwiseConv2d(x as unknown as tf.Tensor3D, w, 1, 'same'),
  ),
  example('separable convolution', [image(), floats([3, 3, 3, 2]), floats([1, 1, 6, 4])], (x, depth, point) =>
    tf.separableConv2d(x, depth, point, 1, 'same'),
  ),
  example(
    'depthwise convolution of a convolution',
    [image(), floats([1, 1, 3, 4]), floats([3, 3, 4, 1])],
    (x, w, depth) => tf.relu6(tf.depthwiseConv2d(tf.relu(tf.conv2d(x, w, 1, 'same')), depth, 2, 'same')),
  ),
  ...(['relu', 'sigmoid', 'linear'] as const).flatMap((activation) => {
    const args = [image(), floats([2, 2, 3, 2]), floats([6])]
    const f: TensorFunction = (x, filter, bias) =>
      tf.fused.depthwiseConv2d({ x, filter, bias, strides: 1, pad: 'same', activation })
    return [
      example(`fused depthwise with ${activation}, training`, args, f),
      example(`fused depthwise with ${activation}, forward`, args.map(fixed), f),
    ]
  }),
]

const volumes: Case[] = [
  ...(['same', 'valid'] as const).flatMap((pad) =>
    ([1, 2, [1, 2, 1]] as (number | [number, number, number])[]).map((strides) =>
      example(
        `convolution of volumes, ${pad}, strides ${strides}`,
        [volume(), floats([2, 3, 2, 2, 3])],
        (x, w) => tf.conv3d(as5(x), as5(w), strides, pad),
      ),
    ),
  ),
  example(
    'convolution of a volume without a batch',
    [floats([4, 5, 3, 2]), floats([2, 2, 2, 2, 3])],
    (x, w) => tf.conv3d(x, as5(w), 1, 'valid'),
  ),
  example(
    'convolution of volumes, bias and ReLU',
    [volume(), floats([2, 2, 2, 2, 3]), floats([3]), floats([1, 5, 1, 3])],
    (x, w, bias, other) => tf.mul(tf.relu(tf.add(tf.conv3d(as5(x), as5(w), 1, 'same'), bias)), other),
  ),
  example(
    'transposed convolution of volumes',
    [fixed(floats([1, 2, 3, 2, 4])), fixed(floats([3, 2, 3, 2, 4]))],
    (x, w) => tf.conv3dTranspose(as5(x), as5(w), [1, 4, 6, 4, 2], 2, 'same'),
  ),
  // The same with a filter as deep as its stride puts each slice of the input beside the others.
  example(
    'transposed convolution of flat volumes, trained',
    [floats([1, 1, 3, 2, 4]), floats([1, 2, 3, 2, 4])],
    (x, w) => tf.conv3dTranspose(as5(x), as5(w), [1, 1, 6, 4, 2], [1, 2, 2], 'same'),
    (x, w) =>
      tf.expandDims(tf.conv2dTranspose(tf.squeeze(x, [1]), tf.squeeze(w, [0]), [1, 6, 4, 2], 2, 'same'), 1),
  ),
]

/** Average pooling of volumes from parts that the cpu backend has right: see avgPoolOracle in image.cases.ts. */
export function avgPool3dOracle(
  x: tf.Tensor5D,
  size: [number, number, number] | number,
  strides: [number, number, number] | number,
  pad: Pad,
): tf.Tensor {
  const { padInfo } = tf.backend_util.computePool3DInfo(x.shape, size, strides, 1, pad)
  const paddings: [number, number][] = [
    [0, 0],
    [padInfo.front, padInfo.back],
    [padInfo.top, padInfo.bottom],
    [padInfo.left, padInfo.right],
    [0, 0],
  ]
  const mean = (image: tf.Tensor5D) =>
    tf.avgPool3d(tf.pad(image, paddings) as tf.Tensor5D, size, strides, 'valid')
  return tf.div(mean(x), mean(tf.ones(x.shape)))
}

/** Every place in a window as an image of its own, and the largest of them: for windows that are not cubes. */
export function maxPool3dOracle(
  x: tf.Tensor5D,
  size: [number, number, number] | number,
  strides: [number, number, number] | number,
  pad: Pad,
): tf.Tensor {
  const info = tf.backend_util.computePool3DInfo(x.shape, size, strides, 1, pad)
  const { front, back, top, bottom, left, right } = info.padInfo
  const padded = tf.pad(
    x,
    [
      [0, 0],
      [front, back],
      [top, bottom],
      [left, right],
      [0, 0],
    ],
    -1e9,
  )
  const axes = [
    [info.outDepth, info.strideDepth, info.filterDepth],
    [info.outHeight, info.strideHeight, info.filterHeight],
    [info.outWidth, info.strideWidth, info.filterWidth],
  ] as const
  const taps = axes.reduce<tf.Tensor[]>(
    (images, [count, stride, filter], axis) =>
      images.flatMap((image) =>
        Array.from({ length: filter }, (_, tap) =>
          tf.gather(
            image,
            Array.from({ length: count }, (_, i) => i * stride + tap),
            axis + 1,
          ),
        ),
      ),
    [padded],
  )
  return tf.max(tf.stack(taps), 0)
}

const pooling: Case[] = [
  ...(['same', 'valid'] as const).flatMap((pad) => [
    example(`max-pooling of volumes, ${pad}`, [volume()], (x) => tf.maxPool3d(as5(x), 2, 1, pad)),
    example(
      `max-pooling of volumes, ${pad}, strided`,
      [volume()],
      (x) => tf.maxPool3d(as5(x), [2, 3, 1], [2, 1, 2], pad),
      (x) => maxPool3dOracle(as5(x), [2, 3, 1], [2, 1, 2], pad),
    ),
    example(
      `average pooling of volumes, ${pad}`,
      [volume()],
      (x) => tf.avgPool3d(as5(x), [2, 3, 2], 2, pad),
      (x) => avgPool3dOracle(as5(x), [2, 3, 2], 2, pad),
    ),
  ]),
  example('tf.pool', [image()], (x) => [
    tf.pool(x, 2, 'max', 'valid', 1, 2),
    tf.pool(x, 2, 'avg', 'valid', 1, 2),
    tf.pool(x, 2, 'max', 'same', [2, 2]),
  ]),
]

const dilation: Case[] = [
  ...(['same', 'valid'] as const).flatMap((pad) =>
    [1, 2].map((stride) =>
      example(`dilation2d, ${pad}, stride ${stride}`, [image(), floats([3, 2, 3])], (x, filter) =>
        tf.dilation2d(x, as3(filter), stride, pad),
      ),
    ),
  ),
  example('dilation2d, dilated', [floats([2, 7, 6, 2]), floats([2, 3, 2])], (x, filter) =>
    tf.dilation2d(x, as3(filter), 1, 'same', [2, 1]),
  ),
  // Equal numbers: the first of them takes the gradient.
  example(
    'dilation2d of ties',
    [values(Array(16).fill(1), [1, 4, 4, 1]), values([0, 0, 0, 0], [2, 2, 1])],
    (x, filter) => tf.dilation2d(x, as3(filter), 1, 'valid'),
  ),
]

export const windowCases: readonly Case[] = [...dilated, ...depthwise, ...volumes, ...pooling, ...dilation]
