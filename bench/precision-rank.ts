/** One run of bench/precision.ts, in a process of its own for its memory's sake: it prints one line of JSON. */
import type { Provider } from '../src/compiler/onnxruntime.js'
import type { Precision } from '../src/compiler/precision.js'
import { adam, DataLoader, DistributedSampler, init } from '../src/index.js'
import { median, rounded } from './record.js'
import { taskOf } from './tasks.js'

const [model, precision, batch, steps, provider] = process.argv.slice(2) as [
  ...['mlp' | 'cnn' | 'gpt', Precision, string, string, Provider],
]
const world = await init()
const { make, train } = await taskOf(model)
const ddp = await world.ddp(make(), {
  ...{ loss: 'softmaxCrossEntropy', optimizer: adam(1e-3), precision, engine: 'onnx', provider },
})
const sampler = new DistributedSampler(train.length, { rank: 0, size: 1 })
const loader = new DataLoader(train, { batchSize: Number(batch), sampler, dropLast: true })
const losses: number[] = []
const [ms, cpuMs]: [number[], number[]] = [[], []]
let skipped = 0
let lossScale: number | undefined
// As many batches, skipped ones too: losses can then be compared batch by batch.
for (let epoch = 0; losses.length < Number(steps); epoch++) {
  sampler.setEpoch(epoch)
  for await (const { x, y } of loader) {
    const [start, cpu] = [performance.now(), process.cpuUsage()]
    const result = await ddp.step(x, y)
    const { user, system } = process.cpuUsage(cpu)
    ms.push(performance.now() - start)
    cpuMs.push((user + system) / 1000)
    lossScale = result.lossScale
    if (result.skipped) skipped++
    losses.push(result.loss)
    if (losses.length === Number(steps)) break
  }
}
const { maxRSS } = process.resourceUsage()
console.log(
  JSON.stringify({
    ...{
      precision,
      medianMs: rounded(median(ms)),
      cpuMs: rounded(median(cpuMs)),
      peakMiB: Math.round(maxRSS / 1024),
    },
    ...{ skipped, lossScale, losses },
  }),
)
await world.close()
