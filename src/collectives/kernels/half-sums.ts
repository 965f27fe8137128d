/**
 * Sums of 16-bit floats, wherever they lie: added in float32 in the order given, and rounded once. Numbers pass through
 * memory of this thread's own, where the SIMD kernels reach them, in blocks that stay in the first-level cache.
 */
import { Arena } from './arena.js'
import { addHalf, fromHalf, toHalf } from './half.js'
import { Bfloat16Bits, Float16Bits, type HalfArray } from './half-arrays.js'

const BLOCK = 4096

interface Memory {
  readonly sums: Float32Array
  readonly float16: Float16Bits
  readonly bfloat16: Bfloat16Bits
}

let memory: Memory | undefined

/** dst[i] = sources[0][i] + sources[1][i] + …, where `dst` may be one of them. @throws RangeError when lengths differ. */
export function sumHalves(dst: HalfArray, sources: readonly HalfArray[]): void {
  if (sources.some(({ length }) => length !== dst.length))
    throw new RangeError(`sources of ${sources.map(({ length }) => length)} elements for ${dst.length}`)
  memory ??= ownMemory()
  const room = dst instanceof Bfloat16Bits ? memory.bfloat16 : memory.float16
  for (let at = 0; at < dst.length; at += BLOCK) {
    const length = Math.min(BLOCK, dst.length - at)
    const [sums, halves] = [memory.sums.subarray(0, length), room.subarray(0, length)]
    sources.forEach((source, i) => {
      halves.set(source.subarray(at, at + length))
      if (i === 0) fromHalf(sums, halves)
      else addHalf(sums, halves)
    })
    toHalf(halves, sums)
    dst.set(halves, at)
  }
}

function ownMemory(): Memory {
  const arena = new Arena(Arena.bytesFor([BLOCK, BLOCK / 2]))
  const sums = arena.alloc(BLOCK)
  const { byteOffset } = arena.alloc(BLOCK / 2)
  const { buffer } = arena.memory
  return {
    sums,
    float16: new Float16Bits(buffer, byteOffset, BLOCK),
    bfloat16: new Bfloat16Bits(buffer, byteOffset, BLOCK),
  }
}
