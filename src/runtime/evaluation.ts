/** Loss and accuracy over batches and ranks, every sample counted once. */
import type { Communicator } from '../collectives/communicator.js'
import type { Output } from '../compiler/program.js'
import { LockstepError } from '../errors.js'
import { type Input, readBatch } from './batch.js'
import type { EvaluationBatch, EvaluationResult } from './ddp-options.js'
import type { Model } from './model.js'

/** The mean loss of one batch, and the model's outputs; undefined on a rank whose samples others count. */
type Compute = (
  features: readonly Input[],
  labels: readonly Input[],
) => Promise<{ readonly loss: number; readonly predictions: readonly Output[] } | undefined>

/** All ranks must call it together, with as many batches as each has. @throws LockstepError when none has one */
export async function evaluateOver(
  links: Communicator,
  model: Model,
  batches: AsyncIterable<EvaluationBatch> | Iterable<EvaluationBatch>,
  compute: Compute,
): Promise<EvaluationResult> {
  // Which of several outputs' accuracies is meant nobody can know.
  const [classes] = model.classes.length === 1 ? model.classes : []
  const totals = new Float64Array(4)
  for await (const { x, y } of batches) {
    const [features, labels] = readBatch(model, x, y)
    const computed = await compute(features, labels)
    if (computed === undefined) continue
    const samples = features[0]!.spec.shape[0]!
    totals[0]! += computed.loss * samples
    totals[1]! += samples
    if (classes === undefined) continue
    const scores = computed.predictions[0]!.data
    totals[2]! += countCorrect(labels[0]!.data, scores, classes)
    totals[3]! += scores.length / classes
  }
  if (links.size > 1) await links.allReduce(totals, 'sum')
  const [loss, samples, correct, guesses] = totals as unknown as [number, number, number, number]
  if (samples === 0)
    throw new LockstepError('evaluate() was given no batch on any rank: expected at least one')
  const accuracy = classes === undefined ? undefined : correct / guesses
  return { loss: loss / samples, accuracy, samples }
}

/** Predictions whose largest score (the first, if several are equal) is at their label: a class number or a one-hot row. */
export function countCorrect(labels: ArrayLike<number>, scores: ArrayLike<number>, classes: number): number {
  const oneHot = labels.length === scores.length
  let correct = 0
  for (let i = 0; i < scores.length / classes; i++) {
    const label = oneHot ? largest(labels, i * classes, classes) : labels[i]
    if (largest(scores, i * classes, classes) === label) correct++
  }
  return correct
}

function largest(numbers: ArrayLike<number>, start: number, length: number): number {
  let best = 0
  for (let i = 1; i < length; i++) if (numbers[start + i]! > numbers[start + best]!) best = i
  return best
}
