import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { parseIdx, readIdx } from '../../src/data/idx.js'
import { LockstepError } from '../../src/errors.js'

const MNIST = fileURLToPath(new URL('../../../shared/data/mnist', import.meta.url))

function idx(shape: number[], data: ArrayLike<number>): Uint8Array {
  const bytes = new Uint8Array(4 + 4 * shape.length + data.length)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, 0x0800 | shape.length)
  for (const [d, n] of shape.entries()) view.setUint32(4 + 4 * d, n)
  bytes.set(data, 4 + 4 * shape.length)
  return bytes
}

const IMAGES = idx([3, 2, 2], [0, 255, 51, 1, 10, 20, 30, 40, 50, 60, 70, 80])
const LABELS = idx([3], [7, 0, 9])

/** Whatever happens to the bytes, the answer is one line that names the file: never another error. */
function expectRefusal(bytes: Uint8Array, dimensions: number): void {
  try {
    parseIdx(bytes, 'some/file', dimensions)
  } catch (error) {
    expect(error).toBeInstanceOf(LockstepError)
    expect((error as Error).message).toMatch(/^some\/file: .*, expected .*; .*$/)
    return
  }
  expect.unreachable('the damaged file was accepted')
}

describe('parseIdx', () => {
  it('gives a view of the data', () => {
    const { data, shape } = parseIdx(IMAGES, 'f', 3)
    expect(shape).toEqual([3, 2, 2])
    expect([...data]).toEqual([...IMAGES.subarray(16)])
    expect(data.buffer).toBe(IMAGES.buffer)
  })

  it('reads a file that starts in the middle of its buffer', () => {
    const buffer = new Uint8Array(100)
    buffer.set(LABELS, 13)
    expect([...parseIdx(buffer.subarray(13, 13 + LABELS.length), 'f', 1).data]).toEqual([7, 0, 9])
  })

  it('refuses every truncation and every extension', () => {
    for (let n = 0; n < IMAGES.length; n++) expectRefusal(IMAGES.subarray(0, n), 3)
    for (let n = 0; n < LABELS.length; n++) expectRefusal(LABELS.subarray(0, n), 1)
    expectRefusal(new Uint8Array([...IMAGES, 0]), 3)
  })

  it('refuses every single damaged byte of a header', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 15 }), fc.integer({ min: 1, max: 255 }), (at, flipped) => {
        const damaged = IMAGES.slice()
        damaged[at]! ^= flipped
        expectRefusal(damaged, 3)
      }),
    )
  })

  it('refuses dimensions whose product overflows, and random bytes', () => {
    const header = (...shape: number[]) => idx(shape, [1, 2, 3, 4])
    expectRefusal(header(0xffffffff, 0xffffffff, 0xffffffff), 3)
    expectRefusal(header(0, 0xffffffff, 0xffffffff), 3)
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => expectRefusal(bytes, 3)))
  })
})

describe('readIdx', () => {
  let dir = ''
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'lockstep-idx-'))
    await write('train-images-idx3-ubyte', IMAGES)
    await write('train-labels-idx1-ubyte.gz', gzipSync(LABELS))
  })
  afterEach(() => rm(dir, { recursive: true }))
  const write = (name: string, bytes: Uint8Array) => writeFile(join(dir, name), bytes)
  const refusal = async (part: 'train' | 'test' = 'train') => {
    const error = await readIdx(dir, part).then(
      () => expect.unreachable('the files were accepted'),
      (error: unknown) => error,
    )
    expect(error).toBeInstanceOf(LockstepError)
    return (error as Error).message
  }

  it('gives scaled images and int32 labels in the order asked for', async () => {
    const dataset = await readIdx(dir, 'train')
    expect(dataset.length).toBe(3)
    expect(dataset.imageShape).toEqual([2, 2, 1])
    const { x, y } = dataset.batch([2, 0])
    expect(x.shape).toEqual([2, 2, 2, 1])
    expect(x.data).toEqual(Float32Array.from([50, 60, 70, 80, 0, 255, 51, 1], (byte) => byte / 255))
    expect(y).toEqual({ data: Int32Array.of(9, 7), shape: [2] })
  })

  it('refuses an index outside the dataset', async () => {
    const dataset = await readIdx(dir, 'train')
    for (const index of [-1, 3, 0.5, Number.NaN])
      expect(() => dataset.batch([0, index])).toThrow(
        /^dataset: index is .*, expected an integer from 0 to 2; /,
      )
  })

  it('reads an unpacked file that kept its .gz', async () => {
    await write('train-labels-idx1-ubyte.gz', LABELS)
    expect((await readIdx(dir, 'train')).length).toBe(3)
  })

  it('names both names of a missing file', async () => {
    expect(await refusal('test')).toBe(
      `${join(dir, 't10k-images-idx3-ubyte')}: no such file, nor with .gz; expected one of the two; ` +
        "pass the directory that holds MNIST's IDX files",
    )
  })

  it('says what cannot be read or unpacked', async () => {
    await write('train-labels-idx1-ubyte.gz', gzipSync(LABELS).subarray(0, 20))
    expect(await refusal()).toMatch(
      /labels-idx1-ubyte\.gz: cannot be unpacked \(.*\), expected gzip; download/,
    )
    await mkdir(join(dir, 't10k-images-idx3-ubyte'))
    expect(await refusal('test')).toMatch(/t10k-images-idx3-ubyte: cannot be read \(EISDIR.*\), expected/)
  })

  it('refuses labels in the place of images', async () => {
    await write('train-images-idx3-ubyte', idx([60_000], new Uint8Array(60_000)))
    expect(await refusal()).toMatch(/images-idx3-ubyte: magic number is 0x00000801, expected 0x00000803; put/)
  })

  it('refuses images and labels that do not belong together, and none at all', async () => {
    await write('train-labels-idx1-ubyte', idx([2], [1, 2]))
    expect(await refusal()).toMatch(
      /images-idx3-ubyte holds 3 images but .*labels-idx1-ubyte holds 2 labels, expected .*; put/,
    )
    await write('train-labels-idx1-ubyte', idx([0], []))
    expect(await refusal()).toMatch(/header says 0, which is no items, expected at least one; download/)
  })

  it('refuses a part that does not exist', async () => {
    expect(await refusal('validation' as 'test')).toMatch(/part is 'validation', expected 'train' or 'test'/)
  })

  it.skipIf(!existsSync(MNIST))('reads MNIST', async () => {
    for (const part of ['train', 'test'] as const) {
      const dataset = await readIdx(MNIST, part)
      expect(dataset.length).toBe(10_000)
      const { x, y } = dataset.batch(Array.from({ length: 1000 }, (_, i) => i))
      expect(x.shape).toEqual([1000, 28, 28, 1])
      const mean = (x.data as Float32Array).reduce((sum, pixel) => sum + pixel) / x.data.length
      expect(mean).toBeCloseTo(0.1307, 1) // the mean that every MNIST script normalises with
      expect(new Set(y.data)).toEqual(new Set([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]))
    }
  })
})
