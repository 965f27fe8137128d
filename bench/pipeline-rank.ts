/** One rank of bench/pipeline.ts; rank 0 prints one line of JSON. */
import { adam, GPT_PLAN, gpt, init, type PipelineStepResult } from '../src/index.js'
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

/** Of each rank, in a step. */
function computeMsOf(results: readonly PipelineStepResult[]): number[] {
  return results[0]!.computeMs.map((_, rank) =>
    rounded(median(results.map(({ computeMs }) => computeMs[rank]!))),
  )
}

const model = () => gpt({ context: CONTEXT, width, depth, heads: 4 })
const common = { loss: 'softmaxCrossEntropy', optimizer: adam(1e-3) } as const
const pipeline = (schedule: '1f1b' | 'gpipe' | 'interleaved', count = microBatches) =>
  world.pipeline(model(), { ...common, schedule, microBatches: count, stages: 'time' })
const ways = {
  dp2: await world.ddp(model(), common),
  'zero 1': await world.ddp(model(), { ...common, zero: 1 }),
  'zero 3': await world.ddp(model(), { ...common, zero: 3 }),
  'pp2 (1F1B)': await pipeline('1f1b'),
  'pp2 (GPipe)': await pipeline('gpipe'),
  'pp2 (interleaved)': await pipeline('interleaved'),
  'pp2 (interleaved, half as many micro-batches)': await pipeline('interleaved', microBatches / 2),
  tp2: await world.tensorParallel(model(), { ...common, tp: 2, plan: GPT_PLAN }),
}
const names = Object.keys(ways) as (keyof typeof ways)[]
const measured = Object.fromEntries(
  names.map((name) => [name, { ms: [] as number[], bytes: 0, results: [] as PipelineStepResult[] }]),
)
for (let step = -WARM_UP; step < steps; step++) {
  for (const name of names) {
    const samples = 'replica' in ways[name] ? batch : batch / 2
    const tokens = Int32Array.from({ length: samples * CONTEXT }, (_, i) => (i * 7) % 256)
    const x = { data: tokens, shape: [samples, CONTEXT] }
    await world.barrier()
    const [start, before] = [performance.now(), world.collectives.bytesSent]
    const result = await ways[name].step(x, x)
    if (step < 0) continue
    if ('computeMs' in result) measured[name]!.results.push(result as PipelineStepResult)
    measured[name]!.ms.push(performance.now() - start)
    measured[name]!.bytes += world.collectives.bytesSent - before
  }
}
const plain = measured.dp2!.ms
const throughput = names.map((name) => {
  const { ms, bytes, results } = measured[name]!
  const relative = median(plain.map((time, i) => time / ms[i]!))
  return {
    ranks: name,
    medianMs: rounded(median(ms)),
    minMs: rounded(Math.min(...ms)),
    tokensPerSecond: Math.round((batch * CONTEXT * 1000) / median(ms)),
    relative: rounded(relative, 3),
    bytesSentByRank0: Math.round(bytes / steps),
    stateBytes: ways[name].stateBytes,
    ...(results.length > 0 && {
      bubble: rounded(median(results.map(({ bubbleFraction }) => bubbleFraction)), 4),
      computeMs: computeMsOf(results),
    }),
  }
})
if (world.rank === 0) console.log(JSON.stringify({ throughput }))
await world.close()
