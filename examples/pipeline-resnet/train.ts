/**
 * ResNet-18 (He et al. 2016) in a pipeline: each rank holds some of its layers, and batches go through in micro-batches.
 *
 *   npx ddp-launch --nproc 2 examples/pipeline-resnet/train.ts [--data DIR] [--micro-batches 4] [--dp 1]
 *
 * DIR holds MNIST as IDX files; without it, digits are generated. A model is cut only where a single tensor crosses, so
 * never beside a skip connection: the places nearest to equal time are taken, between residual blocks. Batch normalization
 * sees one micro-batch at a time (batch / micro-batches images): with as many micro-batches, one rank trains the same way.
 */
import { writeFileSync } from 'node:fs'
import {
  cosine,
  DataLoader,
  DistributedSampler,
  EvaluationSampler,
  formatTable,
  generateDigits,
  init,
  momentum,
  Progress,
  readFlags,
  readIdx,
  resnet18,
} from 'lockstep'

const world = await init()
const flags = readFlags({
  data: '',
  epochs: 1,
  steps: Number.POSITIVE_INFINITY,
  batch: 16, // images of all ranks together, per step
  microBatches: 4,
  dp: 1, // pipelines beside each other
  cuts: '', // names of the layers to cut after, as add7,add14; without: balanced by measured time
  lr: 0.02, // at the start; it falls to 0 along a cosine
  seed: 0,
  json: '',
})
const { data, epochs, batch, microBatches, dp, seed } = flags

const pipeline = await world.pipeline(resnet18({ inputShape: [28, 28, 1], seed }), {
  loss: 'softmaxCrossEntropy',
  optimizer: momentum(cosine({ lr: flags.lr, steps: 1000 })),
  microBatches,
  dp,
  stages: flags.cuts ? flags.cuts.split(',') : 'time',
  seed,
})

const [train, test] = data
  ? [await readIdx(data, 'train'), await readIdx(data, 'test')]
  : [generateDigits(2_000, 2 * seed + 1), generateDigits(160, 2 * seed + 2)]
// All ranks of a pipeline are given the same batches.
const { replica } = pipeline
const sampler = new DistributedSampler(train.length, { ...replica, seed })
const loader = new DataLoader(train, { batchSize: batch / dp, sampler, dropLast: true })
const testLoader = new DataLoader(test, {
  batchSize: batch / dp,
  sampler: new EvaluationSampler(test.length, replica),
})

const totalSteps = Math.min(flags.steps, epochs * loader.length)
const progress = world.rank === 0 ? new Progress({ totalSteps, epochs }) : undefined
const losses: number[] = []
const bubbles: number[] = []
for (let epoch = 0; pipeline.stepCount < totalSteps; epoch++) {
  sampler.setEpoch(epoch)
  for await (const { x, y } of loader) {
    const { loss, samples, bubbleFraction } = await pipeline.step(x, y)
    losses.push(loss)
    bubbles.push(bubbleFraction)
    progress?.update({ step: pipeline.stepCount, epoch, loss, samples })
    if (pipeline.stepCount >= totalSteps) break
  }
}
progress?.done()

const { accuracy } = await pipeline.evaluate(testLoader)
const [bytes, layers] = [pipeline.stateBytes, pipeline.layers.flat()]
console.log(`${layers[0]} to ${layers.at(-1)}: ${(bytes / 2 ** 20).toFixed(1)} MiB of state`)
if (world.rank === 0) {
  const bubble = bubbles.toSorted((a, b) => a - b)[Math.floor(bubbles.length / 2)]!
  const result = { worldSize: world.size, losses, testAccuracy: accuracy, bubbleFraction: bubble }
  if (flags.json) writeFileSync(flags.json, `${JSON.stringify(result)}\n`)
  const rows = [
    ['pipelines', `${dp}, of ${world.size / dp} stages, ${microBatches} micro-batches`],
    ['steps', String(pipeline.stepCount)],
    ['final loss', losses.at(-1)!.toFixed(4)],
    ['test accuracy', `${(100 * accuracy!).toFixed(2)} %`],
    ['idle (median)', `${(100 * bubble).toFixed(0)} %`],
  ]
  console.log(formatTable(rows).join('\n'))
}
await world.close()
