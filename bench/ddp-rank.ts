/** One rank of bench/ddp.ts: steps of the reference CNN, timed; rank 0 prints one line of JSON. */
import { adam, cnn, init } from '../src/index.js'
import { median } from './record.js'

const [batch, steps] = process.argv.slice(2).map(Number) as [number, number]
const world = await init()
const ddp = await world.ddp(cnn({ seed: 1 }), { loss: 'softmaxCrossEntropy', optimizer: adam(1e-3) })
const x = { data: Float32Array.from({ length: batch * 784 }, () => Math.random()), shape: [batch, 28, 28, 1] }
const y = { data: Int32Array.from({ length: batch }, (_, i) => i % 10), shape: [batch] }
for (let i = 0; i < 3; i++) await ddp.step(x, y)
const times: number[] = []
for (let i = 0; i < steps; i++) {
  const start = performance.now()
  await ddp.step(x, y)
  times.push(performance.now() - start)
}
if (world.rank === 0) console.log(JSON.stringify({ medianMs: median(times), minMs: Math.min(...times) }))
await world.close()
