/**
 * The pass around the ring that the ring collectives share: every rank sends to the next one and receives from the
 * one before, so that all links work all the time. It knows chunks and steps; the collectives say which and how many.
 */
import { bytesOf, bytesPerElement, dtypeOf } from './call.js'
import { blocksOf, chunkOf, modulo, type Range } from './chunks.js'
import type { Numbers } from './communicator.js'
import type { Links } from './links.js'
import type { Combine } from './reduce.js'
import { BLOCK_BYTES } from './wire/frame.js'

/** Bytes that a rank sends ahead of what it receives: enough for any line, and the caches still hold them when they arrive. */
const AHEAD_BYTES = 2 * 1024 * 1024

export interface RingPass {
  /** The chunk that this rank sends to begin with. In step s it receives, and passes on, chunk `first` - 1 - s. */
  readonly first: number
  readonly steps: number
  /** In the first `reduced` steps what is received is combined into the data, in the others it replaces them. */
  readonly reduced: number
  readonly combine?: Combine
  /** Called on each block of the chunk whose last contribution has just been combined: this rank's own. */
  readonly finish?: (block: Numbers) => void
  /** One per rank, where they are not to be as equal as can be. */
  readonly chunks?: readonly Range[]
}

/**
 * Runs a pass over `data`, cut into one chunk per rank. A received block is combined and sent on at once, while
 * the blocks behind it are still on their way: the steps of a pass overlap on all ranks.
 *
 * A block is overwritten only by its own final value, which exists only after this rank's contribution has been
 * received by the next rank: so what `send` was given is never changed before it has left.
 *
 * A rank sends a few blocks ahead, and then one for each that it receives. Nobody waits for ever: of ranks that do not go on
 * each has sent more blocks than it has received, so than the one before it has sent, which cannot be so all around.
 */
export async function ringPass(links: Links, data: Numbers, pass: RingPass): Promise<void> {
  const { rank, size } = links
  const next = modulo(rank + 1, size)
  const previous = modulo(rank - 1, size)
  const dtype = dtypeOf(data)!
  const perBlock = BLOCK_BYTES / bytesPerElement(dtype)
  const rangeOf = (chunk: number) => pass.chunks?.[chunk] ?? chunkOf(data.length, size, chunk)
  const blocks = (chunk: number) =>
    blocksOf(rangeOf(modulo(chunk, size)), perBlock).map(({ start, end }) => data.subarray(start, end))
  const incoming = Array.from({ length: pass.steps }, (_, step) =>
    blocks(pass.first - 1 - step).map((block) => {
      const scratch = step < pass.reduced ? links.scratch(dtype, block.length) : undefined
      return { step, block, scratch }
    }),
  ).flat()

  const outgoing = blocks(pass.first)
  let sent = 0
  const sendUpTo = (count: number) => {
    for (; sent < Math.min(count, outgoing.length); sent++) links.send(next, bytesOf(outgoing[sent]!))
  }
  const ahead = AHEAD_BYTES / BLOCK_BYTES
  sendUpTo(ahead)
  await links.receiveEach(
    previous,
    incoming.map(({ block, scratch }) => bytesOf(scratch ?? block)),
    (index) => {
      const { step, block, scratch } = incoming[index]!
      if (scratch) pass.combine!(block, scratch)
      if (step === pass.reduced - 1) pass.finish?.(block)
      if (step < pass.steps - 1) outgoing.push(block)
      const last = index === incoming.length - 1 // chunks may differ in their number of blocks
      sendUpTo(last ? outgoing.length : ahead + index + 1)
    },
  )
}
