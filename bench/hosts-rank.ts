/** One rank of bench/hosts.ts, alone on an emulated host: told over IPC what to train, it answers how long steps took. */
import { madeUpBatch, referenceModel } from '../src/bench/reference.js'
import type { Communicator } from '../src/collectives/communicator.js'
import { connectRanks } from '../src/collectives/connect.js'
import { singleRank } from '../src/collectives/single.js'
import { TUNING_STEPS } from '../src/runtime/exchange-tuner.js'
import { adam } from '../src/runtime/optimizers/index.js'
import { quietTensorflow } from '../src/runtime/quiet-tensorflow.js'
import { timelineOf, trace } from '../src/runtime/timeline.js'
import { World } from '../src/runtime/world.js'
import { median } from './record.js'

export interface HostPlace {
  readonly rank: number
  readonly size: number
  readonly host: string
}

export interface TrainingOrder {
  readonly model: string
  readonly batch: number
  /** How gradients travel; undefined: not at all. All ranks compute at the same time, each for itself. */
  readonly travel: { readonly compression: string; readonly overlap: number | 'auto' } | undefined
  /** How long to measure; as many steps as fit, between 3 and 30. */
  readonly milliseconds: number
  /** Where to write the timeline. */
  readonly timeline: string
}

export interface Measured {
  readonly medianMs: number
  /** What was measured, after the warm-up. */
  readonly steps?: number
  /** Of all threads of this rank, what the kernel does for its sockets included. */
  readonly cpuMs: number
  readonly bytesPerStep?: number
}

export interface TrainingAnswer extends Measured {
  readonly bytesPerStep: number
  readonly sha256: string
}

quietTensorflow()
const place: HostPlace = JSON.parse(process.argv[2]!)
const values = new Map<string, string>()
const waiting = new Map<string, (value: string) => void>()
process.on('message', (message: TrainingOrder | { readonly key: string; readonly value: string }) => {
  if ('model' in message) void train(message)
  else {
    values.set(message.key, message.value)
    waiting.get(message.key)?.(message.value)
  }
})
const links = await connectRanks({
  ...place,
  node: place.rank,
  token: 'c0ffee',
  timeoutMs: 120_000,
  exchange: {
    set: (key, value) => void process.send!({ key, value }),
    get: async (key) =>
      values.get(key) ?? (await new Promise<string>((resolve) => waiting.set(key, resolve))),
  },
})
process.send!({ ready: true })

async function train({ model, batch, travel, milliseconds, timeline }: TrainingOrder): Promise<void> {
  const world: Communicator = travel === undefined ? singleRank() : await trace(timeline, links)
  const ddp = await new World(world, 0, 1).ddp(referenceModel(model), {
    loss: 'softmaxCrossEntropy',
    optimizer: adam(1e-3),
    ...travel,
  })
  const { x, y } = madeUpBatch(model, batch)
  const timed = async () => {
    const start = performance.now()
    await ddp.step(x, y)
    return performance.now() - start
  }
  for (let warmUp = travel?.overlap === 'auto' ? TUNING_STEPS : 1; warmUp > 0; warmUp--) await timed() // compiles
  await links.barrier()
  const guess = Float32Array.of(Math.max(await timed(), await timed()))
  await links.allReduce(guess, 'max')
  const steps = Math.min(30, Math.max(3, Math.round(milliseconds / guess[0]!)))
  const [before, cpu] = [links.bytesSent, process.cpuUsage()]
  const times: number[] = []
  for (let step = 0; step < steps; step++) times.push(await timed())
  const { user, system } = process.cpuUsage(cpu)
  const answer: TrainingAnswer = {
    medianMs: median(times),
    cpuMs: (user + system) / 1000 / steps,
    steps,
    bytesPerStep: Math.round((links.bytesSent - before) / steps),
    sha256: ddp.paramsSha256(),
  }
  await ddp.release()
  await timelineOf(world)?.finish()
  process.send!(answer)
}
