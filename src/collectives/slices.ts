/**
 * A rank's equal share of an array, as the blocks that travel.
 */
import { bytesOf } from './call.js'
import { blocksOf } from './chunks.js'
import type { Numbers } from './communicator.js'
import { BLOCK_BYTES } from './wire/frame.js'

/** All of `data` in blocks of one frame each. */
export function wireBlocks(data: Numbers): Uint8Array[] {
  const bytes = bytesOf(data)
  return blocksOf({ start: 0, end: bytes.length }, BLOCK_BYTES).map(({ start, end }) =>
    bytes.subarray(start, end),
  )
}

/** Share `index` of `data`, which holds `size` equally long ones. */
export function share(data: Numbers, size: number, index: number): Numbers {
  const length = data.length / size
  return data.subarray(index * length, (index + 1) * length)
}
