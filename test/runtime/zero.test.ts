import { describe, expect, test } from 'vitest'
import { gpt } from '../../src/models/gpt.js'
import type { Ddp, DdpOptions } from '../../src/runtime/ddp.js'
import { adam } from '../../src/runtime/optimizers/index.js'
import type { World } from '../../src/runtime/world.js'
import { asRanks } from './ranks.js'

const loss = 'softmaxCrossEntropy'
const shape = { vocabulary: 24, context: 8, width: 16, heads: 2, depth: 3 }
const BATCH = 8

/** Sequences `from` … `to` - 1 of an endless deterministic text. */
function sequences(from: number, to: number) {
  const { context, vocabulary } = shape
  const token = (at: number) => Math.floor(((Math.sin(at * 0.7) + 1) / 2) * (vocabulary - 1))
  const numbers = (shift: number) =>
    Int32Array.from({ length: (to - from) * context }, (_, i) => token(from * context + i + shift))
  const [x, y] = [0, 1].map((shift) => ({ data: numbers(shift), shape: [to - from, context] }))
  return { x: x!, y: y! }
}

async function train(ddp: Ddp, world: World, steps: number, from = 0): Promise<number[]> {
  const losses: number[] = []
  const share = BATCH / world.size
  for (let step = from; step < from + steps; step++) {
    const first = step * BATCH + world.rank * share
    const { x, y } = sequences(first, first + share)
    losses.push((await ddp.step(x, y)).loss)
  }
  return losses
}

const trainer = (world: World, options: Partial<DdpOptions>) =>
  world.ddp(gpt(shape), { loss, optimizer: adam(1e-2), ...options })

const run = (ranks: number, options: Partial<DdpOptions>, steps: number) =>
  asRanks(ranks, async (world) => {
    const ddp = await trainer(world, options)
    const losses = await train(ddp, world, steps)
    const { stateBytes } = ddp
    const { loss: tested } = await ddp.evaluate([sequences(world.rank, world.rank + 2)])
    return { losses, stateBytes, tested, sha: ddp.paramsSha256() }
  })

const furthest = (a: readonly number[], b: readonly number[]) =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]!)))

describe('a small GPT on four ranks', () => {
  test('thirty steps have the losses of one rank, at every level, and the same bits on all ranks', async () => {
    const [alone] = await run(1, {}, 30)
    const plain = await run(4, {}, 30)
    const bytes = [plain[0]!.stateBytes]
    for (const zero of LEVELS) {
      const ranks = await run(4, { zero }, 30)
      expect(furthest(ranks[0]!.losses, alone!.losses)).toBeLessThan(1e-4)
      expect(furthest(ranks[0]!.losses, plain[0]!.losses)).toBeLessThan(1e-4)
      for (const rank of ranks) expect(rank.losses).toEqual(ranks[0]!.losses)
      for (const rank of ranks) expect(rank.sha).toBe(ranks[0]!.sha)
      for (const rank of ranks) expect(rank.stateBytes).toBe(ranks[0]!.stateBytes)
      bytes.push(ranks[0]!.stateBytes)
    }
    const ratios = bytes.map((n) => n / bytes[0]!)
    console.log(ratios)
    expect(ratios[1]).toBeGreaterThan(0.625)
    expect(ratios[1]).toBeLessThan(0.64)
  })
})

const LEVELS = [1, 2, 3] as const
