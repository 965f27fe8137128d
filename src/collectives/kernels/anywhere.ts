/**
 * The float32 kernels for arrays that lie anywhere: what is outside their memory is copied in, and the result out, which
 * takes half the time of a loop. The memory is this thread's own. It refuses to know what is computed.
 */
import { Arena } from './arena.js'

type Kernel = (dst: Float32Array, src: Float32Array) => void

/** Floats copied at a time: they stay in the second-level cache until they are copied back. Fewer leave views as garbage. */
const PART = 32_768
const ROOM_BYTES = 2 * 1024 * 1024

interface Memory {
  readonly arena: Arena
  readonly dst: Float32Array
  readonly src: Float32Array
  /** Bytes for `roomFor`. */
  left: number
}

let memory: Memory | undefined

/** `kernel`, wherever its operands lie. */
export function anywhere(kernel: Kernel): Kernel {
  return (dst, src) => {
    if (dst.buffer === src.buffer) kernel(dst, src)
    else for (let at = 0; at < dst.length; at += PART) inParts(kernel, dst, src, at)
  }
}

/** Room in the kernels' memory, where an operand needs no copy; elsewhere once there is none left. */
export function roomFor(bytes: number): Uint8Array {
  const own = ownMemory()
  if (own.left < bytes) return new Uint8Array(bytes)
  own.left -= bytes
  const { buffer, byteOffset } = own.arena.alloc(bytes / Float32Array.BYTES_PER_ELEMENT)
  return new Uint8Array(buffer, byteOffset, bytes)
}

function inParts(kernel: Kernel, dst: Float32Array, src: Float32Array, at: number): void {
  const own = ownMemory()
  const target = dst.subarray(at, at + PART)
  let source = src.subarray(at, at + PART)
  const sum = own.dst.subarray(0, target.length)
  sum.set(target)
  if (source.buffer !== sum.buffer) {
    own.src.set(source)
    source = own.src.subarray(0, source.length)
  }
  kernel(sum, source)
  target.set(sum)
}

function ownMemory(): Memory {
  if (memory) return memory
  const arena = new Arena(ROOM_BYTES + Arena.bytesFor([PART, PART]))
  memory = { arena, dst: arena.alloc(PART), src: arena.alloc(PART), left: ROOM_BYTES }
  return memory
}
