/**
 * Sums of random elements, the same on every rank: no positions travel, and what is picked is summed as any dense array.
 * One element is drawn from each of k equal stretches, by a hash of the step. What is not sent
 * is kept for the next step.
 */
import type { Communicator } from '../communicator.js'
import { add } from '../kernels/kernels.js'
import type { Codec } from './codec.js'
import { type CompressedSum, type Moment, pack, type TensorShape, totalOf, unpack } from './compressor.js'
import { hash } from './hash.js'
import { QuantisedSum } from './quantised-sum.js'
import { floatsAndBytes } from './room.js'

export class RandomSum implements CompressedSum {
  readonly state: Readonly<Record<string, Float32Array>>
  private readonly values: Float32Array
  private readonly kept: Float32Array
  private readonly picked: Float32Array
  private readonly quantised: QuantisedSum | undefined

  /** @param codec how picked values travel; undefined: as they are */
  constructor(
    ratio: number,
    codec: Codec | undefined,
    private readonly feedback: boolean,
    tensors: readonly TensorShape[],
    size: number,
  ) {
    const total = totalOf(tensors)
    const picks = Math.max(1, Math.round(ratio * total))
    const { floats } = floatsAndBytes([total, total, picks], [])
    ;[this.values, this.kept, this.picked] = floats as [Float32Array, Float32Array, Float32Array]
    this.quantised = codec && new QuantisedSum(codec, [{ name: 'picked', shape: [picks] }], size, feedback)
    this.state = feedback ? { kept: this.kept, ...this.quantised?.state } : {}
  }

  async sum(links: Communicator, tensors: readonly Float32Array[], { step }: Moment): Promise<void> {
    const { values, kept, picked, quantised } = this
    if (!this.feedback) kept.fill(0)
    pack(values, tensors)
    add(kept, values)
    const positions = draw(kept.length, picked.length, step)
    positions.forEach((position, i) => {
      picked[i] = kept[position]!
      kept[position] = 0
    })
    if (quantised) await quantised.sum(links, [picked])
    else await links.allReduce(picked)
    values.fill(0)
    positions.forEach((position, i) => {
      values[position] = picked[i]!
    })
    unpack(tensors, values)
  }
}

/** `picks` different positions below `length`, ascending; the same for the same step. */
function draw(length: number, picks: number, step: number): Uint32Array {
  const positions = new Uint32Array(picks)
  for (let i = 0; i < picks; i++) {
    const start = Math.floor((i * length) / picks)
    const end = Math.floor(((i + 1) * length) / picks)
    positions[i] = start + (hash(step, i) % (end - start))
  }
  return positions
}
