/** How long each part of a model takes, forward and backward, on this machine: for cuts balanced by time. */
import type { SessionOptions } from '../../compiler/session.js'
import type { Input } from '../batch.js'
import type { Parameter } from '../model.js'
import { possibleCuts } from './cuts.js'
import type { LayerGraph } from './layer-graph.js'
import { boundaryShape, type Stage, stagesOf } from './stage.js'
import { StageTraining } from './stage-training.js'

const SAMPLES = 4
/** At least so many runs of each part, and more of short ones: the fastest counts, so that little else is measured. */
const [LEAST_RUNS, MOST_RUNS, ENOUGH_MS] = [5, 20, 100]

/**
 * Milliseconds of each call of `graph`, on four samples of zeros; calls between which the model cannot be cut are measured
 * together, as the last of them.
 */
export async function measureCalls(
  graph: LayerGraph,
  parameters: readonly Parameter[],
  options: SessionOptions,
): Promise<number[]> {
  const weights = graph.calls.map(() => 0)
  let [before, at]: [number[] | undefined, number] = [undefined, -1]
  for (const unit of stagesOf(graph, parameters, possibleCuts(graph))) {
    at += unit.calls.length
    // Labels are not known here: the last part too is measured by what it returns.
    const stage = { ...unit, isLast: false }
    weights[at] = await measure(stage, before, options)
    before = boundaryShape(stage, SAMPLES)
  }
  return weights
}

async function measure(stage: Stage, before: number[] | undefined, options: SessionOptions): Promise<number> {
  const x: Input[] = stage.isFirst
    ? stage.inputs.map(({ shape, dtype }) => {
        const full = [SAMPLES, ...shape.slice(1).map((n) => n ?? 1)]
        const size = full.reduce((a, b) => a * b, 1)
        const spec = { shape: full, dtype: dtype === 'int32' ? ('int32' as const) : ('float32' as const) }
        return {
          name: 'x',
          spec,
          data: spec.dtype === 'int32' ? new Int32Array(size) : new Float32Array(size),
        }
      })
    : []
  const training = await StageTraining.compile(
    stage,
    scratchBuffers(stage),
    [],
    { x, y: [], before },
    options,
  )
  const [given, output] = [
    stage.isFirst ? x.map(({ data }) => data) : [training.before.take()],
    training.after.take(),
  ]
  const [outputGradient, inputGradient] = [
    training.after.take(),
    stage.isFirst ? undefined : training.before.take(),
  ]
  let [least, spent] = [Number.POSITIVE_INFINITY, 0]
  for (let i = 0; i < LEAST_RUNS || (i < MOST_RUNS && spent < ENOUGH_MS); i++) {
    const start = performance.now()
    await training.forward(i, given, output, [])
    await training.backward(i, outputGradient, inputGradient)
    const ms = performance.now() - start
    least = Math.min(least, ms)
    spent += ms
  }
  await training.release()
  return least
}

function scratchBuffers({ parameters }: Stage) {
  const [trainable, frozen] = [true, false].map((kind) =>
    parameters.filter((p) => p.trainable === kind).map((p) => p.variable),
  ) as [Stage['parameters'][number]['variable'][], Stage['parameters'][number]['variable'][]]
  return {
    trainable,
    frozen,
    values: [...trainable, ...frozen].map((variable) => Float32Array.from(variable.dataSync())),
    gradients: trainable.map(({ size }) => new Float32Array(size)),
    gradient: new Float32Array(),
  }
}
