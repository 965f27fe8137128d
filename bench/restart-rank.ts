/** One rank of bench/restart.ts: trains the reference CNN from its checkpoint on, and says when it comes to what. */
import { adam, cnn, init } from 'lockstep'

const mark = (what: string) =>
  console.log(`${process.env.LOCKSTEP_RESTART_COUNT} ${what} ${Date.now()} ${process.pid}`)
mark('imported')
const checkpoints = process.argv[2]!
const world = await init()
mark('connected')
const ddp = await world.ddp(cnn({ seed: 1 }), { loss: 'softmaxCrossEntropy', optimizer: adam(1e-3) })
await ddp.load(checkpoints)
mark('loaded')
const batch = 32
const x = { data: new Float32Array(batch * 784).fill(0.5), shape: [batch, 28, 28, 1] }
const y = { data: Int32Array.from({ length: batch }, (_, i) => i % 10), shape: [batch] }
await ddp.step(x, y)
mark('stepped')
await ddp.save(checkpoints)
mark('saved')
for (;;) await ddp.step(x, y)
