/**
 * Transfer learning: a network learns the digits 0 to 4; then its convolutions are frozen, and a new head on top of them
 * learns 5 to 9 from few examples.
 *
 *   npx ddp-launch --nproc 2 examples/transfer/train.ts [--data DIR]
 *
 * DIR holds MNIST as IDX files; without it digits are generated.
 */
import { writeFileSync } from 'node:fs'
import { initializers, layers, sequential } from '@tensorflow/tfjs-layers'
import {
  adam,
  DataLoader,
  type Dataset,
  type Ddp,
  DistributedSampler,
  EvaluationSampler,
  formatTable,
  generateDigits,
  init,
  Progress,
  readFlags,
  readIdx,
} from 'lockstep'
import { digitsOf } from './digits.js'

const world = await init()
const { data, epochs, steps, batch, lr, seed, examples, json } = readFlags({
  data: '',
  epochs: 3, // of each part
  steps: Number.POSITIVE_INFINITY, // of each part, at most
  batch: 32, // digits per rank and step
  lr: 0.002,
  seed: 0,
  examples: 1000, // of the digits 5 to 9, at most
  json: '',
})

const [train, test] = data
  ? [await readIdx(data, 'train'), await readIdx(data, 'test')]
  : [generateDigits(6000, 2 * seed + 1), generateDigits(1000, 2 * seed + 2)]
const shard = { rank: world.rank, size: world.size }

let draws = 1000 * seed
const kernel = () => ({ kernelInitializer: initializers.heNormal({ seed: ++draws }) })
const base = sequential({
  layers: [
    layers.conv2d({
      inputShape: [28, 28, 1],
      filters: 16,
      kernelSize: 3,
      activation: 'relu',
      ...kernel(),
    }),
    layers.maxPooling2d({ poolSize: 2 }),
    layers.conv2d({ filters: 32, kernelSize: 3, activation: 'relu', ...kernel() }),
    layers.maxPooling2d({ poolSize: 2 }),
    layers.flatten(),
  ],
})
const withNewHead = () => sequential({ layers: [base, layers.dense({ units: 5, ...kernel() })] })
const options = { loss: 'softmaxCrossEntropy', optimizer: adam(lr), seed } as const

const first = await world.ddp(withNewHead(), options)
const firstLosses = await learn(first, digitsOf(train, 0, 4))
const firstAccuracy = await accuracy(first, digitsOf(test, 0, 4))
first.updateModel() // brings what was learned back into `base`

base.trainable = false
const head = withNewHead()
const second = await world.ddp(head, options)
const untrained = await accuracy(second, digitsOf(test, 5, 9))
const losses = await learn(second, digitsOf(train, 5, 9, examples))
const testAccuracy = await accuracy(second, digitsOf(test, 5, 9))

/** Trains on all ranks. @returns the loss of every step */
async function learn(ddp: Ddp, digits: Dataset): Promise<number[]> {
  const sampler = new DistributedSampler(digits.length, { ...shard, seed })
  const loader = new DataLoader(digits, { batchSize: batch, sampler })
  const totalSteps = Math.min(steps, epochs * loader.length)
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
  return losses
}

/** Over all ranks. */
async function accuracy(ddp: Ddp, digits: Dataset): Promise<number> {
  const sampler = new EvaluationSampler(digits.length, shard)
  return (await ddp.evaluate(new DataLoader(digits, { batchSize: batch, sampler }))).accuracy!
}

if (world.rank === 0) {
  const result = { worldSize: world.size, firstLosses, firstAccuracy, losses, testAccuracy }
  if (json) writeFileSync(json, `${JSON.stringify(result)}\n`)
  const percent = (share: number) => `${(100 * share).toFixed(2)} %`
  const trained = head.trainableWeights.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a! * b!)!, 0)
  const rows = [
    ['test accuracy of 0 to 4, all layers trained', percent(firstAccuracy)],
    ['parameters trained for 5 to 9', `${trained} of ${head.countParams()}`],
    ['test accuracy of 5 to 9, new head untrained', percent(untrained)],
    [`test accuracy of 5 to 9, ${examples} examples later`, percent(testAccuracy)],
  ]
  console.log(formatTable(rows).join('\n'))
}
await world.close()
