/** Arrays of 16-bit floats, which JavaScript has no type for everywhere: bits that say which format they are in. */

/** IEEE float16. */
export class Float16Bits extends Uint16Array {}

/** The upper half of a float32. */
export class Bfloat16Bits extends Uint16Array {}

export type HalfArray = Float16Bits | Bfloat16Bits

export const HALF_ARRAYS = { float16: Float16Bits, bfloat16: Bfloat16Bits } as const
export type HalfType = keyof typeof HALF_ARRAYS

/** Whether no number of `data` is an infinity or NaN. */
export function allFinite(data: HalfArray): boolean {
  let largest = 0
  for (let i = 0; i < data.length; i++) {
    const magnitude = data[i]! & 0x7fff
    if (magnitude > largest) largest = magnitude
  }
  return largest < (data instanceof Bfloat16Bits ? 0x7f80 : 0x7c00)
}
