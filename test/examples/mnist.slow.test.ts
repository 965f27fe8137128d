/** The main job as a user runs it, for longer, on more ranks, and on real data. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { directory, refused, train } from './mnist-job.js'

const MNIST = fileURLToPath(new URL('../../../shared/data/mnist', import.meta.url))

describe('the same training at any world size', () => {
  test.each(['mlp', 'cnn'])('%s: 1 × 64, 2 × 32 and 4 × 16 follow one loss curve', async (model) => {
    const steps = model === 'mlp' ? '50' : '12'
    const run = (nproc: number) =>
      train(nproc, '--model', model, '--steps', steps, '--batch', String(64 / nproc))
    const [alone, two, four] = [await run(1), await run(2), await run(4)]
    for (const other of [two, four]) {
      expect(other.losses).toHaveLength(Number(steps))
      other.losses.forEach((loss, i) => {
        expect(Math.abs(loss / alone.losses[i]! - 1)).toBeLessThan(1e-4)
      })
    }
    expect(alone.bytesSentPerStep).toBe(0)
    // A ring sends 2 (W - 1) / W of the gradients per rank and step.
    expect(four.bytesSentPerStep / two.bytesSentPerStep).toBeCloseTo(1.5, 2)
  })
})

test('two runs with one seed end in the same parameters, another seed in others', async () => {
  const run = (seed: string) => train(2, '--model', 'mlp', '--steps', '6', '--seed', seed)
  const [first, again, other] = [await run('3'), await run('3'), await run('4')]
  expect(again.paramsSha256).toBe(first.paramsSha256)
  expect(again.losses).toEqual(first.losses)
  expect(other.paramsSha256).not.toBe(first.paramsSha256)
})

test('a run interrupted in mid-epoch and resumed ends where the uninterrupted one does', async () => {
  const args = ['--model', 'mlp', '--batch', '500', '--epochs', '2']
  const whole = await train(2, ...args)
  const checkpoint = ['--checkpoint', join(directory, 'checkpoints'), '--save-every', '5']
  expect((await train(2, ...args, ...checkpoint, '--steps', '7')).steps).toBe(7)
  const resumed = await train(2, ...args, ...checkpoint)
  expect(resumed.steps).toBe(whole.steps)
  expect(resumed.paramsSha256).toBe(whole.paramsSha256)
  expect(resumed.losses).toEqual(whole.losses)
  expect(resumed.testAccuracy).toBe(whole.testAccuracy)
})

test.skipIf(!existsSync(MNIST))('real MNIST: an MLP learns it', async () => {
  const { testAccuracy } = await train(2, '--data', MNIST, '--model', 'mlp', '--epochs', '2')
  expect(testAccuracy).toBeGreaterThan(0.93)
})

describe('bad input gets one clear line and exit code 2', () => {
  test('flags', async () => {
    await refused(/--batch is "0": expected a whole number of at least 1/, '--batch', '0')
    await refused(
      /compression "gzip": no compressor is called "gzip"; expected none, float16/,
      '--compression',
      'gzip',
    )
  })

  test('data: none there, and a batch larger than the shard', async () => {
    await refused(/train-images-idx3-ubyte/, '--data', join(directory, 'nowhere'))
    await refused(/batch.*7000.*6000/i, '--batch', '7000')
  })

  test('a loss that is not finite', async () => {
    await refused(
      /loss of step \d+ is not finite on rank/,
      '--model',
      'mlp',
      '--optimizer',
      'sgd',
      '--lr',
      '1e30',
      '--steps',
      '9',
    )
  })
})
