/**
 * One rank of bench/accuracy.ts: trains a model from the same weights on the same batches with each compressor in turn; rank
 * 0 prints one line of JSON for each. Arguments: model, what to train on (or `-`), batch, steps, and pairs of
 * `optimizer:rate compression`.
 */
import {
  cosine,
  DataLoader,
  DistributedSampler,
  EvaluationSampler,
  init,
  linearWarmup,
  momentum,
  sgd,
} from '../src/index.js'
import { taskOf } from './tasks.js'

const [model, source, batchSize, steps, ...contenders] = process.argv.slice(2) as [
  ...['cnn' | 'gpt', string, string, string],
  ...string[],
]
const world = await init()
const shard = { rank: world.rank, size: world.size }
const batch = Number(batchSize)
const { make, train, test } = await taskOf(model, source === '-' ? undefined : source)
for (let i = 0; i < contenders.length; i += 2) await compare(contenders[i]!, contenders[i + 1]!)
await world.close()

async function compare(training: string, compression: string): Promise<void> {
  const [optimizer, lr] = training.split(':') as ['sgd' | 'momentum', string]
  // Towards 0, so that the end does not depend on what the last batches were.
  const rate = linearWarmup({ steps: 20, next: cosine({ lr: Number(lr), steps: Number(steps) - 20 }) })
  const ddp = await world.ddp(make(), {
    loss: 'softmaxCrossEntropy',
    optimizer: optimizer === 'sgd' ? sgd(rate) : momentum(rate),
    compression,
  })
  const sampler = new DistributedSampler(train.length, shard)
  const loader = new DataLoader(train, { batchSize: batch, sampler, dropLast: true })
  const losses: number[] = []
  let [before, sent] = [0, 0]
  for (let epoch = 0; ddp.stepCount < Number(steps); epoch++) {
    sampler.setEpoch(epoch)
    for await (const { x, y } of loader) {
      before = world.collectives.bytesSent
      losses.push((await ddp.step(x, y)).loss)
      sent = world.collectives.bytesSent - before
      if (ddp.stepCount === Number(steps)) break
    }
  }
  const testSampler = new EvaluationSampler(test.length, shard)
  const { loss, accuracy } = await ddp.evaluate(
    new DataLoader(test, { batchSize: batch, sampler: testSampler }),
  )
  await ddp.release()
  if (world.rank === 0)
    console.log(JSON.stringify({ training, compression, loss, accuracy, bytesLastStep: sent, losses }))
}
