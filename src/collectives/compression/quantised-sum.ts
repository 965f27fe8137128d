/**
 * All-reduce of numbers that travel quantised: a direct reduce-scatter and a ring all-gather, as in 1-bit Adam (Tang et
 * al. 2021, section 4). Rank r owns slice r: it receives everybody's, adds them in rank order in float32, and sends the
 * quantised sum to all. So numbers are quantised twice, however many ranks there are, and each rank sends
 * 2 (W - 1)/W of the quantised tensors, as many as a ring would.
 *
 * With error feedback every rank adds to the next step's gradients what quantisation took from this one's, and a
 * slice's owner does the same with the sum.
 */
import type { Communicator } from '../communicator.js'
import { add } from '../kernels/kernels.js'
import { bytesOf, type Codec, wholeBlocks } from './codec.js'
import { type CompressedSum, pack, type TensorShape, totalOf, unpack } from './compressor.js'
import { subtract } from './elementwise.js'
import { floatsAndBytes } from './room.js'

export class QuantisedSum implements CompressedSum {
  readonly state: Readonly<Record<string, Float32Array>>
  /** Elements of all tensors; behind them the buffers are filled up to whole slices. */
  private readonly length: number
  /** All tensors, cut into one slice for each rank. */
  private readonly values: Float32Array
  private readonly total: Float32Array
  private readonly codes: Uint8Array
  private readonly totalCodes: Uint8Array
  private readonly residual: Float32Array | undefined
  private readonly totalResidual: Float32Array | undefined

  constructor(
    private readonly codec: Codec,
    tensors: readonly TensorShape[],
    private readonly size: number,
    feedback: boolean,
  ) {
    this.length = totalOf(tensors)
    const slice = wholeBlocks(codec, Math.ceil(this.length / size))
    const floats = [size * slice, slice]
    const room = floatsAndBytes(feedback ? [...floats, ...floats] : floats, [
      bytesOf(codec, size * slice),
      bytesOf(codec, slice),
    ])
    ;[this.values, this.total] = room.floats as [Float32Array, Float32Array]
    ;[this.residual, this.totalResidual] = room.floats.slice(2)
    ;[this.codes, this.totalCodes] = room.bytes as [Uint8Array, Uint8Array]
    this.state = feedback ? { residual: this.residual!, totalResidual: this.totalResidual! } : {}
  }

  async sum(links: Communicator, tensors: readonly Float32Array[]): Promise<void> {
    const { codec, values, codes, total, totalCodes, residual, totalResidual, length } = this
    pack(values, tensors)
    if (residual) add(values, residual)
    values.fill(0, length)
    this.slices((slice, part) => codec.compress(part, slice))
    if (residual) this.slices((slice, part, at) => keepRest(codec, at(residual), slice, part))

    codes.set((await links.allToAll(codes)) as Uint8Array)
    total.fill(0)
    this.slices((_, part) => codec.accumulate(total, part))
    if (totalResidual) add(total, totalResidual)
    total.fill(0, Math.max(0, length - links.rank * total.length))
    codec.compress(totalCodes, total)
    if (totalResidual) keepRest(codec, totalResidual, total, totalCodes)

    codes.set((await links.allGather(totalCodes)) as Uint8Array)
    this.slices((slice, part) => codec.decompress(slice, part))
    unpack(tensors, values)
  }

  /** Each rank's slice of the values, with its codes, and the same slice of other arrays. */
  private slices(
    visit: (slice: Float32Array, codes: Uint8Array, at: (array: Float32Array) => Float32Array) => void,
  ): void {
    const [length, bytes] = [this.total.length, this.totalCodes.length]
    for (let rank = 0; rank < this.size; rank++) {
      const at = (array: Float32Array) => array.subarray(rank * length, (rank + 1) * length)
      visit(at(this.values), this.codes.subarray(rank * bytes, (rank + 1) * bytes), at)
    }
  }
}

/** rest = what `codes` have lost of `values`. */
function keepRest(codec: Codec, rest: Float32Array, values: Float32Array, codes: Uint8Array): void {
  codec.decompress(rest, codes)
  subtract(rest, values, rest)
}
