/** A tiny GPT on any mesh, for checkpoints that go from one to another. */
import { GPT_PLAN, gpt } from '../../../src/models/gpt.js'
import { adam } from '../../../src/runtime/optimizers/index.js'
import type { World } from '../../../src/runtime/world.js'
import { asRanks } from '../ranks.js'

const [CONTEXT, VOCABULARY, BATCH] = [8, 24, 8]
const model = () => gpt({ vocabulary: VOCABULARY, context: CONTEXT, width: 16, heads: 2, depth: 4, seed: 3 })

/** The share of the global batch of a step, one-hot labels. */
function batch(step: number, { rank, size }: { readonly rank: number; readonly size: number }) {
  const rows = BATCH / size
  const token = (i: number) => Math.floor(((Math.sin((step * BATCH * CONTEXT + i) * 0.7) + 1) / 2) * 23.9)
  const at = (shift: number) =>
    Int32Array.from({ length: rows * CONTEXT }, (_, i) => token(rank * rows * CONTEXT + i + shift))
  return { x: { data: at(0), shape: [rows, CONTEXT] }, y: { data: at(1), shape: [rows, CONTEXT] } }
}

const options = { loss: 'softmaxCrossEntropy', optimizer: adam(0.01) } as const

/** Ways in which ranks may share the model, by name. */
export const meshes = {
  'one rank': [1, (world: World) => world.ddp(model(), options)],
  'zero 3 on two': [2, (world: World) => world.ddp(model(), { ...options, zero: 3 })],
  'pp 2': [2, (world: World) => world.pipeline(model(), { ...options, microBatches: 2 })],
  'tp 2': [2, (world: World) => world.tensorParallel(model(), { ...options, tp: 2, plan: GPT_PLAN })],
  'tp 2, dp 2': [4, (world: World) => world.tensorParallel(model(), { ...options, tp: 2, plan: GPT_PLAN })],
  'tp 2, dp 2, zero 1': [
    4,
    (world: World) => world.tensorParallel(model(), { ...options, tp: 2, plan: GPT_PLAN, zero: 1 }),
  ],
  'pp 4': [4, (world: World) => world.pipeline(model(), { ...options, microBatches: 4 })],
  'pp 2, tp 2': [
    4,
    (world: World) => world.pipeline(model(), { ...options, microBatches: 2, tp: 2, plan: GPT_PLAN }),
  ],
  'zero 3 on four': [4, (world: World) => world.ddp(model(), { ...options, zero: 3 })],
} as const
export type MeshName = keyof typeof meshes

interface Run {
  readonly steps: number
  readonly saveTo?: string
  readonly loadFrom?: string
  readonly sharded?: boolean
}

/** Losses of the steps that it has trained, and the parameters' SHA-256 after them, or after loading. */
export async function run(mesh: MeshName, { steps, saveTo, loadFrom, sharded }: Run) {
  const [ranks, trainerOf] = meshes[mesh]
  const outcomes = await asRanks(ranks, async (world) => {
    const trainer = await trainerOf(world)
    const place = 'replica' in trainer ? trainer.replica : world
    if (loadFrom !== undefined && (await trainer.load(loadFrom)) === undefined)
      throw new Error('nothing there')
    if ('gather' in trainer) await trainer.gather()
    const loaded = await trainer.paramsSha256()
    const losses: number[] = []
    for (let i = 0; i < steps; i++) {
      const { x, y } = batch(trainer.stepCount, place)
      losses.push((await trainer.step(x, y)).loss)
    }
    if (saveTo !== undefined) await trainer.save(saveTo, {}, sharded === undefined ? {} : { sharded })
    if ('gather' in trainer) await trainer.gather()
    return { losses, loaded, sha: await trainer.paramsSha256() }
  })
  return outcomes[0]!
}
