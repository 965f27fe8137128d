/**
 * A convolutional autoencoder squeezes digits of 784 pixels into a few numbers and draws them again.
 *
 *   npx ddp-launch --nproc 2 examples/autoencoder/train.ts [--data DIR] [--image digits.pgm]
 *
 * DIR holds MNIST as IDX files; without it digits are generated. The image shows test digits above what became of them.
 */
import { writeFileSync } from 'node:fs'
import { initializers, layers, sequential } from '@tensorflow/tfjs-layers'
import {
  adam,
  DataLoader,
  DistributedSampler,
  EvaluationSampler,
  formatTable,
  generateDigits,
  init,
  type NdArray,
  Progress,
  readFlags,
  readIdx,
} from 'lockstep'

const world = await init()
const { data, epochs, steps, batch, lr, seed, code, image, json } = readFlags({
  data: '',
  epochs: 8,
  steps: Number.POSITIVE_INFINITY,
  batch: 32, // digits per rank and step
  lr: 0.002,
  seed: 0,
  code: 16, // numbers that a digit is squeezed into
  image: '',
  json: '',
})

const [train, test] = data
  ? [await readIdx(data, 'train'), await readIdx(data, 'test')]
  : [generateDigits(6000, 2 * seed + 1), generateDigits(1000, 2 * seed + 2)]
const shard = { rank: world.rank, size: world.size }
const sampler = new DistributedSampler(train.length, { ...shard, seed })
const loader = new DataLoader(train, { batchSize: batch, sampler })
const testLoader = new DataLoader(test, {
  batchSize: batch,
  sampler: new EvaluationSampler(test.length, shard),
})

let draws = 1000 * seed
const kernel = () => ({ kernelInitializer: initializers.heNormal({ seed: ++draws }) })
const half = { kernelSize: 3, strides: 2, padding: 'same', activation: 'relu' } as const
const model = sequential({
  layers: [
    layers.conv2d({ inputShape: [28, 28, 1], filters: 16, ...half, ...kernel() }), // 14 × 14
    layers.conv2d({ filters: 32, ...half, ...kernel() }), // 7 × 7
    layers.flatten(),
    layers.dense({ units: code, ...kernel() }),
    layers.dense({ units: 7 * 7 * 32, activation: 'relu', ...kernel() }),
    layers.reshape({ targetShape: [7, 7, 32] }),
    layers.conv2dTranspose({ filters: 16, ...half, ...kernel() }), // 14 × 14
    layers.conv2dTranspose({ filters: 1, ...half, activation: 'sigmoid', ...kernel() }), // 28 × 28
  ],
})
const ddp = await world.ddp(model, { loss: 'meanSquaredError', optimizer: adam(lr), seed })

const totalSteps = Math.min(steps, epochs * loader.length)
const progress = world.rank === 0 ? new Progress({ totalSteps, epochs }) : undefined
const losses: number[] = []
for (let epoch = 0; ddp.stepCount < totalSteps; epoch++) {
  sampler.setEpoch(epoch)
  for await (const { x } of loader) {
    const { loss, samples } = await ddp.step(x, x)
    losses.push(loss)
    progress?.update({ step: ddp.stepCount, epoch, loss, samples })
    if (ddp.stepCount >= totalSteps) break
  }
}
progress?.done()

const { loss: testLoss } = await ddp.evaluate(toThemselves())

/** The test digits, each its own label. */
async function* toThemselves() {
  for await (const { x } of testLoader) yield { x, y: x }
}

/** A grey image (PGM, netpbm.sourceforge.net) with the digits of `above` in a row over those of `below`. */
function pgm(above: NdArray, below: NdArray): Buffer {
  const [count, height, width] = above.shape as [number, number, number]
  const pixels = new Uint8Array(2 * count * height * width)
  for (let i = 0; i < above.data.length; i++) {
    const [digit, row, column] = [Math.floor(i / height / width), Math.floor(i / width) % height, i % width]
    const at = (row * count + digit) * width + column
    pixels[at] = 255 * above.data[i]!
    pixels[at + count * height * width] = 255 * below.data[i]!
  }
  return Buffer.concat([Buffer.from(`P5 ${count * width} ${2 * height} 255\n`), pixels])
}

if (world.rank === 0) {
  if (image) {
    const { x } = await test.batch([0, 1, 2, 3, 4, 5, 6, 7])
    writeFileSync(image, pgm(x, await ddp.predict(x)))
  }
  const result = { worldSize: world.size, steps: ddp.stepCount, losses, testLoss }
  if (json) writeFileSync(json, `${JSON.stringify(result)}\n`)
  const rows = [
    ['steps', String(ddp.stepCount)],
    ['squeezed', `784 pixels into ${code} numbers`],
    ['first loss', losses[0]!.toFixed(4)],
    ['final loss', losses.at(-1)!.toFixed(4)],
    ['test loss (squared error a pixel)', testLoss.toFixed(4)],
  ]
  console.log(formatTable(rows).join('\n'))
}
await world.close()
