/** Coloured images of 32×32 pixels in ten classes: CIFAR-10's binary files, or made up. Knows bytes, no model. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { randomUniform } from '@tensorflow/tfjs-core'
import { type Dataset, LockstepError } from 'lockstep'

const SIDE = 32
const PIXELS = SIDE * SIDE
/** In CIFAR-10's files an image is its class and then its red, green and blue values (cs.toronto.edu/~kriz/cifar.html). */
const RECORD = 1 + 3 * PIXELS

/** Batches: x bytes [B, 32, 32, 3], y bytes [B]. */
function imageDataset(records: Uint8Array): Dataset {
  return {
    length: records.length / RECORD,
    batch(indices) {
      const x = new Uint8Array(indices.length * 3 * PIXELS)
      const y = new Uint8Array(indices.length)
      for (let i = 0; i < indices.length; i++) {
        const record = records.subarray(indices[i]! * RECORD, (indices[i]! + 1) * RECORD)
        y[i] = record[0]!
        for (let p = 0; p < 3 * PIXELS; p++)
          x[i * 3 * PIXELS + (p % PIXELS) * 3 + Math.floor(p / PIXELS)] = record[1 + p]!
      }
      return {
        x: { data: x, shape: [indices.length, SIDE, SIDE, 3] },
        y: { data: y, shape: [indices.length] },
      }
    },
  }
}

/** Reads data_batch_1.bin to data_batch_5.bin, or test_batch.bin, from `directory`. */
export async function readCifar(directory: string, part: 'train' | 'test'): Promise<Dataset> {
  const names = part === 'test' ? ['test_batch'] : [1, 2, 3, 4, 5].map((n) => `data_batch_${n}`)
  const files: Buffer[] = []
  for (const name of names) {
    const path = join(directory, `${name}.bin`)
    const bytes = await readFile(path).catch((cause: Error) => {
      throw new LockstepError(
        `${path}: cannot be read (${cause.message}); name the directory of CIFAR-10's binary version`,
        { cause },
      )
    })
    if (bytes.length === 0 || bytes.length % RECORD !== 0)
      throw new LockstepError(
        `${path} has ${bytes.length} bytes: expected a multiple of ${RECORD}, one image each`,
      )
    files.push(bytes)
  }
  return imageDataset(Buffer.concat(files))
}

/** Whether a shape covers the point (u, v), both between about -1 and 1. */
const shapes: readonly ((u: number, v: number) => boolean)[] = [
  (u, v) => u * u + v * v < 0.5,
  (u, v) => u * u + v * v < 0.6 && u * u + v * v > 0.2,
  (u, v) => Math.max(Math.abs(u), Math.abs(v)) < 0.65,
  (u, v) => Math.abs(Math.max(Math.abs(u), Math.abs(v)) - 0.6) < 0.15,
  (u, v) => v < 0.6 && Math.abs(u) < (v + 0.7) / 2,
  (u, v) => Math.min(Math.abs(u), Math.abs(v)) < 0.2,
  (u) => Math.sin(10 * u) > 0,
  (_, v) => Math.sin(10 * v) > 0,
  (u, v) => Math.sin(8 * (u + v)) > 0,
  (u, v) => Math.sin(8 * u) > 0 === Math.sin(8 * v) > 0,
]

/** One of ten shapes on a ground of the opposite colour, somewhere, in some size, under noise. */
export function inventImages(count: number, seed: number): Dataset {
  const perImage = 8
  const draws = randomUniform([count * perImage + RECORD], 0, 1, 'float32', seed + 1).dataSync()
  const noise = draws.subarray(count * perImage)
  const records = new Uint8Array(count * RECORD)
  for (let i = 0; i < count; i++) {
    const [kind, right, down, size, shift, ...colours] = draws.subarray(i * perImage, (i + 1) * perImage)
    const label = Math.floor(kind! * shapes.length)
    const record = records.subarray(i * RECORD, (i + 1) * RECORD)
    record[0] = label
    for (let p = 0; p < 3 * PIXELS; p++) {
      const [row, column, channel] = [Math.floor(p / SIDE) % SIDE, p % SIDE, Math.floor(p / PIXELS)]
      const scale = 10 + 6 * size!
      const u = (column - 16 + 6 * (right! - 0.5)) / scale
      const v = (row - 16 + 6 * (down! - 0.5)) / scale
      const colour = (colours[channel]! + (shapes[label]!(u, v) ? 0.5 : 0)) % 1
      record[1 + p] = 200 * colour + 55 * noise[(p + Math.floor(shift! * RECORD)) % RECORD]!
    }
  }
  return imageDataset(records)
}
