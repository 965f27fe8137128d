/**
 * PowerSGD (Vogels, Karimireddy and Jaggi 2019): a gradient matrix M [rows, cols] travels as P [rows, r] and Q [cols, r]
 * with M ≈ P Qᵀ. One step of subspace iteration, warm-started with the last step's Q: P = sum of M Q over ranks,
 * orthogonalised; Q = sum of Mᵀ P. Both sums are plain all-reduces. Each rank keeps what P Qᵀ has lost of its own M.
 *
 * A tensor is the matrix whose columns are its last dimension. One that P and Q would not make smaller goes as it is.
 */
import type { Communicator } from '../communicator.js'
import { add } from '../kernels/kernels.js'
import type { Codec } from './codec.js'
import { type CompressedSum, pack, sizeOf, type TensorShape, totalOf, unpack } from './compressor.js'
import { hash } from './hash.js'
import { addLowRank, timesSkinny, transposedTimesSkinny } from './low-rank.js'
import { QuantisedSum } from './quantised-sum.js'
import { BLOCK_FLOATS, eachBlock, floatsAndBytes } from './room.js'

interface Matrix {
  /** Which of the tensors it is. */
  readonly tensor: number
  readonly rows: number
  readonly cols: number
  /** This step's gradient and what earlier steps have left; then what this one leaves. */
  readonly m: Float32Array
  /** [rows, width] and [cols, width]: `rank` columns, then zeros up to what SIMD likes. */
  readonly p: Float32Array
  readonly q: Float32Array
}

export interface PowerSgdOptions {
  readonly rank: number
  /** How P and Q travel; undefined: as they are. */
  readonly codec: Codec | undefined
  readonly feedback: boolean
}

export class PowerSgdSum implements CompressedSum {
  readonly state: Readonly<Record<string, Float32Array>>
  private readonly matrices: readonly Matrix[]
  /** Tensors that are summed as they are. */
  private readonly others: readonly number[]
  private readonly dense: Float32Array
  /** Some rows of any matrix. */
  private readonly block: Float32Array
  private readonly width: number
  private readonly sumP: Factors
  private readonly sumQ: Factors

  constructor(
    private readonly options: PowerSgdOptions,
    tensors: readonly TensorShape[],
    size: number,
  ) {
    const { rank, codec, feedback } = options
    this.width = Math.ceil(rank / 4) * 4
    const shapes = tensors.map((tensor, i) => ({ ...matrixOf(tensor), tensor: i }))
    const pays = ({ rows, cols }: { rows: number; cols: number }) => 2 * rank * (rows + cols) <= rows * cols
    const large = shapes.filter(pays)
    this.others = shapes.filter((shape) => !pays(shape)).map(({ tensor }) => tensor)
    const { floats } = floatsAndBytes(
      [
        totalOf(this.others.map((i) => tensors[i]!)),
        Math.max(0, ...large.map(({ rows, cols }) => cols * rowsAtOnce(rows, cols))),
        ...large.flatMap(({ rows, cols }) => [rows * cols, rows * this.width, cols * this.width]),
      ],
      [],
    )
    ;[this.dense, this.block] = floats as [Float32Array, Float32Array]
    this.matrices = large.map((shape, i) => {
      const [m, p, q] = floats.slice(2 + 3 * i) as [Float32Array, Float32Array, Float32Array]
      return { ...shape, m, p, q }
    })
    for (const { q, tensor } of this.matrices) refill(q, this.width, rank, tensor)
    this.sumP = new Factors(
      this.matrices.map(({ p }) => p),
      this.width,
      rank,
      codec,
      size,
    )
    this.sumQ = new Factors(
      this.matrices.map(({ q }) => q),
      this.width,
      rank,
      codec,
      size,
    )
    this.state = Object.fromEntries(
      this.matrices.flatMap(({ m, q, tensor }) => [
        ...(feedback ? [[`${tensors[tensor]!.name}/residual`, m] as const] : []),
        [`${tensors[tensor]!.name}/q`, q],
      ]),
    )
  }

  async sum(links: Communicator, tensors: readonly Float32Array[]): Promise<void> {
    const { matrices, width, block, options } = this
    const dense = this.sumOthers(links, tensors)
    for (const { tensor, rows, cols, m, p, q } of matrices) {
      if (!options.feedback) m.fill(0)
      eachBlock(tensors[tensor]!, rowsOf(block, rows, cols), (part, start) => {
        const [own, from] = [m.subarray(start, start + part.length), start / cols]
        add(own, part)
        timesSkinny(p.subarray(from * width), own, q, part.length / cols, cols, width)
      })
    }
    await this.sumP.sum(links)
    for (const { rows, cols, m, p, q } of matrices) {
      orthonormalise(p, width, options.rank)
      transposedTimesSkinny(q, m, p, rows, cols, width)
      addLowRank(m, p, q, rows, cols, width, -1)
    }
    await this.sumQ.sum(links)
    for (const { tensor, rows, cols, p, q } of matrices) {
      const sum = tensors[tensor]!
      for (let start = 0; start < sum.length; start += rowsOf(block, rows, cols).length) {
        const part = rowsOf(block, rows, cols)
          .subarray(0, sum.length - start)
          .fill(0)
        addLowRank(part, p.subarray((start / cols) * width), q, part.length / cols, cols, width, 1)
        sum.set(part, start)
      }
      refill(q, width, options.rank, tensor)
    }
    await dense
  }

  private async sumOthers(links: Communicator, tensors: readonly Float32Array[]): Promise<void> {
    const others = this.others.map((i) => tensors[i]!)
    if (others.length === 0) return
    pack(this.dense, others)
    await links.allReduce(this.dense)
    unpack(others, this.dense)
  }
}

/** One factor of all matrices, summed over ranks in one go without the columns that only fill up. */
class Factors {
  private readonly wire: Float32Array
  private readonly quantised: QuantisedSum | undefined

  constructor(
    private readonly factors: readonly Float32Array[],
    private readonly width: number,
    private readonly rank: number,
    codec: Codec | undefined,
    size: number,
  ) {
    const length = factors.reduce((sum, factor) => sum + (factor.length / width) * rank, 0)
    this.wire = floatsAndBytes([length], []).floats[0]!
    this.quantised = codec && new QuantisedSum(codec, [{ name: 'factors', shape: [length] }], size, false)
  }

  async sum(links: Communicator): Promise<void> {
    if (this.wire.length === 0) return
    this.columns((factor, i, at) => {
      this.wire[at] = factor[i]!
    })
    if (this.quantised) await this.quantised.sum(links, [this.wire])
    else await links.allReduce(this.wire)
    this.columns((factor, i, at) => {
      factor[i] = this.wire[at]!
    })
  }

  private columns(visit: (factor: Float32Array, i: number, at: number) => void): void {
    let at = 0
    for (const factor of this.factors) {
      for (let row = 0; row < factor.length; row += this.width) {
        for (let column = 0; column < this.rank; column++) visit(factor, row + column, at++)
      }
    }
  }
}

/** How many rows fit into a core's cache, in fours. */
const rowsAtOnce = (rows: number, cols: number) =>
  Math.min(rows, 4 * Math.max(1, Math.floor(BLOCK_FLOATS / 4 / cols)))

const rowsOf = (block: Float32Array, rows: number, cols: number) =>
  block.subarray(0, cols * rowsAtOnce(rows, cols))

function matrixOf(tensor: TensorShape): { rows: number; cols: number } {
  const cols = tensor.shape.at(-1) ?? 1
  return { rows: sizeOf(tensor) / Math.max(1, cols), cols }
}

/** Makes the first `rank` columns orthonormal by modified Gram-Schmidt in float64; a column of zeros stays so. */
function orthonormalise(p: Float32Array, width: number, rank: number): void {
  for (let c = 0; c < rank; c++) {
    for (let b = 0; b < c; b++) {
      const along = dot(p, width, b, c)
      for (let i = 0; i < p.length; i += width) p[i + c]! -= along * p[i + b]!
    }
    const norm = Math.sqrt(dot(p, width, c, c))
    for (let i = c; i < p.length; i += width) p[i] = norm > 1e-30 ? p[i]! / norm : 0
  }
}

function dot(p: Float32Array, width: number, a: number, b: number): number {
  let sum = 0
  for (let i = 0; i < p.length; i += width) sum += p[i + a]! * p[i + b]!
  return sum
}

/** A column of zeros would stay one for ever: it starts anew, the same on every rank. */
function refill(q: Float32Array, width: number, rank: number, seed: number): void {
  for (let c = 0; c < rank; c++) {
    if (dot(q, width, c, c) > 0) continue
    for (let i = c; i < q.length; i += width) q[i] = hash(seed, i) / 2 ** 31 - 1
  }
}
