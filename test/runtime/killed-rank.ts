/** A rank of killed.slow.test.ts: `kind directory`. In the job's first attempt rank 1 dies after three of six steps. */
import { GPT_PLAN, gpt, init, sgd } from '../../src/index.js'

const [kind, directory] = process.argv.slice(2) as ['pp' | 'tp' | 'zero3', string]
const world = await init()
const model = gpt({ vocabulary: 12, context: 8, width: 16, heads: 2, depth: 2 })
const common = { loss: 'softmaxCrossEntropy', optimizer: sgd(0.5) } as const
const trainers = {
  pp: () => world.pipeline(model, { ...common, microBatches: 2 }),
  tp: () => world.tensorParallel(model, { ...common, tp: 2, plan: GPT_PLAN }),
  zero3: () => world.ddp(model, { ...common, zero: 3 }),
}
const trainer = await trainers[kind]()
await trainer.load(directory)
const from = trainer.stepCount
const tokens = Int32Array.from({ length: 32 }, (_, i) => (i * 5) % 12)
const x = { data: tokens, shape: [4, 8] }
const losses: number[] = []
while (trainer.stepCount < 6) {
  if (trainer.stepCount === 3 && from === 0) {
    if (world.rank === 1) {
      process.stdout.write(`dies at ${Date.now()}\n`)
      process.kill(process.pid, 'SIGKILL')
    }
    const failed = (error: Error) => process.stdout.write(`told at ${Date.now()}: ${error.message}\n`)
    await trainer.step(x, x).catch(failed)
    throw new Error('rank 1 is gone')
  }
  losses.push((await trainer.step(x, x)).loss)
  await trainer.save(directory)
}
process.stdout.write(`steps ${from} to ${trainer.stepCount}, losses ${losses.join()}\n`)
await world.close()
