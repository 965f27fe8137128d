/** One rank of bench/zero.ts: steps of a GPT at every level in turn, timed; rank 0 prints one line of JSON. */
import { adam, type Ddp, type DdpOptions, gpt, init } from '../src/index.js'
import { median, rounded } from './record.js'

const [batch, steps, depth] = process.argv.slice(2).map(Number) as [number, number, number]
const precision = process.argv[5] as NonNullable<DdpOptions['precision']>
const CONTEXT = 64
const WARM_UP = 5
const world = await init()
const model = () => gpt({ context: CONTEXT, depth })
const trainers: Ddp[] = []
for (const zero of [0, 1, 2, 3] as const) {
  const options = {
    loss: 'softmaxCrossEntropy',
    optimizer: adam(1e-3),
    overlap: zero === 0 ? 1 : 'auto',
    precision,
  } as const
  trainers.push(await world.ddp(model(), { ...options, zero }))
}
const tokens = Int32Array.from({ length: batch * CONTEXT }, (_, i) => (i * 7) % 256)
const x = { data: tokens, shape: [batch, CONTEXT] }
const measured = trainers.map(() => ({ ms: [] as number[], cpuMs: [] as number[], bytes: 0 }))
for (let step = -WARM_UP; step < steps; step++) {
  for (const [zero, trainer] of trainers.entries()) {
    const [start, before, cpu] = [performance.now(), world.collectives.bytesSent, process.cpuUsage()]
    await trainer.step(x, x)
    if (step < 0) continue
    measured[zero]!.ms.push(performance.now() - start)
    const { user, system } = process.cpuUsage(cpu)
    measured[zero]!.cpuMs.push((user + system) / 1000)
    measured[zero]!.bytes += world.collectives.bytesSent - before
  }
}
const parameters = model().countParams()
const levels = measured.map(({ ms, cpuMs, bytes }, zero) => ({
  zero,
  medianMs: rounded(median(ms)),
  minMs: rounded(Math.min(...ms)),
  cpuMs: rounded(median(cpuMs)),
  throughput: rounded(median(measured[0]!.ms.map((plain, i) => plain / ms[i]!)), 3),
  stateBytes: trainers[zero]!.stateBytes,
  state: rounded(trainers[zero]!.stateBytes / trainers[0]!.stateBytes, 3),
  bytesSent: rounded(bytes / steps / (4 * parameters), 3),
}))
if (world.rank === 0) console.log(JSON.stringify({ parameters, levels }))
await world.close()
