import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readCheckpoint, writeCheckpoint } from '../../../src/runtime/checkpoint/checkpoints.js'
import { bestOf, checkRetention, expendable, type Metric } from '../../../src/runtime/checkpoint/retention.js'
import { temporaryFolder } from './temporary.js'

const accuracy = (value: number): Metric => ({ name: 'accuracy', value, mode: 'max' })
const loss = (value: number): Metric => ({ name: 'loss', value, mode: 'min' })

const save = (dir: string, step: number, keepLast?: number, metric?: Metric) =>
  writeCheckpoint(dir, { step, model: [], optimizer: [], state: {}, metric }, keepLast)
const steps = async (dir: string) => (await readdir(dir)).sort().map((name) => Number(name.slice(5)))

describe('what may go', () => {
  test('never the newest, the one just written, or a best one', () => {
    const metric = fc.option(fc.oneof(fc.nat(9).map(accuracy), fc.nat(9).map(loss)), { nil: undefined })
    const checkpoints = fc
      .array(fc.record({ step: fc.nat(), metric }), { minLength: 1, maxLength: 9 })
      .map((all) => all.map((each, i) => ({ ...each, step: all.length - i })))
    fc.assert(
      fc.property(checkpoints, fc.integer({ min: 1, max: 9 }), fc.nat(8), (all, keepLast, at) => {
        const written = all[at % all.length]!
        const gone = expendable(all, keepLast, written.step)
        expect(gone).not.toContain(all[0])
        expect(gone).not.toContain(written)
        for (const name of ['accuracy', 'loss']) expect(gone).not.toContain(bestOf(all, name))
        const kept = all.length - gone.length
        expect(kept).toBeGreaterThanOrEqual(Math.min(keepLast, all.length))
        expect(kept).toBeLessThanOrEqual(keepLast + 3)
      }),
    )
  })

  test('the best of equals is the newest; min and max are told apart', () => {
    const all = [
      { step: 3, metric: accuracy(0.5) },
      { step: 2, metric: accuracy(0.9) },
      { step: 1, metric: accuracy(0.9) },
    ]
    expect(bestOf(all, 'accuracy')!.step).toBe(2)
    expect(
      bestOf(
        [
          { step: 2, metric: loss(2) },
          { step: 1, metric: loss(1) },
        ],
        'loss',
      )!.step,
    ).toBe(1)
    expect(bestOf(all, 'loss')).toBeUndefined()
  })

  test.each<[number | undefined, Metric | undefined, string]>([
    [0, undefined, 'save: keepLast is 0, expected a whole number of at least 1'],
    [1.5, undefined, 'save: keepLast is 1.5'],
    [1, accuracy(Number.NaN), 'save: metric accuracy is NaN, expected a finite number'],
    [
      1,
      { ...accuracy(1), mode: 'best' as 'max' },
      "mode of metric accuracy is best, expected 'min' or 'max'",
    ],
  ])('refuses what makes no sense: %j %j', (keepLast, metric, message) => {
    expect(() => checkRetention(keepLast, metric)).toThrow(message)
  })
})

describe('keepLast', () => {
  test('keeps the newest and the best, which can be loaded by name', async () => {
    const dir = await temporaryFolder()
    for (const [step, value] of [0.2, 0.9, 0.4, 0.6, 0.5].entries()) await save(dir, step, 2, accuracy(value))
    expect(await steps(dir)).toEqual([1, 3, 4])
    expect(await readCheckpoint(dir, { best: 'accuracy' })).toMatchObject({ step: 1, metric: accuracy(0.9) })
    expect(await readCheckpoint(dir, { step: 3 })).toMatchObject({ step: 3 })
    await expect(readCheckpoint(dir, { best: 'loss' })).rejects.toThrow(
      `${dir} has no checkpoint with a metric loss: its steps are 4, 3, 1; load one of them`,
    )
    await expect(readCheckpoint(dir, { step: 2 })).rejects.toThrow('no checkpoint of step 2: its steps are 4')
  })

  test('saves without a metric in between do not cost the best one', async () => {
    const dir = await temporaryFolder()
    await save(dir, 1, 1, accuracy(0.9))
    for (const step of [2, 3]) await save(dir, step, 1)
    expect(await steps(dir)).toEqual([1, 3])
  })

  test('after a step back to an older one, what was just written stays', async () => {
    const dir = await temporaryFolder()
    for (const step of [10, 20, 30]) await save(dir, step)
    await save(dir, 15, 1)
    expect(await steps(dir)).toEqual([15, 30])
  })

  test('a damaged old one goes as well; other things in the directory stay', async () => {
    const dir = await temporaryFolder()
    await rm(join(await save(dir, 1), 'state.json'))
    await mkdir(join(dir, 'notes'))
    await save(dir, 2, 1)
    expect((await readdir(dir)).sort()).toEqual(['notes', 'step-00000002'])
  })

  test('without it nothing is deleted', async () => {
    const dir = await temporaryFolder()
    for (const step of [1, 2, 3]) await save(dir, step, undefined, loss(step))
    expect(await steps(dir)).toEqual([1, 2, 3])
  })
})
