/**
 * Text classification: an LSTM reads reviews word by word and says whether they are kind.
 *
 *   npx ddp-launch --nproc 2 examples/sentiment/train.ts [--data FILE]
 *
 * FILE has one review a line: 0 or 1, a tab, the text; a tenth of it is kept for testing. Without it, reviews are made up,
 * in which a "not" turns an opinion around and only the last opinion counts.
 */
import { writeFileSync } from 'node:fs'
import { initializers, layers, sequential } from '@tensorflow/tfjs-layers'
import {
  adam,
  DataLoader,
  DistributedSampler,
  EvaluationSampler,
  formatTable,
  init,
  Progress,
  readFlags,
} from 'lockstep'
import { inventReviews, numberWords, readReviews, reviewDataset } from './reviews.js'

const world = await init()
const { data, epochs, steps, batch, lr, seed, words, length, units, json } = readFlags({
  data: '',
  epochs: 4,
  steps: Number.POSITIVE_INFINITY,
  batch: 32, // reviews per rank and step
  lr: 0.005,
  seed: 0,
  words: 5000, // known at most
  length: 16, // words read of each review, its last
  units: 32, // of the LSTM
  json: '',
})

const reviews = data ? await readReviews(data) : inventReviews(4000, seed)
const isTest = (_: unknown, i: number) => i % 10 === 9
const numbers = numberWords(reviews, words)
const train = reviewDataset(
  reviews.filter((review, i) => !isTest(review, i)),
  numbers,
  length,
)
const test = reviewDataset(reviews.filter(isTest), numbers, length)
const shard = { rank: world.rank, size: world.size }
const sampler = new DistributedSampler(train.length, { ...shard, seed })
const loader = new DataLoader(train, { batchSize: batch, sampler })
const testLoader = new DataLoader(test, {
  batchSize: batch,
  sampler: new EvaluationSampler(test.length, shard),
})

let draws = 1000 * seed
const glorot = () => initializers.glorotUniform({ seed: ++draws })
const model = sequential({
  layers: [
    layers.embedding({
      inputDim: numbers.size + 1,
      outputDim: 16,
      inputLength: length,
      embeddingsInitializer: glorot(),
    }),
    layers.lstm({
      units,
      kernelInitializer: glorot(),
      recurrentInitializer: initializers.orthogonal({ gain: 1, seed: ++draws }),
    }),
    layers.dense({ units: 2, kernelInitializer: glorot() }),
  ],
})
const ddp = await world.ddp(model, { loss: 'softmaxCrossEntropy', optimizer: adam(lr), seed })

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

const { accuracy } = await ddp.evaluate(testLoader)
if (world.rank === 0) {
  const result = { worldSize: world.size, steps: ddp.stepCount, losses, testAccuracy: accuracy }
  if (json) writeFileSync(json, `${JSON.stringify(result)}\n`)
  const rows = [
    ['reviews', `${train.length} to learn from, ${test.length} to test`],
    ['steps', String(ddp.stepCount)],
    ['final loss', losses.at(-1)!.toFixed(4)],
    ['test accuracy', `${(100 * accuracy!).toFixed(2)} %`],
  ]
  console.log(formatTable(rows).join('\n'))
}
await world.close()
