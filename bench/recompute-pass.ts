/** One process of bench/recompute.ts: passes of a GPT, whose activations are kept or recomputed; one line of JSON. */
import { readFileSync } from 'node:fs'
import * as tf from '@tensorflow/tfjs-core'
import { Program } from '../src/compiler/program.js'
import { gpt } from '../src/models/gpt.js'
import { quietTensorflow } from '../src/runtime/quiet-tensorflow.js'
import { rounded } from './record.js'

const [batch, depth, context, width, passes, segments] = process.argv.slice(2).map(Number) as number[]
quietTensorflow()
const model = gpt({ depth: depth!, context: context!, width: width!, heads: 4 })
const trainable = model.trainableWeights.map((weight) => weight.read() as tf.Variable)
const shape = [batch!, context!]
const x = Int32Array.from({ length: batch! * context! }, (_, i) => (i * 7919) % 256)
const program = await Program.compile(
  {
    trainable,
    frozen: [],
    layers: [model],
    inputs: [{ shape, dtype: 'int32' }],
    body: ([tokens]) => {
      const logits = tf.reshape(model.apply(tokens!, { training: true }) as tf.Tensor, [-1, 256])
      return [tf.losses.softmaxCrossEntropy(tf.oneHot(tf.reshape(tokens!, [-1]) as tf.Tensor1D, 256), logits)]
    },
    params: trainable.map((variable) => Float32Array.from(variable.dataSync())),
    gradients: trainable.map(({ size }) => new Float32Array(size)),
    recompute: segments === 0 ? undefined : segments === 1 ? true : segments!,
  },
  { threads: 1 },
)
const before = residentMB('VmRSS')
const times: number[] = []
const cpu: number[] = []
for (let pass = 0; pass < passes!; pass++) {
  const [start, used] = [performance.now(), process.cpuUsage()]
  await program.run([x], [])
  times.push(performance.now() - start)
  const { user, system } = process.cpuUsage(used)
  cpu.push((user + system) / 1000)
}
const least = (all: number[]) => rounded(Math.min(...all.slice(1)), 1)
console.log(
  JSON.stringify({
    loss: program.outputs[0]!.data[0],
    passMB: rounded(residentMB('VmHWM') - before, 0),
    minMs: least(times),
    minCpuMs: least(cpu),
  }),
)

/** Of this process, by Linux: now (VmRSS) or at most (VmHWM). */
function residentMB(field: string): number {
  return Number(new RegExp(`${field}:\\s+(\\d+)`).exec(readFileSync('/proc/self/status', 'utf8'))![1]) / 1024
}
