/**
 * Image classification with a residual network for CIFAR-10 (He et al. 2016, section 4.2).
 *
 *   npx ddp-launch --nproc 2 examples/cifar/train.ts [--data DIR] [--blocks 3]
 *
 * DIR holds CIFAR-10's binary version; without it, images of coloured shapes are made up. With 1 block a stage it is
 * ResNet-8, with 3 ResNet-20.
 */
import { writeFileSync } from 'node:fs'
import { initializers, input, layers, model, type SymbolicTensor } from '@tensorflow/tfjs-layers'
import {
  cosine,
  DataLoader,
  DistributedSampler,
  EvaluationSampler,
  formatTable,
  init,
  momentum,
  Progress,
  readFlags,
} from 'lockstep'
import { inventImages, readCifar } from './images.js'

const world = await init()
const { data, epochs, steps, batch, lr, seed, blocks, json } = readFlags({
  data: '',
  epochs: 5,
  steps: Number.POSITIVE_INFINITY,
  batch: 32, // images per rank and step
  lr: 0.05, // at the start; it falls to 0 along a cosine
  seed: 0,
  blocks: 1, // residual blocks per stage
  json: '',
})

const [train, test] = data
  ? [await readCifar(data, 'train'), await readCifar(data, 'test')]
  : [inventImages(2000, 2 * seed), inventImages(500, 2 * seed + 1)]
const shard = { rank: world.rank, size: world.size }
const sampler = new DistributedSampler(train.length, { ...shard, seed })
const loader = new DataLoader(train, { batchSize: batch, sampler, dropLast: true })
const testLoader = new DataLoader(test, {
  batchSize: batch,
  sampler: new EvaluationSampler(test.length, shard),
})

let draws = 1000 * seed
const apply = (layer: layers.Layer, x: SymbolicTensor) => layer.apply(x) as SymbolicTensor
function conv(x: SymbolicTensor, filters: number, kernelSize: number, strides: number): SymbolicTensor {
  const kernelInitializer = initializers.heNormal({ seed: ++draws })
  const config = { filters, kernelSize, strides, padding: 'same', useBias: false, kernelInitializer } as const
  return apply(layers.batchNormalization({ momentum: 0.9 }), apply(layers.conv2d(config), x))
}
const relu = (x: SymbolicTensor) => apply(layers.reLU(), x)
/** relu(two convolutions of x + x); where the shape changes, x goes through a 1×1 convolution. */
function residual(x: SymbolicTensor, filters: number, strides: number): SymbolicTensor {
  const body = conv(relu(conv(x, filters, 3, strides)), filters, 3, 1)
  const shortcut = strides === 1 && x.shape.at(-1) === filters ? x : conv(x, filters, 1, strides)
  return relu(layers.add().apply([body, shortcut]) as SymbolicTensor)
}

const images = input({ shape: [32, 32, 3] })
let x = relu(conv(apply(layers.rescaling({ scale: 1 / 255, offset: -0.5 }), images), 16, 3, 1))
for (const [stage, filters] of [16, 32, 64].entries())
  for (let i = 0; i < blocks; i++) x = residual(x, filters, stage > 0 && i === 0 ? 2 : 1)
const head = layers.dense({ units: 10, kernelInitializer: initializers.glorotUniform({ seed: ++draws }) })
const network = model({ inputs: images, outputs: apply(head, apply(layers.globalAveragePooling2d({}), x)) })

const totalSteps = Math.min(steps, epochs * loader.length)
const optimizer = momentum(cosine({ lr, steps: totalSteps }))
const ddp = await world.ddp(network, { loss: 'softmaxCrossEntropy', optimizer, seed })

const progress = world.rank === 0 ? new Progress({ totalSteps, epochs }) : undefined
const losses: number[] = []
for (let epoch = 0; ddp.stepCount < totalSteps; epoch++) {
  sampler.setEpoch(epoch)
  for await (const { x, y } of loader) {
    const { loss, samples } = await ddp.step(x, y)
    losses.push(loss)
    progress?.update({ step: ddp.stepCount, epoch, loss, samples })
    if (ddp.stepCount >= totalSteps) break
  }
}
progress?.done()

const { accuracy } = await ddp.evaluate(testLoader)
if (world.rank === 0) {
  const result = { worldSize: world.size, steps: ddp.stepCount, losses, testAccuracy: accuracy }
  if (json) writeFileSync(json, `${JSON.stringify(result)}\n`)
  const rows = [
    ['network', `ResNet-${6 * blocks + 2}, ${network.countParams()} parameters`],
    ['steps', String(ddp.stepCount)],
    ['final loss', losses.at(-1)!.toFixed(4)],
    ['test accuracy', `${(100 * accuracy!).toFixed(2)} %`],
  ]
  console.log(formatTable(rows).join('\n'))
}
await world.close()
