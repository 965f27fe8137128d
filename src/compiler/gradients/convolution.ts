/** Dilated convolutions, and volumes transposed: TensorFlow.js has the kernels that their gradients need, but not these. */
import * as tf from '@tensorflow/tfjs-core'
import { type Gradient, gradient, run } from './gradient.js'

/** The gradients of a convolution, dilated or not, from the kernels of its input's and its filter's gradient. */
const convolution = (inputKernel: string, filterKernel: string): Gradient =>
  gradient<object>(['x', 'filter'], (dy, saved, attrs) => {
    const [x, filter] = saved as [tf.Tensor, tf.Tensor]
    return {
      x: () => run(inputKernel, { dy, filter }, { ...attrs, inputShape: x.shape }),
      filter: () => run(filterKernel, { x, dy }, { ...attrs, filterShape: filter.shape }),
    }
  })

/** A transposed convolution's gradients are a convolution and a convolution's filter gradient. */
const conv3dTranspose = gradient<tf.Conv3DBackpropInputV2Attrs>(
  ['dy', 'filter'],
  (ddx, saved, { strides, pad }) => {
    const [dy, filter] = saved as [tf.Tensor5D, tf.Tensor5D]
    return {
      dy: () => tf.conv3d(ddx as tf.Tensor5D, filter, strides, pad),
      filter: () =>
        run('Conv3DBackpropFilterV2', { x: ddx, dy }, { strides, pad, filterShape: filter.shape }),
    }
  },
)

export const convolutionGradients = {
  Conv2D: convolution('Conv2DBackpropInput', 'Conv2DBackpropFilter'),
  Conv3D: convolution('Conv3DBackpropInputV2', 'Conv3DBackpropFilterV2'),
  Conv3DBackpropInputV2: conv3dTranspose,
  DepthwiseConv2dNative: convolution(
    'DepthwiseConv2dNativeBackpropInput',
    'DepthwiseConv2dNativeBackpropFilter',
  ),
}
