/**
 * Do models train as they do in PyTorch? Loss curves from the same weights on the same batches.
 *
 *   npm run -s bench:curves -- --python PYTHON [--data MNIST] [--model cnn] [--steps 200] [--save]
 *
 * PYTHON has torch and safetensors; it runs curves.py. Without --data the digits are generated. Ends with 1 when a loss
 * differs from PyTorch's by more than 1e-3.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { sizeOf } from '../src/compiler/graph.js'
import {
  type Batch,
  cnn,
  type Dataset,
  formatTable,
  generateDigits,
  gpt,
  init,
  mlp,
  type NdArray,
  optimizerByName,
  readFlags,
  readIdx,
  residualBlocks,
} from '../src/index.js'
import { encodeHeader } from '../src/runtime/checkpoint/safetensors.js'
import { circumstances, saveResult } from './record.js'

const BOUND = 1e-3

const flags = readFlags({
  python: 'python3',
  data: '',
  model: ['all', 'mlp', 'cnn', 'resnet', 'gpt'],
  steps: 200,
  save: ['no', 'yes'],
})

interface Subject {
  readonly make: () => LayersModel
  readonly samples: Dataset
  readonly batch: number
  readonly rates: { readonly sgd: number; readonly adam: number }
}

const SAMPLES = 2000
const digits = flags.data === '' ? generateDigits(SAMPLES, 1) : await readIdx(flags.data, 'train')
const subjects: Record<string, Subject> = {
  mlp: { make: mlp, samples: digits, batch: 64, rates: { sgd: 0.05, adam: 1e-3 } },
  cnn: { make: cnn, samples: digits, batch: 32, rates: { sgd: 0.003, adam: 1e-4 } },
  resnet: { make: residualBlocks, samples: shifted(digits), batch: 32, rates: { sgd: 0.01, adam: 1e-4 } },
  gpt: { make: gpt, samples: characters(64), batch: 8, rates: { sgd: 0.05, adam: 1e-3 } },
}

const world = await init()
const rows = [
  ['model', 'optimizer', 'first loss', 'last loss', 'from PyTorch', 'from its float64', 'PyTorch itself'],
]
let failed = false
for (const [name, subject] of Object.entries(subjects)) {
  if (flags.model !== 'all' && flags.model !== name) continue
  const curves = []
  for (const optimizer of ['sgd', 'adam'] as const) {
    const { ours, float32, float64, torch } = await compare(name, subject, optimizer)
    const difference = apart(ours, float32)
    const fromFloat64 = { ours: apart(ours, float64), theirs: apart(float32, float64) }
    if (!(difference <= BOUND)) failed = true
    const ends = [ours[0]!.toFixed(4), ours.at(-1)!.toFixed(4)]
    const differences = [difference, fromFloat64.ours, fromFloat64.theirs].map((n) => n.toExponential(1))
    rows.push([name, optimizer, ...ends, ...differences])
    const lr = subject.rates[optimizer]
    curves.push({ optimizer, lr, torch, difference, fromFloat64, ours, theirs: float32 })
  }
  if (flags.save === 'yes') {
    const command = `npm run -s bench:curves -- ${process.argv.slice(2).join(' ')}`
    saveResult(`curves-${name}`, { ...circumstances(command), model: name, batch: subject.batch, curves })
  }
}
console.log(formatTable(rows).join('\n'))
await world.close()
if (failed) {
  console.error(`a loss differs by more than ${BOUND}`)
  process.exitCode = 1
}

/** The largest difference between two curves. */
function apart(a: readonly number[], b: readonly number[]): number {
  return Math.max(...a.map((loss, i) => Math.abs(loss - b[i]!)))
}

/** Trains both from one set of weights on one set of batches. */
async function compare(name: string, { make, samples, batch, rates }: Subject, optimizer: 'sgd' | 'adam') {
  const directory = mkdtempSync(join(tmpdir(), 'bench-'))
  try {
    const ddp = await world.ddp(make(), {
      loss: 'softmaxCrossEntropy',
      optimizer: optimizerByName(optimizer, rates[optimizer]),
    })
    const checkpoint = await ddp.save(join(directory, 'start'))
    renameSync(join(checkpoint, 'model.safetensors'), join(directory, 'weights.safetensors'))

    const used = Math.min(samples.length, SAMPLES)
    // A fixed stride that shares no factor with 2000 visits every sample before any one again.
    const order = Int32Array.from({ length: flags.steps * batch }, (_, i) => (i * 1231) % used)
    const all = await samples.batch(Int32Array.from({ length: used }, (_, i) => i))
    writeTensors(join(directory, 'batches.safetensors'), {
      ...all,
      order: { data: order, shape: [flags.steps, batch] },
    })

    const ours: number[] = []
    for (let step = 0; step < flags.steps; step++) {
      const { x, y } = await samples.batch(order.subarray(step * batch, (step + 1) * batch))
      ours.push((await ddp.step(x, y)).loss)
    }
    await ddp.release()

    const script = fileURLToPath(new URL('curves.py', import.meta.url))
    const printed = execFileSync(flags.python, [script, directory, name, optimizer, `${rates[optimizer]}`], {
      encoding: 'utf8',
      env: { ...process.env, OMP_NUM_THREADS: '1' },
    })
    return { ours, ...(JSON.parse(printed) as { torch: string; float32: number[]; float64: number[] }) }
  } finally {
    rmSync(directory, { recursive: true })
  }
}

/** As float32, which holds every class, character and sample number exactly. */
function writeTensors(path: string, tensors: Record<string, NdArray>): void {
  const named = Object.entries(tensors).map(([name, { data, shape }]) => ({
    name,
    shape,
    data: Float32Array.from(data),
  }))
  writeFileSync(
    path,
    Buffer.concat([encodeHeader(named), ...named.map(({ data }) => Buffer.from(data.buffer))]),
  )
}

/** Digits for a network that takes [32, 32, 16]: every channel has the digit in another place. */
function shifted(dataset: Dataset): Dataset {
  const shape = [32, 32, 16]
  return {
    length: dataset.length,
    async batch(indices) {
      const { x, y }: Batch = await dataset.batch(indices)
      const data = new Float32Array(indices.length * sizeOf(shape))
      for (let i = 0; i < x.data.length; i++) {
        const [sample, row, column] = [Math.floor(i / 784), Math.floor(i / 28) % 28, i % 28]
        for (let c = 0; c < 16; c++) {
          const [down, right] = [row + Math.floor(c / 4), column + (c % 4)]
          data[((sample * 32 + down) * 32 + right) * 16 + c] = x.data[i]!
        }
      }
      return { x: { data, shape: [indices.length, ...shape] }, y }
    },
  }
}

/** Stretches of the GPT example's text: bytes, and the byte that follows each. */
function characters(context: number): Dataset {
  const text = readFileSync(new URL('../examples/gpt/coriolanus.txt', import.meta.url))
  const stretch = (starts: ArrayLike<number>, from: number) => ({
    data: Int32Array.from(
      { length: starts.length * context },
      (_, i) => text[starts[Math.floor(i / context)]! * 11 + from + (i % context)]!,
    ),
    shape: [starts.length, context],
  })
  return { length: SAMPLES, batch: (indices) => ({ x: stretch(indices, 0), y: stretch(indices, 1) }) }
}
