/**
 * All-reduce of small arrays: few steps instead of few bytes.
 */
import { allocate, dtypeOf } from './call.js'
import type { Numbers, ReduceOp } from './communicator.js'
import type { Links } from './links.js'
import { combineOf, divide } from './reduce.js'
import { wireBlocks } from './slices.js'

const NOTHING = new Uint8Array(0)

/**
 * Recursive doubling in place (Thakur, Rabenseifner & Gropp, "Optimization of collective communication operations in
 * MPICH", 2005). In step k every rank exchanges all it has with the one whose number differs in bit k, so that after log2 P
 * steps all have everything, where P is the largest power of two up to W. The W - P last ranks hand their numbers to the
 * first ones before and get the result afterwards. ⌊log2 W⌋ steps (+ 2 if W is no power of two), and each rank sends
 * the whole array in every one.
 *
 * Both of a pair combine lower rank (op) higher rank, in this order: all ranks hold the same bits, even of a NaN.
 */
export async function recursiveDoubling(links: Links, data: Numbers, op: ReduceOp): Promise<void> {
  const { rank, size } = links
  const dtype = dtypeOf(data)!
  const combine = combineOf(dtype, op)
  const power = 2 ** Math.floor(Math.log2(size))

  if (rank >= power) {
    const agreed = links.receive(rank - power, NOTHING)
    send(links, rank - power, data)
    await agreed
    return receive(links, rank - power, data)
  }
  // What is sent must stay as it is until it has left: each step's result is another array.
  let sum = data
  const meet = async (peer: number) => {
    const theirs = allocate(dtype, data.length)
    await receive(links, peer, theirs)
    const [low, high] = peer > rank ? [sum.slice(), theirs] : [theirs, sum]
    combine(low, high)
    sum = low
  }
  const extra = rank + power
  if (extra < size) {
    links.send(extra, NOTHING) // so that ranks which disagree find out before one waits for the other
    await meet(extra)
  }
  for (let bit = 1; bit < power; bit *= 2) {
    send(links, rank ^ bit, sum)
    await meet(rank ^ bit)
  }
  if (op === 'mean') divide(sum, size)
  if (extra < size) send(links, extra, sum)
  await links.flushed() // `data` itself may still be on its way
  data.set(sum)
}

function send(links: Links, to: number, data: Numbers): void {
  for (const block of wireBlocks(data)) links.send(to, block)
}

function receive(links: Links, from: number, data: Numbers): Promise<void> {
  return links.receiveEach(from, wireBlocks(data), () => {})
}
