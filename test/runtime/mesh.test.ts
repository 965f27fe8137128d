/** The mesh of ranks: who is where, and that each direction is a group of its own. */
import { expect, test } from 'vitest'
import { asRanks, failures } from './ranks.js'

test('eight ranks as 2 × 2 × 2: tp neighbours follow each other, then stages, then replicas', async () => {
  const places = await asRanks(8, async (world) => {
    const { dp, pp, tp } = world.mesh({ dp: 2, pp: 2, tp: 2 })
    const members = await Promise.all(
      [dp, pp, tp].map(async (group) => [...(await group.allGather(Int32Array.of(world.rank)))]),
    )
    return { at: [dp.rank, pp.rank, tp.rank], members }
  })
  expect(places.map(({ at }) => at.join(''))).toEqual([
    '000',
    '001',
    '010',
    '011',
    '100',
    '101',
    '110',
    '111',
  ])
  expect(places[5]!.members).toEqual([
    [1, 5],
    [5, 7],
    [4, 5],
  ])
})

test('what is left out is 1', async () => {
  const sizes = await asRanks(3, async (world) => {
    const { dp, pp, tp } = world.mesh({ dp: 3 })
    const sum = Float32Array.of(world.rank)
    await dp.allReduce(sum)
    await tp.allReduce(sum)
    return [dp.size, pp.size, tp.size, sum[0]]
  })
  expect(sizes).toEqual([0, 1, 2].map(() => [3, 1, 1, 3]))
})

test.each([
  [{ pp: 2, tp: 2 }, 'world size (2) != dp (1) * pp (2) * tp (2): '],
  [{ dp: 0 }, 'dp is 0: expected a whole number of ranks, at least 1'],
  [{ tp: 1.5 }, 'tp is 1.5: expected a whole number of ranks, at least 1'],
])('%o on two ranks is an error of one line', async (shape, message) => {
  for (const error of await failures(2, async (world) => world.mesh(shape))) {
    expect(error.message).toContain(message)
    expect(error.message).not.toContain('\n')
  }
})
