/** One rank of bench/pipeline.ts; rank 0 prints one line of JSON. */
import { layers, sequential } from '@tensorflow/tfjs-layers'
import { adam, GPT_PLAN, gpt, init, sgd } from '../src/index.js'
import { median, rounded } from './record.js'

const [steps, microBatches, width, depth, batch] = process.argv.slice(2).map(Number) as [
  number,
  number,
  number,
  number,
  number,
]
const CONTEXT = 64
const WARM_UP = 3
const world = await init()

/** Many equal layers: the first stage makes no gradient of its input, which with few would be a share of its work. */
const dense = (i: number) =>
  layers.dense({ units: 256, activation: 'tanh', name: `layer${i}`, ...(i === 0 && { inputShape: [256] }) })
const stack = () => sequential({ layers: Array.from({ length: 24 }, (_, i) => dense(i)) })

async function bubbleOf(schedule: 'gpipe' | '1f1b' | 'interleaved') {
  const stagesPerRank = schedule === 'interleaved' ? 2 : 1
  const cut = { stages: 'layers' as const, schedule, stagesPerRank, microBatches }
  const pipeline = await world.pipeline(stack(), { loss: 'meanSquaredError', optimizer: sgd(0.01), ...cut })
  const rows = 128 * microBatches
  const data = { data: new Float32Array(rows * 256).fill(0.1), shape: [rows, 256] }
  const bubbles: number[] = []
  for (let step = -WARM_UP; step < steps; step++) {
    const { bubbleFraction } = await pipeline.step(data, data)
    if (step >= 0) bubbles.push(bubbleFraction)
  }
  const inFlight = await pipeline.mostInFlight()
  const p = world.size
  const formula = (p - 1) / (stagesPerRank * microBatches + p - 1)
  const measured = median(bubbles)
  return {
    schedule,
    measured: rounded(measured, 4),
    formula: rounded(formula, 4),
    ratio: rounded(measured / formula, 3),
    microBatchesHeld: inFlight,
  }
}

const model = () => gpt({ context: CONTEXT, width, depth, heads: 4 })
const common = { loss: 'softmaxCrossEntropy', optimizer: adam(1e-3) } as const
const ways = {
  dp2: await world.ddp(model(), common),
  'zero 1': await world.ddp(model(), { ...common, zero: 1 }),
  'zero 3': await world.ddp(model(), { ...common, zero: 3 }),
  'pp2 (1F1B)': await world.pipeline(model(), { ...common, microBatches, stages: 'time' }),
  'pp2 (GPipe)': await world.pipeline(model(), {
    ...common,
    microBatches,
    stages: 'time',
    schedule: 'gpipe',
  }),
  tp2: await world.tensorParallel(model(), { ...common, tp: 2, plan: GPT_PLAN }),
}
const names = Object.keys(ways) as (keyof typeof ways)[]
const measured = Object.fromEntries(names.map((name) => [name, { ms: [] as number[], bytes: 0 }]))
for (let step = -WARM_UP; step < steps; step++) {
  for (const name of names) {
    const samples = 'replica' in ways[name] ? batch : batch / 2
    const tokens = Int32Array.from({ length: samples * CONTEXT }, (_, i) => (i * 7) % 256)
    const x = { data: tokens, shape: [samples, CONTEXT] }
    await world.barrier()
    const [start, before] = [performance.now(), world.collectives.bytesSent]
    await ways[name].step(x, x)
    if (step < 0) continue
    measured[name]!.ms.push(performance.now() - start)
    measured[name]!.bytes += world.collectives.bytesSent - before
  }
}
const plain = measured.dp2!.ms
const throughput = names.map((name) => {
  const { ms, bytes } = measured[name]!
  const relative = median(plain.map((time, i) => time / ms[i]!))
  return {
    ranks: name,
    medianMs: rounded(median(ms)),
    minMs: rounded(Math.min(...ms)),
    tokensPerSecond: Math.round((batch * CONTEXT * 1000) / median(ms)),
    relative: rounded(relative, 3),
    bytesSentByRank0: Math.round(bytes / steps),
    stateBytes: ways[name].stateBytes,
  }
})
const bubbles = []
for (const schedule of ['gpipe', '1f1b', 'interleaved'] as const) bubbles.push(await bubbleOf(schedule))
if (world.rank === 0) console.log(JSON.stringify({ bubbles, throughput }))
await world.close()
