/**
 * The safetensors format (github.com/huggingface/safetensors), float32 only: 8 bytes little-endian header length, a
 * JSON header {name: {dtype, shape, data_offsets}}, then the tensors' bytes without gaps. Knows bytes, opens no file.
 */
import { LockstepError } from '../../errors.js'
import { DamagedError } from './storage.js'

export interface NamedTensor {
  readonly name: string
  readonly shape: readonly number[]
  readonly data: Float32Array
}

/** Where a tensor's bytes lie, counted from the end of the header. */
export interface TensorEntry {
  readonly name: string
  readonly shape: readonly number[]
  readonly begin: number
  readonly end: number
}

export const LENGTH_BYTES = 8
const MAX_HEADER_BYTES = 100_000_000 // the reference implementation's bound

/**
 * The bytes before the data, whose length is a multiple of 8, so that readers may map the tensors that follow.
 * @throws LockstepError when two tensors share a name, or one's name is the format's own `__metadata__`.
 */
export function encodeHeader(
  tensors: readonly (Omit<NamedTensor, 'data'> & { readonly data: { readonly byteLength: number } })[],
): Uint8Array {
  let offset = 0
  const entries = new Map<string, object>()
  for (const { name, shape, data } of tensors) {
    if (entries.has(name))
      throw new LockstepError(`two tensors are named "${name}": give each its own name to save them`)
    if (name === '__metadata__') {
      throw new LockstepError(
        'a tensor is named "__metadata__", which safetensors keeps for itself: rename it',
      )
    }
    const end = offset + data.byteLength
    entries.set(name, { dtype: 'F32', shape, data_offsets: [offset, end] })
    offset = end
  }
  const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)))
  const header = Buffer.alloc(LENGTH_BYTES + Math.ceil(json.length / 8) * 8, ' ')
  header.writeBigUInt64LE(BigInt(header.length - LENGTH_BYTES))
  json.copy(header, LENGTH_BYTES)
  return header
}

/**
 * The header's length, checked against the file's before any memory is taken for it.
 * @throws DamagedError naming `path`.
 */
export function decodeHeaderLength(prefix: Uint8Array, fileBytes: number, path: string): number {
  const length = Buffer.from(prefix).readBigUInt64LE()
  const room = Math.min(MAX_HEADER_BYTES, fileBytes - LENGTH_BYTES)
  if (length <= room) return Number(length)
  throw new DamagedError(
    `${path}: its header claims ${length} bytes, at most ${room} are possible in ${fileBytes}`,
  )
}

/**
 * The tensors in the order of their bytes, which are known to cover the `dataBytes` after the header exactly.
 * @throws DamagedError naming `path` and what is wrong.
 */
export function decodeHeader(header: Uint8Array, dataBytes: number, path: string): TensorEntry[] {
  const fail = (what: string) => new DamagedError(`${path}: ${what}`)
  let parsed: unknown
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(header))
  } catch (cause) {
    throw new DamagedError(`${path}: its header is not JSON (${(cause as Error).message})`, { cause })
  }
  if (!isObject(parsed)) throw fail('its header is not a JSON object')

  const entries = Object.entries(parsed)
    .filter(([name]) => name !== '__metadata__')
    .map(([name, value]) => decodeEntry(name, value, fail))
    .sort((a, b) => a.begin - b.begin || a.end - b.end)
  let covered = 0
  for (const { name, begin, end } of entries) {
    if (begin !== covered) throw fail(`tensor "${name}" starts at byte ${begin}, expected ${covered}`)
    covered = end
  }
  if (covered !== dataBytes)
    throw fail(`it has ${dataBytes} bytes of tensors, its header describes ${covered}`)
  return entries
}

function decodeEntry(name: string, value: unknown, fail: (what: string) => DamagedError): TensorEntry {
  const { dtype, shape, data_offsets: offsets } = isObject(value) ? value : {}
  if (dtype !== 'F32') throw fail(`tensor "${name}" has dtype ${JSON.stringify(dtype)}, expected "F32"`)
  if (!isSizes(shape)) throw fail(`tensor "${name}" has shape ${JSON.stringify(shape)}, expected sizes`)
  if (!isSizes(offsets) || offsets.length !== 2) {
    throw fail(`tensor "${name}" has data_offsets ${JSON.stringify(offsets)}, expected [begin, end]`)
  }
  const [begin, end] = offsets as [number, number]
  const bytes = shape.reduce((product, size) => product * size, Float32Array.BYTES_PER_ELEMENT)
  if (end - begin !== bytes) {
    throw fail(`tensor "${name}" of shape [${shape}] needs ${bytes} bytes, its offsets hold ${end - begin}`)
  }
  return { name, shape, begin, end }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0)
}
