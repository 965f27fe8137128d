/** Tensors as the bytes of a safetensors file, and back. Refuses to know where the file is. */
import { piecesOf } from './pieces.js'
import {
  decodeHeader,
  decodeHeaderLength,
  encodeHeader,
  LENGTH_BYTES,
  type NamedTensor,
} from './safetensors.js'
import { DamagedError, type Source } from './storage.js'

/** The file's bytes in order: views of the tensors, no second copy. @throws LockstepError for names it cannot hold. */
export function* tensorPieces(tensors: readonly NamedTensor[]): Generator<Uint8Array> {
  yield encodeHeader(tensors)
  for (const { data } of tensors) yield* piecesOf(data)
}

/**
 * Memory for tensors is taken only once the header has been checked against the file's length.
 * @throws DamagedError naming the path and what is wrong with its content.
 */
export async function readTensors({ path, size, fill }: Source): Promise<NamedTensor[]> {
  const filled = async <T extends ArrayBufferView>(target: T): Promise<T> => {
    for (const piece of piecesOf(target)) await fill(piece)
    return target
  }
  if (size < LENGTH_BYTES) throw new DamagedError(`${path}: it has ${size} bytes, a header takes at least 8`)
  const length = decodeHeaderLength(await filled(new Uint8Array(LENGTH_BYTES)), size, path)
  const header = await filled(new Uint8Array(length))
  const entries = decodeHeader(header, size - LENGTH_BYTES - length, path)
  const tensors: NamedTensor[] = []
  for (const { name, shape, begin, end } of entries) {
    const data = await filled(new Float32Array((end - begin) / Float32Array.BYTES_PER_ELEMENT))
    tensors.push({ name, shape, data })
  }
  return tensors
}
