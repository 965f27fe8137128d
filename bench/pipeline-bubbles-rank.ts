/** One rank of bench/pipeline.ts, whose timeline it reads: pipelines of equal stages. Rank 0 prints one line of JSON. */
import { layers, sequential } from '@tensorflow/tfjs-layers'
import { init, sgd } from '../src/index.js'

const [steps, microBatches] = process.argv.slice(2).map(Number) as [number, number]
const world = await init()

/** Layers of each rank; a micro-batch of so many rows makes passes of some 30 and 60 ms, beside which a hand-over is short. */
const [LAYERS, UNITS, ROWS] = [16, 512, 256]

/** Dense layers, behind a cheap one whose weights make the first of them compute the gradient of its input as all others. */
function stack() {
  const dense = (i: number) => layers.dense({ units: UNITS, activation: 'tanh', name: `layer${i}` })
  const first = layers.layerNormalization({ name: 'first', inputShape: [UNITS] })
  return sequential({
    layers: [first, ...Array.from({ length: LAYERS * world.size }, (_, i) => dense(i + 1))],
  })
}

const held = []
for (const schedule of ['gpipe', '1f1b', 'interleaved'] as const) {
  const stagesPerRank = schedule === 'interleaved' ? 2 : 1
  const cuts = Array.from({ length: world.size * stagesPerRank - 1 }, (_, i) => i + 1)
  const stages = cuts.map((cut) => `layer${(cut * LAYERS) / stagesPerRank}`)
  const options = { stages, schedule, stagesPerRank, microBatches, loss: 'meanSquaredError' } as const
  const pipeline = await world.pipeline(stack(), { ...options, optimizer: sgd(0.01) })
  const rows = ROWS * microBatches
  const data = { data: new Float32Array(rows * UNITS).fill(0.1), shape: [rows, UNITS] }
  for (let step = 0; step < steps; step++) await pipeline.step(data, data)
  held.push({ schedule, stagesPerRank, microBatchesHeld: await pipeline.mostInFlight() })
  await pipeline.release()
}
if (world.rank === 0) console.log(JSON.stringify(held))
await world.close()
