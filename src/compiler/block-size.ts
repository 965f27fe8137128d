/**
 * How many channels onnxruntime puts in a block of its direct convolutions on this processor: as many as a vector has
 * floats. It says so nowhere, so an image whose pixels are numbered is reordered once and looked at.
 */
import { BLOCKED_DOMAIN } from './onnx.js'
import { Session } from './session.js'

const CHANNELS = 64
const PIXELS = 2

let probing: Promise<number | undefined> | undefined

/** Channels in a block; undefined where this build of onnxruntime has no such convolutions. Asked once per process. */
export function blockSize(): Promise<number | undefined> {
  probing ??= probe().catch(() => undefined)
  return probing
}

async function probe(): Promise<number | undefined> {
  const value = (name: string) => ({ name, type: 'float32' as const, shape: [1, CHANNELS, 1, PIXELS] })
  const reorder = {
    op: 'ReorderInput',
    inputs: ['x'],
    outputs: ['y'],
    attributes: {},
    domain: BLOCKED_DOMAIN,
  }
  const graph = { nodes: [reorder], constants: [], inputs: [value('x')], outputs: [value('y')] }
  const session = await Session.create(graph, { threads: 1 })
  const [given, reordered] = [new Float32Array(CHANNELS * PIXELS), new Float32Array(CHANNELS * PIXELS)]
  // In NCHW the number of a channel's first pixel is PIXELS times the channel's.
  given.forEach((_, i) => {
    given[i] = i
  })
  session.bindInputs(new Map([['x', given]]))
  session.bindOutputs(new Map([['y', reordered]]))
  await session.run()
  await session.release()
  // A block ends where the second pixel of its first channel follows.
  const block = reordered.indexOf(1)
  const expected = given.map((_, i) => blockedAt(i, block))
  return block > 1 && expected.every((n, i) => n === reordered[i]) ? block : undefined
}

/** The number at position i of the blocked image. */
function blockedAt(i: number, block: number): number {
  const [outer, pixel, inner] = [Math.floor(i / (block * PIXELS)), Math.floor(i / block) % PIXELS, i % block]
  return (outer * block + inner) * PIXELS + pixel
}
