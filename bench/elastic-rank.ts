/**
 * One rank of bench/elastic.ts. The global batch stays what it is, whatever the number of ranks: each takes its part of
 * it, and the learning rate stays, too. The checkpoint has the position in the data.
 */
import { writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import {
  DataLoader,
  type DataLoaderState,
  DistributedSampler,
  generateDigits,
  init,
  mlp,
  momentum,
} from 'lockstep'

const [directory, steps, globalBatch, paceMs] = process.argv.slice(2) as [string, string, string, string]
const world = await init()
const ddp = await world.ddp(mlp({ seed: 1 }), {
  loss: 'softmaxCrossEntropy',
  optimizer: momentum(0.02, { momentum: 0.9 }),
})
const digits = generateDigits(4800, 1)
const sampler = new DistributedSampler(digits.length, { rank: world.rank, size: world.size, seed: 1 })
const loader = new DataLoader(digits, { batchSize: Number(globalBatch) / world.size, sampler })

interface State {
  readonly position: DataLoaderState
  /** By step: the loss, and how many ranks took it. */
  readonly curve: [loss: number, ranks: number][]
}
const state = (await ddp.load(directory)) as unknown as State | undefined
if (state) loader.loadStateDict(state.position)
const curve = state?.curve ?? []

training: for (let epoch = state?.position.epoch ?? 0; ; epoch++) {
  sampler.setEpoch(epoch)
  for await (const { x, y } of loader) {
    const { loss } = await ddp.step(x, y)
    curve.push([loss, world.size])
    if (world.rank === 0) console.log(`step ${ddp.stepCount} of ${world.size}`)
    const isStopping = await world.stopping()
    const isOver = ddp.stepCount >= Number(steps)
    if (isStopping || isOver)
      await ddp.save(directory, { position: loader.stateDict(), curve }, { keepLast: 1 })
    if (isOver && world.rank === 0) writeFileSync(`${directory}/curve.json`, JSON.stringify(curve))
    if (isStopping || isOver) break training
    await delay(Number(paceMs))
  }
}
await world.close()
