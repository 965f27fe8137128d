/** Products with skinny matrices: the same bits on SIMD and scalar, whatever the shape, and right. */
import { afterEach, expect, test, vi } from 'vitest'
import { expectSame, filled } from '../kernels/suite.js'

afterEach(() => {
  vi.unstubAllEnvs()
})

async function products(kernels: 'simd' | 'scalar', rows: number, cols: number, width: number) {
  vi.stubEnv('LOCKSTEP_KERNELS', kernels)
  vi.resetModules()
  const { addLowRank, timesSkinny, transposedTimesSkinny } = await import(
    '../../../src/collectives/compression/low-rank.js'
  )
  const { floatsAndBytes } = await import('../../../src/collectives/compression/room.js')
  const [m, p, q] = floatsAndBytes([rows * cols, rows * width, cols * width], []).floats as [
    Float32Array,
    Float32Array,
    Float32Array,
  ]
  m.set(filled(rows * cols, 1).map((x) => x / 100))
  q.set(filled(cols * width, 2).map((x) => x / 100))
  timesSkinny(p, m, q, rows, cols, width)
  const first = p.slice()
  transposedTimesSkinny(q, m, p, rows, cols, width)
  const second = q.slice()
  addLowRank(m, p, q, rows, cols, width, -1)
  return [first, second, m.slice()] as const
}

test.each([
  [1, 1, 4],
  [4, 4, 4],
  [7, 5, 4],
  [70, 9, 4],
  [13, 18, 8],
  [64, 33, 8],
])('%i × %i, width %i', async (rows, cols, width) => {
  const [simd, scalar] = [
    await products('simd', rows, cols, width),
    await products('scalar', rows, cols, width),
  ]
  for (const [i, array] of simd.entries()) expectSame(array, scalar[i]!)
  const [m, q] = [filled(rows * cols, 1), filled(cols * width, 2)]
  let element = 0
  for (let j = 0; j < cols; j++) element += (m[(rows - 1) * cols + j]! / 100) * (q[j * width + 1]! / 100)
  expect(simd[0][(rows - 1) * width + 1]! / element).toBeCloseTo(1, 5)
})
