/**
 * Trains a digit classifier on all ranks in lockstep:
 *
 *   npx ddp-launch --nproc 2 examples/mnist/train.ts --data DIR --epochs 3
 *
 * DIR holds MNIST as IDX files (gzipped or not); without --data, digits are generated. With --checkpoint, a run that
 * finds a checkpoint continues from it, in mid-epoch too, with any number of ranks.
 */
import { writeFileSync } from 'node:fs'
import {
  cnn,
  DataLoader,
  type DataLoaderState,
  DistributedSampler,
  EvaluationSampler,
  formatTable,
  generateDigits,
  init,
  mlp,
  optimizerByName,
  Progress,
  readIdx,
} from 'lockstep'
import { readOptions } from './options.js'

const world = await init()
const options = readOptions(process.argv.slice(2))
const { batch, seed, checkpoint } = options

const [train, test] = options.data
  ? [await readIdx(options.data, 'train'), await readIdx(options.data, 'test')]
  : [generateDigits(12_000, 2 * seed + 1), generateDigits(2_000, 2 * seed + 2)]
const shard = { rank: world.rank, size: world.size }
const sampler = new DistributedSampler(train.length, { ...shard, seed })
const loader = new DataLoader(train, { batchSize: batch, sampler })
const testLoader = new DataLoader(test, {
  batchSize: batch,
  sampler: new EvaluationSampler(test.length, shard),
})

const ddp = await world.ddp(options.model === 'cnn' ? cnn({ seed }) : mlp({ seed }), {
  loss: 'softmaxCrossEntropy',
  optimizer: optimizerByName(options.optimizer, options.lr),
  compression: options.compression,
  precision: options.precision,
  seed,
})

const losses: number[] = []
let startEpoch = 0
if (checkpoint !== undefined) {
  const state = await ddp.load(checkpoint)
  if (state !== undefined) {
    const { position, losses: before } = state as unknown as { position: DataLoaderState; losses: number[] }
    loader.loadStateDict(position)
    startEpoch = position.epoch
    losses.push(...before)
    if (world.rank === 0) console.log(`resumed from ${checkpoint} at step ${ddp.stepCount}`)
  }
}
const firstStep = ddp.stepCount
const stepsLeft = loader.remaining + (options.epochs - startEpoch - 1) * loader.length
const totalSteps = Math.min(options.steps, firstStep + stepsLeft)

const progress = world.rank === 0 ? new Progress({ totalSteps, epochs: options.epochs }) : undefined
let [seconds, samplesTimed, bytesSent] = [0, 0, 0]
let stopping = false

const save = () => ddp.save(checkpoint!, { position: loader.stateDict(), losses })

for (let epoch = startEpoch; epoch < options.epochs && ddp.stepCount < totalSteps && !stopping; epoch++) {
  sampler.setEpoch(epoch)
  for await (const { x, y } of loader) {
    const [start, bytesBefore] = [performance.now(), world.collectives.bytesSent]
    const { loss, samples } = await ddp.step(x, y)
    bytesSent += world.collectives.bytesSent - bytesBefore
    losses.push(loss)
    // The first step of a run compiles the model; what a step costs is measured from the second on.
    if (ddp.stepCount > firstStep + 1) {
      seconds += (performance.now() - start) / 1000
      samplesTimed += samples
    }
    progress?.update({ step: ddp.stepCount, epoch, loss, samples })
    const last = ddp.stepCount >= totalSteps
    stopping = checkpoint !== undefined && (await world.stopping())
    if (checkpoint !== undefined && (last || stopping || ddp.stepCount % options.saveEvery === 0))
      await save()
    if (last || stopping) break
  }
}
progress?.done()

if (stopping && ddp.stepCount < totalSteps) {
  if (world.rank === 0)
    console.log(`stopped and saved at step ${ddp.stepCount}: start again to go on from there`)
  await world.close()
  process.exit(143) // not done: with --max-restarts, the launcher starts it again at once
}

const { accuracy } = await ddp.evaluate(testLoader)
const steps = ddp.stepCount
const sent = Float64Array.of(steps > firstStep ? bytesSent / (steps - firstStep) : 0)
await world.collectives.allReduce(sent, 'mean')

if (world.rank === 0) {
  const result = {
    worldSize: world.size,
    epochs: options.epochs,
    steps,
    finalLoss: losses.at(-1),
    losses,
    testAccuracy: accuracy,
    samplesPerSecond: seconds > 0 ? samplesTimed / seconds : 0,
    bytesSentPerStep: sent[0],
    paramsSha256: ddp.paramsSha256(),
  }
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(result)}\n`)
  const rows = [
    ['ranks', String(world.size)],
    ['steps', String(steps)],
    ['final loss', result.finalLoss?.toFixed(4) ?? '-'],
    ['samples/s', result.samplesPerSecond.toFixed(0)],
    ['sent per rank and step', `${(sent[0]! / 1e6).toFixed(2)} MB`],
    ['parameters (SHA-256)', `${result.paramsSha256.slice(0, 16)}…`],
    ['test accuracy', `${(100 * accuracy!).toFixed(2)} %`],
  ]
  console.log(formatTable(rows).join('\n'))
}
await world.close()
