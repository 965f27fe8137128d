/** One rank of bench/leak.ts: trains, and writes what its process holds, once for each twentieth of the steps. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import * as tf from '@tensorflow/tfjs-core'
import { Session } from '../src/compiler/session.js'
import {
  adam,
  cnn,
  DataLoader,
  DistributedSampler,
  EvaluationSampler,
  generateDigits,
  init,
  mlp,
} from '../src/index.js'
import type { Held } from './leak.js'

const [model, stepsText, batchText, directory] = process.argv.slice(2) as [string, string, string, string]
const [steps, batchSize] = [Number(stepsText), Number(batchText)]

// Collected first, so that what is measured is what is held, not what waits to be collected.
setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

let sessions = 0
const { create } = Session
const { release } = Session.prototype
Session.create = (...args) => {
  sessions++
  return create.apply(Session, args)
}
Session.prototype.release = function (this: Session) {
  sessions--
  return release.call(this)
}

const world = await init()
const digits = generateDigits(1000 * world.size, 1)
const shard = { rank: world.rank, size: world.size }
const sampler = new DistributedSampler(digits.length, shard)
// 1000 samples are no multiple of the batch: every epoch ends with one of another size, which has a program of its own.
const loader = new DataLoader(digits, { batchSize, sampler })
const test = generateDigits(100, 2)
const testLoader = new DataLoader(test, { batchSize, sampler: new EvaluationSampler(test.length, shard) })
const ddp = await world.ddp(model === 'cnn' ? cnn() : mlp(), {
  loss: 'softmaxCrossEntropy',
  optimizer: adam(1e-3),
})

const held: Held[] = []
for (let epoch = 0; ddp.stepCount < steps; epoch++) {
  sampler.setEpoch(epoch)
  for await (const { x, y } of loader) {
    await ddp.step(x, y)
    if (ddp.stepCount % (steps / 20) === 0) {
      await ddp.evaluate(testLoader)
      collect()
      const { rss, heapUsed } = process.memoryUsage()
      held.push({ rss, heap: heapUsed, tensors: tf.memory().numTensors, sessions })
    }
    if (ddp.stepCount === steps) break
  }
}
writeFileSync(join(directory, `${world.rank}.json`), JSON.stringify(held))
await world.close()
