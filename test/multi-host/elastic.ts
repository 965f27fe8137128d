/**
 * A job on nodes that come and go: a checkpoint every few steps and when asked to stop, from which the next attempt goes
 * on; over when DIR/enough is there. Checkpoints are in DIR, the argument.
 */
import { existsSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import * as tf from '@tensorflow/tfjs-layers'
import { init, sgd } from 'lockstep'

const directory = process.argv[2]!
const world = await init()
const model = tf.sequential({ layers: [tf.layers.dense({ units: 1, inputShape: [4] })] })
const ddp = await world.ddp(model, { loss: 'meanSquaredError', optimizer: sgd(0.01) })
await ddp.load(directory)
const restarts = Number(process.env.LOCKSTEP_RESTART_COUNT)
const x = { data: Float32Array.of(1, 2, 3, 4), shape: [1, 4] }
const y = { data: Float32Array.of(1), shape: [1, 1] }
const first = ddp.stepCount
for (;;) {
  await ddp.step(x, y)
  if (ddp.stepCount === first + 1 && world.rank === 0)
    console.log(`attempt ${attemptOf(restarts, world.size)} world ${world.size} from step ${first}`)
  await delay(20)
  const isOver = Float32Array.of(existsSync(`${directory}/enough`) ? 1 : 0)
  await world.collectives.allReduce(isOver, 'max')
  const stopping = await world.stopping()
  if (stopping || isOver[0] === 1 || ddp.stepCount % 10 === 0) await ddp.save(directory, {}, { keepLast: 2 })
  if (stopping || isOver[0] === 1) break
}
await world.close()

/** Together, alone, together again: of these two restarts only the first counts as one. */
function attemptOf(count: number, size: number): number {
  return count === 0 ? 0 : size === 1 ? 1 : 2
}
