/** What the actions of a schedule do in one step: which buffers passes and transfers take, hand on and give back. */
import type { Input } from '../batch.js'
import type { Handlers } from './executor.js'
import type { StageLinks } from './links.js'
import type { Stage } from './stage.js'
import type { StageTraining } from './stage-training.js'

export interface StepData {
  /** Of this rank. */
  readonly trainings: ReadonlyMap<number, StageTraining>
  /** Of the whole model. */
  readonly stages: readonly Stage[]
  readonly borders: StageLinks
  /** One micro-batch each. */
  readonly features: readonly (readonly Input[])[]
  readonly labels: readonly (readonly Input[])[]
  /** Random layers draw from it, the stage and the micro-batch. */
  readonly key: readonly number[]
  /** Told of each forward pass what it adds to the loss, times its samples. */
  lost(loss: number): void
}

/** What a micro-batch has in one stage at a time. */
interface Buffers {
  input?: Float32Array
  output?: Float32Array
  inputGradient?: Float32Array
  outputGradient?: Float32Array
}

export function handlersOf(step: StepData): Handlers {
  const { trainings, stages, borders, features, labels, key, lost } = step
  const all = new Map<string, Buffers>()
  const at = (stage: number, microBatch: number): [StageTraining, Buffers] => {
    const place = `${stage} ${microBatch}`
    const buffers = all.get(place) ?? {}
    all.set(place, buffers)
    return [trainings.get(stage)!, buffers]
  }
  const numbers = (inputs: readonly Input[]) => inputs.map(({ data }) => data)
  return {
    recvActivation: (stage, m) => {
      const [{ before }, buffers] = at(stage, m)
      buffers.input = before.take()
      return borders.recvActivation(stage, buffers.input)
    },
    recvGradient: (stage, m) => {
      const [{ after }, buffers] = at(stage, m)
      buffers.outputGradient = after.take()
      return borders.recvGradient(stage, buffers.outputGradient)
    },
    sendActivation: async (stage, m) => {
      const [{ after }, { output }] = at(stage, m)
      await borders.sendActivation(stage, output!)
      after.give(output!)
    },
    sendGradient: async (stage, m) => {
      const [{ before }, { inputGradient }] = at(stage, m)
      await borders.sendGradient(stage, inputGradient!)
      before.give(inputGradient!)
    },
    forward: async (stage, m) => {
      const [training, buffers] = at(stage, m)
      const { isFirst, isLast } = stages[stage]!
      if (!isLast) buffers.output = training.after.take()
      const given = [
        ...(isFirst ? numbers(features[m]!) : [buffers.input!]),
        ...(isLast ? numbers(labels[m]!) : []),
      ]
      lost(await training.forward(m, given, buffers.output, [...key, stage, m]))
    },
    backward: async (stage, m) => {
      const [training, buffers] = at(stage, m)
      const { input, outputGradient } = buffers
      if (!stages[stage]!.isFirst) buffers.inputGradient = training.before.take()
      await training.backward(m, outputGradient, buffers.inputGradient)
      if (outputGradient) training.after.give(outputGradient)
      if (input) training.before.give(input)
    },
  }
}
