/**
 * Regression on a table: house prices from a few numbers.
 *
 *   npx ddp-launch --nproc 2 examples/housing/train.ts [--data FILE]
 *
 * FILE is comma-separated with the columns' names in its first line; the last column is predicted from the others, and
 * every tenth row kept for testing. Without it, houses are made up.
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
import { inventHouses, readCsv, scalesOf, tableDataset } from './table.js'

const world = await init()
const { data, epochs, steps, batch, lr, seed, units, json } = readFlags({
  data: '',
  epochs: 20,
  steps: Number.POSITIVE_INFINITY,
  batch: 32, // rows per rank and step
  lr: 0.005,
  seed: 0,
  units: 50, // of each hidden layer
  json: '',
})

const table = data ? await readCsv(data) : inventHouses(4000, seed)
const rows = (test: boolean) => ({ ...table, rows: table.rows.filter((_, i) => (i % 10 === 9) === test) })
const scales = scalesOf(rows(false)) // of what is learned from: a test row must not be known in any way
const [train, test] = [tableDataset(rows(false), scales), tableDataset(rows(true), scales)]
const shard = { rank: world.rank, size: world.size }
const sampler = new DistributedSampler(train.length, { ...shard, seed })
const loader = new DataLoader(train, { batchSize: batch, sampler })
const testLoader = new DataLoader(test, {
  batchSize: batch,
  sampler: new EvaluationSampler(test.length, shard),
})

let draws = 1000 * seed
const kernel = () => ({ kernelInitializer: initializers.heNormal({ seed: ++draws }) })
const model = sequential({
  layers: [
    layers.dense({ inputShape: [table.columns.length - 1], units, activation: 'relu', ...kernel() }),
    layers.dense({ units, activation: 'relu', ...kernel() }),
    layers.dense({ units: 1, ...kernel() }),
  ],
})
const ddp = await world.ddp(model, { loss: 'meanSquaredError', optimizer: adam(lr), seed })

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

// The loss is in squared standard deviations of the target: its root times one of them is in the target's own unit.
const { deviation } = scales.at(-1)!
const testError = Math.sqrt((await ddp.evaluate(testLoader)).loss) * deviation
if (world.rank === 0) {
  const result = { worldSize: world.size, steps: ddp.stepCount, losses, testError }
  if (json) writeFileSync(json, `${JSON.stringify(result)}\n`)
  const rows = [
    ['steps', String(ddp.stepCount)],
    ['final loss', losses.at(-1)!.toFixed(4)],
    [`spread of ${table.columns.at(-1)}`, deviation.toFixed(2)],
    ['test error (root mean square)', testError.toFixed(2)],
  ]
  console.log(formatTable(rows).join('\n'))
}
await world.close()
