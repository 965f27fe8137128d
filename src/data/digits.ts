/**
 * Handwritten-looking digits for trying things out where no data can be fetched: shaped like MNIST, unlimited, the
 * same bytes on every machine. A stand-in: figures reached on it say nothing about MNIST.
 */
import { checkInteger } from './check.js'
import type { Batch } from './dataset.js'
import { drawDigit, SIDE } from './digit-drawing.js'
import { ImageDataset } from './image-dataset.js'
import { Mt19937 } from './mt19937.js'

/** Odd, so that seeds below 2³² give different starts; 2³² / golden ratio, so that neighbours start far apart. */
const SEED_STRIDE = 0x9e3779b1

/**
 * `count` digits drawn from `seed`. Batches: x float32 [B, 28, 28, 1] from 0 to 1, y int32 [B], 0 to 9. Item i
 * depends on `seed` and i only, and is drawn when first asked for, so a rank pays for its own shard. Different
 * seeds give different digits: take one for training and another for testing.
 *
 * @throws LockstepError for a count below 1 or a seed that is not an integer.
 */
export function generateDigits(count: number, seed: number): ImageDataset {
  checkInteger('generateDigits', 'count', count, 1, 'pass how many digits to draw, e.g. 12000')
  checkInteger('generateDigits', 'seed', seed, Number.MIN_SAFE_INTEGER, 'pass e.g. 1')
  return new GeneratedDigits(count, Math.imul(seed, SEED_STRIDE))
}

class GeneratedDigits extends ImageDataset {
  readonly #firstSeed: number
  readonly #drawn: Uint8Array

  constructor(count: number, firstSeed: number) {
    super(new Uint8Array(count * SIDE * SIDE), new Uint8Array(count), [SIDE, SIDE, 1])
    this.#firstSeed = firstSeed
    this.#drawn = new Uint8Array(count)
  }

  override batch(indices: ArrayLike<number>): Batch {
    for (let i = 0; i < indices.length; i++) if (this.#drawn[indices[i]!] === 0) this.#draw(indices[i]!)
    return super.batch(indices)
  }

  #draw(index: number): void {
    const random = new Mt19937(this.#firstSeed + index)
    const label = random.uint32() % 10
    drawDigit(label, random, this.images.subarray(index * SIDE * SIDE, (index + 1) * SIDE * SIDE))
    this.labels[index] = label
    this.#drawn[index] = 1
  }
}
