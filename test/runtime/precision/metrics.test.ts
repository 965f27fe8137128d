/** What training tells of skipped steps and of compression, where metrics are asked for. */
import { layers, sequential } from '@tensorflow/tfjs-layers'
import { expect, test, vi } from 'vitest'
import { sgd } from '../../../src/runtime/optimizers/index.js'
import { asRanks, samples } from '../ranks.js'

const told = vi.hoisted(() => ({
  ...{ wantsGradientNorm: false, mark: vi.fn(), pass: vi.fn(), endStep: vi.fn() },
  ...{ compressed: vi.fn(), lossScale: vi.fn() },
}))
vi.mock('../../../src/runtime/metrics.js', () => ({ rankMetrics: () => told, closeMetrics: async () => {} }))
vi.spyOn(console, 'error').mockImplementation(() => {})

test('the ratio of every step, the loss scale after it, and whether it was skipped', async () => {
  await asRanks(2, async (world) => {
    const dense = (units: number, rest = {}) => layers.dense({ units, ...rest })
    const ddp = await world.ddp(
      sequential({ layers: [dense(64, { inputShape: [6] }), dense(64), dense(3)] }),
      {
        ...{ loss: 'softmaxCrossEntropy', optimizer: sgd(0.1), compression: 'int8', overlap: 1 },
        ...{ precision: 'float16', lossScale: { growthInterval: 1 } },
      },
    )
    for (const huge of [false, true]) {
      const { x, y } = samples(0, 8)
      if (huge) x.data.fill(1e5)
      await ddp.step(x, y)
    }
  })
  expect(told.compressed).toHaveBeenCalledTimes(2) // on two ranks
  const [name, { ratio, share }] = told.compressed.mock.calls[0]!
  expect(name).toBe('int8')
  expect(ratio).toBeGreaterThan(2)
  expect(share).toBeCloseTo((64 * 64) / (6 * 64 + 64 + 64 * 64 + 64 + 64 * 3 + 3), 1)
  expect(new Set(told.lossScale.mock.calls.map((call) => call.join(' ')))).toEqual(
    new Set(['131072 false', '65536 true']),
  )
  expect(told.endStep).toHaveBeenCalledTimes(2)
})
