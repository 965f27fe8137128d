import { describe, expect, test } from 'vitest'
import { gpt } from '../../../src/models/gpt.js'
import { adam, type Optimizer } from '../../../src/runtime/optimizers/index.js'
import type { PipelineOptions } from '../../../src/runtime/pipeline/pipeline.js'
import type { World } from '../../../src/runtime/world.js'
import { asRanks } from '../ranks.js'

const loss = 'softmaxCrossEntropy'
const [vocabulary, context] = [11, 8]
const smallGpt = (seed = 3) => gpt({ vocabulary, context, width: 16, heads: 2, depth: 4, seed })

/** Sequences `from` … `to` - 1 of an endless set in which each token follows from the one before. */
function sequences(from: number, to: number) {
  const length = (to - from) * context
  const token = (i: number, t: number) => (i * 5 + t * 3 + (i % 3) * t) % vocabulary
  const each = (shift: number) =>
    Int32Array.from({ length }, (_, k) => token(from + Math.floor(k / context), (k % context) + shift))
  const shape = [to - from, context]
  return { x: { data: each(0), shape }, y: { data: each(1), shape } }
}

const STEPS = 10
const BATCH = 8

/** Losses and the final parameters' checksum of one rank without a pipeline. */
async function alone(optimizer: Optimizer, steps = STEPS): Promise<number[]> {
  const [losses] = await asRanks(1, async (world) => {
    const ddp = await world.ddp(smallGpt(), { loss, optimizer, engine: 'onnx', overlap: 1 })
    const losses: number[] = []
    for (let step = 0; step < steps; step++) {
      const { x, y } = sequences(step * BATCH, (step + 1) * BATCH)
      losses.push((await ddp.step(x, y)).loss)
    }
    return losses
  })
  return losses!
}

async function piped(world: World, options: Partial<PipelineOptions> = {}, steps = STEPS) {
  // Ranks that were not given rank 0's weights would show.
  const pipeline = await world.pipeline(smallGpt(world.rank === 0 ? 3 : 4), {
    loss,
    optimizer: adam(0.01),
    microBatches: 4,
    ...options,
  })
  const { rank, size } = pipeline.replica
  const share = BATCH / size
  const losses: number[] = []
  let bubbleFraction = 0
  for (let step = 0; step < steps; step++) {
    const from = step * BATCH + rank * share
    const { x, y } = sequences(from, from + share)
    const result = await pipeline.step(x, y)
    expect(result.samples).toBe(BATCH)
    losses.push(result.loss)
    bubbleFraction = result.bubbleFraction
  }
  return {
    losses,
    bubbleFraction,
    sha256: await pipeline.paramsSha256(),
    inFlight: await pipeline.mostInFlight(),
    stateBytes: pipeline.stateBytes,
    layers: pipeline.layers,
    pipeline,
  }
}

function expectClose(given: readonly number[], expected: readonly number[]): void {
  given.forEach((loss, i) => {
    expect(Math.abs(loss / expected[i]! - 1)).toBeLessThan(1e-4)
  })
}

describe('a GPT of four layers trains as on one rank', () => {
  test.each([
    ['gpipe', 4, {}, 4],
    ['1f1b', 4, {}, 4],
    ['interleaved', 4, { stagesPerRank: 2 }, 4],
    ['1f1b', 4, { dp: 2 }, 2],
    ['1f1b', 1, {}, 1],
    ['1f1b', 2, { microBatches: 8 }, 2],
  ] as const)('%s on %d ranks, %j', async (schedule, ranks, options, inFlight) => {
    const expected = await alone(adam(0.01))
    const results = await asRanks(ranks, (world) => piped(world, { schedule, ...options }))
    for (const { losses, sha256 } of results) {
      expectClose(losses, expected)
      expect(losses).toEqual(results[0]!.losses)
      expect(sha256).toBe(results[0]!.sha256)
    }
    expect(expected.at(-1)).toBeLessThan(expected[0]! * 0.9)
    expect(results[0]!.inFlight).toBe(inFlight)
  })
})
