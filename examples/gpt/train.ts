/**
 * A small GPT learns to write, character by character, on all ranks:
 *
 *   npx ddp-launch --nproc 2 examples/gpt/train.ts [--text FILE] [--dp D] [--pp P] [--tp T] [--zero 0|1|2|3]
 *     [--precision float32|float16|bfloat16] [--split blocks|vocabulary|sequence] [--head untied|tied]
 *     [--schedule gpipe|1f1b|interleaved] [--micro-batches M] [--layers L] [--width W] [--heads H] [--context C]
 *     [--batch B] [--steps S] [--seed S] [--json FILE]
 *
 * B sequences a step, over all ranks. With --pp P groups of P ranks share the layers, and a group's sequences go through them
 * in M micro-batches; otherwise each rank takes its share in M parts, one after the other. With --tp T groups of T ranks share
 * the matrices of each layer, within each stage where there are stages. The last tenth of the text is kept for testing.
 * Without --text it learns from the opening of Shakespeare's Coriolanus.
 */
import { writeFileSync } from 'node:fs'
import { multinomial, tensor1d } from '@tensorflow/tfjs-core'
import {
  adam,
  DataLoader,
  DistributedSampler,
  EvaluationSampler,
  formatTable,
  gpt,
  gptPlan,
  init,
  Progress,
} from 'lockstep'
import { readOptions } from './options.js'
import { CORIOLANUS, readText } from './text.js'

const world = await init()
const options = readOptions(world.size)
const { dp, pp, tp, zero, precision, schedule, microBatches, context, batch, steps, seed, json } = options

const text = await readText(options.text || CORIOLANUS)
const end = text.numbers.length
const testFrom = Math.floor(0.9 * end)
const train = text.stretches(0, testFrom, context, 1)
const test = text.stretches(testFrom, end, context, context)
const { width, heads, layers: depth, split: shared } = options
// Ranks that share it have equal parts: a few characters that there are not.
const vocabulary = Math.ceil(text.vocabulary.length / tp) * tp
const tied = options.head === 'tied'
const model = gpt({ vocabulary, context, width, heads, depth, tied, seed })
const plan = gptPlan({ vocabulary: shared !== 'blocks', sequence: shared === 'sequence', tied })
const optimizer = adam(2e-3)
const common = { loss: 'softmaxCrossEntropy', optimizer, seed } as const
const inStages = { dp, tp, plan, schedule, microBatches, zero: zero as 0 | 1 }
const pipeline = pp > 1 ? await world.pipeline(model, { ...common, ...inStages }) : undefined
const split =
  tp > 1 && pp === 1 ? await world.tensorParallel(model, { ...common, tp, plan, zero }) : undefined
const trainer = pipeline ?? split ?? (await world.ddp(model, { ...common, zero, precision }))

const shard = (pipeline ?? split)?.replica ?? { rank: world.rank, size: world.size }
const parts = pipeline ? 1 : microBatches // a pipeline makes micro-batches itself
const perPart = batch / dp / parts
const sampler = new DistributedSampler(train.length, { ...shard, seed })
const loader = new DataLoader(train, { batchSize: perPart, sampler, dropLast: true })
const testSampler = new EvaluationSampler(test.length, shard)

const progress = world.rank === 0 ? new Progress({ totalSteps: steps, epochs: 1 }) : undefined
const losses: number[] = []
let secondStep = 0 // when it began: the first step compiles the model and is not timed
let part = 0
let bubbles = 0
for (let epoch = 0; trainer.stepCount < steps; epoch++) {
  sampler.setEpoch(epoch)
  for await (const { x, y } of loader) {
    if ('accumulate' in trainer && ++part % parts !== 0) {
      await trainer.accumulate(x, y)
      continue
    }
    const result = await trainer.step(x, y)
    if ('skipped' in result) continue // its gradients overflowed 16 bits: the loss scale is lower now
    const { loss, samples } = result
    losses.push(loss)
    if (losses.length > 1 && 'bubbleFraction' in result) bubbles += Number(result.bubbleFraction)
    progress?.update({ step: trainer.stepCount, epoch: 0, loss, samples })
    if (trainer.stepCount === 1) secondStep = performance.now()
    if (trainer.stepCount === steps) break
  }
}
progress?.done()
const seconds = (performance.now() - secondStep) / 1000
const tokensPerSecond = steps > 1 ? ((steps - 1) * batch * context) / seconds : 0
const stateBytesPerRank = trainer.stateBytes

const { loss: testLoss } = await trainer.evaluate(
  new DataLoader(test, { batchSize: perPart, sampler: testSampler }),
)

/** What the model writes after the text's first `context` characters, each drawn with the probability it gives it. */
async function write(characters: number): Promise<string> {
  const written = [...text.numbers.subarray(0, context)]
  for (let i = 1; i <= characters; i++) {
    const x = { data: Int32Array.from(written.slice(-context)), shape: [1, context] }
    const scores = (await trainer.predict(x)).data.subarray(-vocabulary).subarray(0, text.vocabulary.length)
    written.push(multinomial(tensor1d(scores), 1, seed + i).dataSync()[0]!)
  }
  return text.decode(written.slice(context))
}

// By all ranks: sharded, split or in a pipeline, none has the whole model.
const written = await write(70)
if (world.rank === 0) {
  const result = {
    worldSize: world.size,
    dp,
    pp,
    tp,
    zero,
    schedule,
    losses,
    tokensPerSecond,
    stateBytesPerRank,
    bubbleFraction: steps > 1 ? bubbles / (steps - 1) : 0,
  }
  if (json) writeFileSync(json, `${JSON.stringify(result)}\n`)
  const rows = [
    ['parameters', String(model.countParams())],
    ['tokens/s', tokensPerSecond.toFixed(0)],
    ['state per rank', `${(stateBytesPerRank / 1e6).toFixed(1)} MB`],
    ...(pipeline ? [['idle share', `${(100 * result.bubbleFraction).toFixed(1)} %`]] : []),
    ['first loss', losses[0]!.toFixed(4)],
    ['final loss', losses.at(-1)!.toFixed(4)],
    ['test loss', `${testLoss.toFixed(4)}, ${(testLoss / Math.LN2).toFixed(2)} bits a character`],
    ['writes', JSON.stringify(written)],
  ]
  console.log(formatTable(rows).join('\n'))
}
await world.close()
