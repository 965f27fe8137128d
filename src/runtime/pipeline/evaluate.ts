/** Batches through all stages of a pipeline without training: their loss and accuracy, or their predictions. */
import type { Communicator } from '../../collectives/communicator.js'
import type { Output } from '../../compiler/program.js'
import type { NdArray } from '../../data/dataset.js'
import type { Input } from '../batch.js'
import type { EvaluationBatch, EvaluationResult } from '../ddp-options.js'
import { evaluateOver } from '../evaluation.js'
import type { StageLinks } from './links.js'
import type { Plan } from './plan.js'
import { previousOutput, type StageInference } from './stage-inference.js'

type Inferences = ReadonlyMap<number, StageInference>

/** One batch through this rank's stages. @returns the last stage's outputs, on its rank */
async function through(
  inferences: Inferences,
  { stages }: Plan,
  borders: StageLinks,
  x: readonly Input[],
  y: readonly Input[],
): Promise<readonly Output[] | undefined> {
  const samples = x[0]!.spec.shape[0]!
  let result: readonly Output[] | undefined
  for (const [number, inference] of inferences) {
    const { isFirst, isLast } = stages[number]!
    const received = isFirst ? undefined : previousOutput(stages[number - 1]!, samples)
    if (received) await borders.recvActivation(number, received.data)
    const outputs = await inference.run(received ? [received] : x, y)
    if (isLast) result = outputs
    else await borders.sendActivation(number, outputs[0]!.data as Float32Array)
  }
  return result
}

export function evaluatePipeline(
  links: Communicator,
  inferences: Inferences,
  plan: Plan,
  borders: StageLinks,
  batches: AsyncIterable<EvaluationBatch> | Iterable<EvaluationBatch>,
): Promise<EvaluationResult> {
  return evaluateOver(links, plan.model, batches, async (x, y) => {
    const outputs = await through(inferences, plan, borders, x, y)
    // Ranks that share the last stage have the same.
    if (outputs === undefined || plan.mesh.tp.rank > 0) return undefined
    const [loss, ...predictions] = outputs
    return { loss: loss!.data[0]!, predictions }
  })
}

const MOST_DIMENSIONS = 8

/** @returns the model's outputs, on every rank of the pipeline */
export async function predictPipeline(
  inferences: Inferences,
  plan: Plan,
  borders: StageLinks,
  x: readonly Input[],
): Promise<NdArray[]> {
  const { pp } = plan.mesh
  const outputs = await through(inferences, plan, borders, x, [])
  const from = borders.ownerOf(plan.stages.length - 1)
  const predictions: NdArray[] = []
  for (let i = 0; i < plan.model.classes.length; i++) {
    const dimensions = new Int32Array(1 + MOST_DIMENSIONS)
    const own = outputs?.[i]
    if (own) dimensions.set([own.shape.length, ...own.shape])
    if (pp.size > 1) await pp.broadcast(dimensions, from)
    const shape = [...dimensions.subarray(1, 1 + dimensions[0]!)]
    const data = own ? (own.data as Float32Array).slice() : new Float32Array(shape.reduce((a, b) => a * b, 1))
    if (pp.size > 1) await pp.broadcast(data, from)
    predictions.push({ data, shape })
  }
  return predictions
}
