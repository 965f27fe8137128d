/**
 * Ascending positions in a little more than one byte each where about every hundredth element is picked, and always in as many
 * for so many of so many (Elias 1974; Fano 1971): low bytes as they are, and what is above them as the differences of one to the
 * next in unary, a zero bit for each step up and a one bit for the position.
 */

/** Low bytes of each position, as suits `count` positions below `below` best. */
function lowBytes(count: number, below: number): 1 | 2 {
  return count + below / 2 ** 11 <= 2 * count + below / 2 ** 19 ? 1 : 2
}

/** That `count` positions take, in whole words. */
export function positionBytes(count: number, below: number): number {
  const low = lowBytes(count, below)
  return 4 * Math.ceil((low * count + (count + below / 2 ** (8 * low)) / 8) / 4)
}

/** @param dst `positionBytes` */
export function packPositions(dst: Uint8Array, positions: Uint32Array, below: number): void {
  const low = lowBytes(positions.length, below)
  const high = dst.subarray(low * positions.length).fill(0)
  for (let i = 0; i < positions.length; i++) {
    const position = positions[i]!
    dst[low * i] = position
    if (low === 2) dst[2 * i + 1] = position >>> 8
    const bit = i + (position >>> (8 * low))
    high[bit >>> 3]! |= 1 << (bit & 7)
  }
}

/** @param src `positionBytes` */
export function unpackPositions(positions: Uint32Array, src: Uint8Array, below: number): void {
  const low = lowBytes(positions.length, below)
  const high = src.subarray(low * positions.length)
  let i = 0
  for (let byte = 0; i < positions.length; byte++) {
    for (let ones = high[byte]!; ones !== 0; ones &= ones - 1) {
      const above = 8 * byte + 31 - Math.clz32(ones & -ones) - i
      positions[i] = low === 1 ? (above << 8) | src[i]! : (above << 16) | (src[2 * i + 1]! << 8) | src[2 * i]!
      i++
    }
  }
}
