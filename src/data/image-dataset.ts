/**
 * Labelled images kept in memory as bytes, a quarter of their size as floats, and scaled batch by batch.
 * Knows no file format and augments nothing.
 */
import { LockstepError } from '../errors.js'
import type { Batch, Dataset } from './dataset.js'

/** What each byte is as a float32 between 0 and 1. */
const SCALED = Float32Array.from({ length: 256 }, (_, byte) => byte / 255)

export class ImageDataset implements Dataset {
  readonly length: number
  readonly #pixelsPerImage: number

  /**
   * @param images `length` images one after the other, row-major
   * @param labels the class of each
   * @param imageShape [rows, columns, channels]
   */
  constructor(
    protected readonly images: Uint8Array,
    protected readonly labels: Uint8Array,
    readonly imageShape: readonly [number, number, number],
  ) {
    this.length = labels.length
    this.#pixelsPerImage = imageShape[0] * imageShape[1] * imageShape[2]
  }

  /**
   * x: float32 [B, rows, columns, channels], 0 to 1. y: int32 [B].
   * @throws LockstepError for an index outside the dataset.
   */
  batch(indices: ArrayLike<number>): Batch {
    const size = this.#pixelsPerImage
    const x = new Float32Array(indices.length * size)
    const y = new Int32Array(indices.length)
    for (let item = 0; item < indices.length; item++) {
      const index = this.#checked(indices[item]!)
      const source = index * size
      const target = item * size
      for (let p = 0; p < size; p++) x[target + p] = SCALED[this.images[source + p]!]!
      y[item] = this.labels[index]!
    }
    return {
      x: { data: x, shape: [indices.length, ...this.imageShape] },
      y: { data: y, shape: [indices.length] },
    }
  }

  #checked(index: number): number {
    if (Number.isInteger(index) && index >= 0 && index < this.length) return index
    throw new LockstepError(
      `dataset: index is ${index}, expected an integer from 0 to ${this.length - 1}; ` +
        'make the sampler with the length of this dataset',
    )
  }
}
