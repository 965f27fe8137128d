/** Residual networks (He et al. 2016) in PyTorch's layout: symmetric padding, stride in the 3×3 convolution. */
import {
  initializers,
  input,
  type LayersModel,
  layers,
  model,
  type SymbolicTensor,
} from '@tensorflow/tfjs-layers'

type Shape = [height: number, width: number, channels: number]

/** A residual block's body; returns [batch, height / stride, width / stride, filters × expansion]. */
type Body = (net: Net, x: SymbolicTensor, filters: number, stride: number) => SymbolicTensor

/** Layers with seeded He initialisation (He et al. 2015), numbered names, and PyTorch's batch norm constants. */
class Net {
  private draws: number
  private count = 0

  constructor(seed: number) {
    this.draws = seed * 1000
  }

  apply(layer: layers.Layer, x: SymbolicTensor): SymbolicTensor {
    return layer.apply(x) as SymbolicTensor
  }

  /** Convolution without bias, batch norm and, unless told otherwise, ReLU. */
  conv(x: SymbolicTensor, filters: number, kernelSize: number, strides: number, relu = true): SymbolicTensor {
    const padding = (kernelSize - 1) / 2
    const padded =
      padding > 0 ? this.apply(layers.zeroPadding2d({ padding, name: `pad${this.count}` }), x) : x
    const kernelInitializer = initializers.heNormal({ seed: ++this.draws })
    const name = `conv${this.count}`
    const conv = layers.conv2d({ filters, kernelSize, strides, useBias: false, kernelInitializer, name })
    const norm = layers.batchNormalization({ momentum: 0.9, epsilon: 1e-5, name: `norm${this.count++}` })
    const normed = this.apply(norm, this.apply(conv, padded))
    return relu ? this.apply(layers.reLU({ name: `relu${this.count}_0` }), normed) : normed
  }

  /** relu(body(x) + shortcut(x)); the shortcut is a 1×1 convolution where the shape changes. */
  residual(x: SymbolicTensor, body: Body, filters: number, stride: number): SymbolicTensor {
    const h = body(this, x, filters, stride)
    const channels = h.shape.at(-1)!
    const same = stride === 1 && x.shape.at(-1) === channels
    const shortcut = same ? x : this.conv(x, channels, 1, stride, false)
    const sum = layers.add({ name: `add${this.count}` }).apply([h, shortcut]) as SymbolicTensor
    return this.apply(layers.reLU({ name: `relu${this.count}_1` }), sum)
  }

  classify(x: SymbolicTensor, classes: number): SymbolicTensor {
    const pooled = this.apply(layers.globalAveragePooling2d({ name: 'pool' }), x)
    const kernelInitializer = initializers.glorotUniform({ seed: ++this.draws })
    return this.apply(layers.dense({ units: classes, kernelInitializer, name: 'scores' }), pooled)
  }
}

/** Two 3×3 convolutions: ResNet-18 and -34. */
const basic: Body = (net, x, filters, stride) => {
  const h = net.conv(x, filters, 3, stride)
  return net.conv(h, filters, 3, 1, false)
}

/** 1×1 down, 3×3, 1×1 up to four times the filters: ResNet-50 and deeper. */
const bottleneck: Body = (net, x, filters, stride) => {
  const h = net.conv(net.conv(x, filters, 1, 1), filters, 3, stride)
  return net.conv(h, 4 * filters, 1, 1, false)
}

interface ResnetOptions {
  /** Up to 64 pixels high: the CIFAR stem (3×3, no pooling); above: ImageNet's (7×7 stride 2 and max-pool). */
  readonly inputShape?: Shape
  readonly classes?: number
  readonly seed?: number
}

function resnet(body: Body, blocks: readonly number[], options: ResnetOptions): LayersModel {
  const { inputShape = [32, 32, 3], classes = 10, seed = 0 } = options
  const net = new Net(seed)
  const images = input({ shape: inputShape, name: 'images' })
  let x = inputShape[0] <= 64 ? net.conv(images, 64, 3, 1) : imagenetStem(net, images)
  blocks.forEach((count, stage) => {
    for (let i = 0; i < count; i++) x = net.residual(x, body, 64 * 2 ** stage, stage > 0 && i === 0 ? 2 : 1)
  })
  return model({ inputs: images, outputs: net.classify(x, classes) })
}

function imagenetStem(net: Net, images: SymbolicTensor): SymbolicTensor {
  const x = net.conv(images, 64, 7, 2)
  const padded = net.apply(layers.zeroPadding2d({ padding: 1, name: 'pool_pad' }), x)
  return net.apply(layers.maxPooling2d({ poolSize: 3, strides: 2, name: 'stem_pool' }), padded)
}

/**
 * Images [batch, height, width, channels] → logits [batch, classes]. Trained parameters: 11,173,962 as it is (CIFAR stem,
 * 10 classes), 11,689,512 as torchvision's (224×224, 1000 classes).
 */
export function resnet18(options: ResnetOptions = {}): LayersModel {
  return resnet(basic, [2, 2, 2, 2], options)
}

/**
 * Images [batch, height, width, channels] → logits [batch, classes]. Trained parameters: 23,520,842 as it is (CIFAR stem,
 * 10 classes), 25,557,032 as torchvision's (224×224, 1000 classes).
 */
export function resnet50(options: ResnetOptions = {}): LayersModel {
  return resnet(bottleneck, [3, 4, 6, 3], options)
}

/** Two basic blocks, [batch, 32, 32, 16] → 16 filters → 32 at half the size → logits: the benchmark's reference. */
export function residualBlocks({ classes = 10, seed = 0 } = {}): LayersModel {
  const net = new Net(seed)
  const images = input({ shape: [32, 32, 16], name: 'images' })
  const x = net.residual(net.residual(images, basic, 16, 1), basic, 32, 2)
  return model({ inputs: images, outputs: net.classify(x, classes) })
}
