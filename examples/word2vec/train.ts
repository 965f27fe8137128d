/**
 * Word vectors by skip-grams with negative sampling (Mikolov et al. 2013), in functional TensorFlow.js: no layers, just
 * variables and a loss.
 *
 *   npx ddp-launch --nproc 2 examples/word2vec/train.ts [--data FILE]
 *
 * FILE has one sentence a line; without it, sentences are made up of words of eight kinds, and words of one kind should
 * end up beside each other.
 */
import { writeFileSync } from 'node:fs'
import * as tf from '@tensorflow/tfjs-core'
import { adam, DataLoader, DistributedSampler, formatTable, init, Progress, readFlags } from 'lockstep'
import { inventSentences, kindOf, pairDataset, readSentences } from './words.js'

const world = await init()
const { data, epochs, steps, batch, lr, seed, width, window, negatives, json } = readFlags({
  data: '',
  epochs: 3,
  steps: Number.POSITIVE_INFINITY,
  batch: 128, // pairs of words per rank and step
  lr: 0.01,
  seed: 0,
  width: 16, // of the vectors
  window: 2, // words to each side that count as near
  negatives: 4, // words drawn for every pair
  json: '',
})

const sentences = data ? await readSentences(data) : inventSentences(5000, seed)
const vocabulary = [...new Set(sentences.flat())].sort()
const numbers = new Map(vocabulary.map((word, i) => [word, i]))
const numbered = sentences.map((words) => words.map((word) => numbers.get(word)!))
const train = pairDataset(numbered, { window, negatives, seed })
const sampler = new DistributedSampler(train.length, { rank: world.rank, size: world.size, seed })
const loader = new DataLoader(train, { batchSize: batch, sampler, dropLast: true })

const shape: [number, number] = [vocabulary.length, width]
const params = {
  words: tf.variable(tf.randomUniform(shape, -0.5, 0.5, 'float32', 2 * seed + 1)),
  neighbours: tf.variable(tf.randomUniform(shape, -0.5, 0.5, 'float32', 2 * seed + 2)),
}
function loss({ x, y }: { x: tf.Tensor; y: tf.Tensor }): tf.Tensor {
  const word = tf.gather(params.words, tf.slice(x, [0, 0], [-1, 1])) // [batch, 1, width]
  const others = tf.gather(params.neighbours, tf.slice(x, [0, 1], [-1, 1 + negatives])) // [batch, 1 + negatives, width]
  return tf.losses.sigmoidCrossEntropy(y, tf.sum(tf.mul(word, others), -1))
}
const ddp = await world.ddp({ params, loss }, { optimizer: adam(lr), seed })

const totalSteps = Math.min(steps, epochs * loader.length)
const progress = world.rank === 0 ? new Progress({ totalSteps, epochs }) : undefined
const losses: number[] = []
for (let epoch = 0; ddp.stepCount < totalSteps; epoch++) {
  sampler.setEpoch(epoch)
  for await (const { x, y } of loader) {
    const { loss, samples } = await ddp.step(x, y)
    losses.push(loss)
    progress?.update({ step: ddp.stepCount, epoch, loss, samples })
    if (ddp.stepCount >= totalSteps) break
  }
}
progress?.done()

/** Of every word the one whose vector has the smallest angle to its own. */
function nearest(): string[] {
  return tf.tidy(() => {
    const unit = tf.div(params.words, tf.norm(params.words, 2, 1, true)) as tf.Tensor2D
    const cosines = tf.sub(tf.matMul(unit, unit, false, true), tf.mul(2, tf.eye(vocabulary.length)))
    return Array.from(tf.argMax(cosines, 1).dataSync(), (index) => vocabulary[index]!)
  })
}

if (world.rank === 0) {
  ddp.updateModel() // brings what was learned back into `params`
  const pairs = nearest().map((word, i) => [vocabulary[i]!, word] as const)
  const known = pairs.filter(([word]) => kindOf.has(word))
  const sameKind =
    known.filter(([word, other]) => kindOf.get(word) === kindOf.get(other)).length / known.length
  const result = { worldSize: world.size, steps: ddp.stepCount, losses, sameKind }
  if (json) writeFileSync(json, `${JSON.stringify(result)}\n`)
  const rows = [
    ['words', `${vocabulary.length}, ${train.length} pairs`],
    ['steps', String(ddp.stepCount)],
    ['first loss', losses[0]!.toFixed(4)],
    ['final loss', losses.at(-1)!.toFixed(4)],
    ...pairs.slice(0, 5).map(([word, other]) => [`nearest to ${word}`, other]),
    ...(data ? [] : [['nearest word is of the same kind', `${(100 * sameKind).toFixed(1)} %`]]),
  ]
  console.log(formatTable(rows).join('\n'))
}
await world.close()
