/** Compressed sums over ranks: near the exact one, the same bits on all ranks, and as many bytes as on paper. */
import { describe, expect, test } from 'vitest'
import type { Communicator } from '../../../src/collectives/communicator.js'
import { COMPRESSORS, compressorByName } from '../../../src/collectives/compression/compression.js'
import type { CompressedSum } from '../../../src/collectives/compression/compressor.js'
import { closeAll, GROUPS } from '../groups.js'
import { expectSame } from '../kernels/suite.js'

const TENSORS = [
  { name: 'dense/kernel', shape: [120, 100] },
  { name: 'embedding', shape: [500, 17] },
  { name: 'bias', shape: [5] },
]
const ELEMENTS = 120 * 100 + 500 * 17 + 5

/** Of low rank but for a little noise, as gradients are. */
function gradients(rank: number, step: number): Float32Array[] {
  return TENSORS.map(({ shape: [rows = 1, cols = 1] }, t) =>
    Float32Array.from({ length: rows * cols }, (_, i) => {
      const [row, col] = [Math.floor(i / cols), i % cols]
      const large = Math.sin(row * (t + 1)) * Math.cos(col * 0.7 + rank) * (1 + 0.1 * Math.sin(step))
      return large + 0.01 * Math.sin(i * 12.9 + rank * 7 + step)
    }),
  )
}

const exactSum = (size: number, step: number): Float32Array[] => {
  const all = Array.from({ length: size }, (_, rank) => gradients(rank, step))
  return TENSORS.map((_, t) => all[0]![t]!.map((_, i) => all.reduce((sum, each) => sum + each[t]![i]!, 0)))
}

const norm = (tensors: readonly Float32Array[]) =>
  Math.sqrt(tensors.flatMap((tensor) => [...tensor]).reduce((sum, x) => sum + x * x, 0))

const difference = (a: readonly Float32Array[], b: readonly Float32Array[]) =>
  a.map((tensor, t) => tensor.map((x, i) => x - b[t]![i]!))

/** Sums `steps` times on all ranks of a memory group; every rank must end with the same bits at every step. */
async function run(text: string, size: number, steps: number) {
  const compressor = compressorByName(text)!
  const links = await GROUPS[0]!.connect(size)
  const sums = links.map(() => compressor.create(TENSORS, size))
  const results: Float32Array[][] = []
  for (let step = 1; step <= steps; step++) {
    const ranks = links.map((_, rank) => gradients(rank, step))
    await all(links, sums, (each, sum, rank) => sum.sum(each, ranks[rank]!, { step, samples: 8 }))
    for (const other of ranks) for (const [t, tensor] of other.entries()) expectSame(tensor, ranks[0]![t]!)
    results.push(ranks[0]!)
  }
  const bytes = links.map(({ bytesSent }) => bytesSent / steps)
  await closeAll(links)
  return { results, bytes, sums }
}

const all = (
  links: readonly Communicator[],
  sums: readonly CompressedSum[],
  call: (links: Communicator, sum: CompressedSum, rank: number) => Promise<void>,
) => Promise.all(links.map((each, rank) => call(each, sums[rank]!, rank)))

/** How far one sum may be from the exact one, relative to its norm. */
const FIRST_ERROR: Record<string, number> = {
  float16: 1e-3,
  bfloat16: 5e-3,
  int8: 0.01,
  int4: 0.2,
  onebit: 0.9,
  topk: 1,
  randomk: 1,
  dgc: 1,
  powersgd: 0.2,
}

describe.each(Object.keys(COMPRESSORS))('%s', (name) => {
  test.each([2, 3, 4])('%i ranks end with the same bits, near the exact sum', async (size) => {
    const { results } = await run(name, size, 2)
    const exact = exactSum(size, 1)
    expect(norm(difference(results[0]!, exact)) / norm(exact)).toBeLessThan(FIRST_ERROR[name]!)
  })

  test('two runs give the same bits', async () => {
    const [a, b] = [await run(name, 2, 3), await run(name, 2, 3)]
    for (const [i, tensor] of a.results.flat().entries()) expectSame(tensor, b.results.flat()[i]!)
  })

  test('gradients of zero stay zero, and what follows is right', async () => {
    const links = await GROUPS[0]!.connect(2)
    const sums = links.map(() => compressorByName(name)!.create(TENSORS, 2))
    const zeros = links.map(() => TENSORS.map(({ shape }) => new Float32Array(shape.reduce((a, b) => a * b))))
    await all(links, sums, (each, sum, rank) => sum.sum(each, zeros[rank]!, { step: 1, samples: 1 }))
    expect(norm(zeros[0]!)).toBe(0)
    const next = links.map((_, rank) => gradients(rank, 2))
    await all(links, sums, (each, sum, rank) => sum.sum(each, next[rank]!, { step: 2, samples: 1 }))
    expect(norm(next[0]!)).toBeGreaterThan(0)
    await closeAll(links)
  })
})

/**
 * With error feedback nothing is lost: what has been summed so far differs from the exact sums so far by what the ranks
 * still keep, which stays bounded, while without it every step adds to the difference.
 */
test.each([
  'int4',
  'onebit',
  'topk:0.05',
  'randomk:0.05',
  'powersgd:1',
  'topk:0.05+int8',
  'powersgd:2+float16',
])('%s: error feedback makes up for it later', async (text) => {
  const steps = 20
  const behind = async (each: string) => {
    const { results } = await run(each, 2, steps)
    const total = TENSORS.map((_, t) =>
      results[0]![t]!.map((_, i) => results.reduce((s, r) => s + r[t]![i]!, 0)),
    )
    const exact = Array.from({ length: steps }, (_, i) => exactSum(2, i + 1))
    const wanted = TENSORS.map((_, t) =>
      exact[0]![t]!.map((_, i) => exact.reduce((s, r) => s + r[t]![i]!, 0)),
    )
    return norm(difference(total, wanted))
  }
  const [codec] = text.split('+').slice(1)
  const without = `${text.split('+')[0]},feedback=off${codec ? `+${codec}` : ''}`
  expect(await behind(text)).toBeLessThan(0.8 * (await behind(without)))
})

test('what is kept and the sum make up the gradients', async () => {
  const { results, sums } = await run('topk:0.01', 2, 1)
  const kept = sums.map(({ state }) => state.kept!)
  const exact = exactSum(2, 1)
  let at = 0
  const rest = exact.map((tensor, t) =>
    tensor.map((x, i) => x - results[0]![t]![i]! - kept[0]![at]! - kept[1]![at++]!),
  )
  expect(norm(rest)).toBeLessThan(1e-4)
})

describe('bytes that a rank sends a step, against those of a ring in float32', () => {
  const ring = (size: number) => (2 * (size - 1) * 4 * ELEMENTS) / size
  test.each([
    ['float16', 2, 1.99],
    ['bfloat16', 4, 1.99],
    ['int8', 2, 3.84],
    ['int4', 2, 7.5],
    ['onebit', 2, 28],
    ['topk:0.01', 2, 75],
    ['randomk:0.01', 2, 99],
    ['dgc:0.001', 2, 600],
    ['powersgd:4', 2, 4],
  ])('%s, %i ranks: %f times fewer', async (name, size, ratio) => {
    const { bytes } = await run(name, size, 1)
    for (const each of bytes) expect(ring(size) / each).toBeGreaterThanOrEqual(ratio)
  })
})

test('a ramp-up sends a quarter of all elements at first, and its share in the end', async () => {
  const ring = 4 * ELEMENTS
  const sent = async (steps: number) => (await run('topk:0.01,rampup=4', 2, steps)).bytes[0]! * steps
  expect(ring / (await sent(1))).toBeCloseTo(3.1, 1)
  expect(ring / ((await sent(6)) - (await sent(5)))).toBeCloseTo(77, 0)
})

test('a warm-up sums exactly', async () => {
  const { results } = await run('onebit,warmup=1', 2, 2)
  expect(norm(difference(results[0]!, exactSum(2, 1)))).toBeLessThan(1e-4)
  expect(norm(difference(results[1]!, exactSum(2, 2)))).toBeGreaterThan(1)
})

describe('wrong uses', () => {
  test.each([
    ['zip', 'compression "zip": no compressor is called "zip"; expected none, float16, bfloat16, int8, int4'],
    ['', 'no compressor is called ""'],
    [
      'topk:2',
      'compression "topk:2": the value after the colon is "2"; expected a number from 0.000001 to 1',
    ],
    ['topk:', 'the value after the colon is ""'],
    ['powersgd:1.5', 'expected a whole number from 1 to 64'],
    ['int8:4', 'int8 takes no value after a colon'],
    ['topk,speed=3', 'topk has no option speed; expected the options rampup, warmup, feedback'],
    ['topk,feedback=maybe', 'feedback is "maybe"; expected on or off'],
    [
      'int8+float16',
      'nothing may follow int8; expected one of float16, bfloat16, int8, int4 after one of topk',
    ],
    ['topk+zip', 'after topk comes "zip"; expected one of float16'],
  ])('%s', (text, message) => {
    expect(() => compressorByName(text)).toThrow(message)
  })

  test('none is no compressor', () => {
    expect(compressorByName('none')).toBeUndefined()
  })
})
