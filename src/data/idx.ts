/**
 * Reads MNIST's files (IDX, http://yann.lecun.com/exdb/mnist): unsigned bytes, gzipped or not. Trusts no header:
 * what it promises is compared with what is there, before anything is made of it. Fetches nothing.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import { LockstepError } from '../errors.js'
import { ImageDataset } from './image-dataset.js'

const UNSIGNED_BYTE = 0x08
const PREFIX = { train: 'train', test: 't10k' } as const
const DOWNLOAD_AGAIN = 'download the file again'

/** A view of the numbers in an IDX file, row-major. */
export interface IdxArray {
  readonly data: Uint8Array
  readonly shape: readonly number[]
}

/**
 * Reads `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, or `t10k-…` for 'test', from `dir`, each as it is
 * or with `.gz`; the plain one wins. Batches: x float32 [B, rows, columns, 1] from 0 to 1, y int32 [B].
 *
 * @throws LockstepError for a file that is missing, unreadable, damaged, or does not belong to the other one.
 */
export async function readIdx(dir: string, part: 'train' | 'test'): Promise<ImageDataset> {
  if (!Object.hasOwn(PREFIX, part))
    throw new LockstepError(`readIdx: part is '${part}', expected 'train' or 'test'; pass one of them`)
  // One after the other, so that every rank of a job complains about the same file.
  const images = await readArray(dir, `${PREFIX[part]}-images-idx3-ubyte`, 3)
  const labels = await readArray(dir, `${PREFIX[part]}-labels-idx1-ubyte`, 1)
  const [count, rows, columns] = images.shape as [number, number, number]
  if (labels.data.length !== count)
    throw new LockstepError(
      `${images.path} holds ${count} images but ${labels.path} holds ${labels.data.length} labels, expected as ` +
        'many of both; put the two files of one data set there',
    )
  return new ImageDataset(images.data, labels.data, [rows, columns, 1])
}

/**
 * Parses an IDX file of unsigned bytes with `dimensions` dimensions. The result is a view of `bytes`.
 *
 * @throws LockstepError, naming `path`, unless header and length of the file agree.
 */
export function parseIdx(bytes: Uint8Array, path: string, dimensions: number): IdxArray {
  const refuse = (given: string, expected: string, advice = DOWNLOAD_AGAIN) => {
    throw new LockstepError(`${path}: ${given}, expected ${expected}; ${advice}`)
  }
  const headerBytes = 4 + 4 * dimensions
  if (bytes.length < headerBytes)
    refuse(`file is truncated: it has ${bytes.length} bytes`, `an IDX header of ${headerBytes}`)

  const header = new DataView(bytes.buffer, bytes.byteOffset, headerBytes)
  const magic = (UNSIGNED_BYTE << 8) | dimensions
  if (header.getUint32(0) !== magic)
    refuse(
      `magic number is ${hex(header.getUint32(0))}`,
      `${hex(magic)}`,
      'put an IDX file of that kind there',
    )

  const shape = Array.from({ length: dimensions }, (_, d) => header.getUint32(4 + 4 * d))
  if (shape.includes(0)) refuse(`header says ${shape.join(' × ')}, which is no items`, 'at least one')

  const expected = shape.reduce((product, n) => product * n)
  const given = bytes.length - headerBytes
  if (given !== expected)
    refuse(
      `${given < expected ? 'file is truncated' : 'file is too long'}: ${given} bytes follow its header`,
      `${expected} (${shape.join(' × ')})`,
    )
  return { data: bytes.subarray(headerBytes), shape }
}

async function readArray(
  dir: string,
  name: string,
  dimensions: number,
): Promise<IdxArray & { path: string }> {
  const found = (await readIfThere(join(dir, name))) ?? (await readIfThere(join(dir, `${name}.gz`)))
  if (!found)
    throw new LockstepError(
      `${join(dir, name)}: no such file, nor with .gz; expected one of the two; ` +
        "pass the directory that holds MNIST's IDX files",
    )
  const { path, bytes } = found
  // Told by content, not by name: browsers unpack some downloads and keep the .gz. IDX starts with two zeros.
  const packed = bytes[0] === 0x1f && bytes[1] === 0x8b
  return { ...parseIdx(packed ? await unpack(bytes, path) : bytes, path, dimensions), path }
}

async function readIfThere(path: string): Promise<{ path: string; bytes: Uint8Array } | undefined> {
  try {
    return { path, bytes: await readFile(path) }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return undefined
    throw new LockstepError(
      `${path}: cannot be read (${message}), expected a readable file; check its permissions`,
      {
        cause: error,
      },
    )
  }
}

async function unpack(bytes: Uint8Array, path: string): Promise<Uint8Array> {
  try {
    return await promisify(gunzip)(bytes)
  } catch (error) {
    throw new LockstepError(
      `${path}: cannot be unpacked (${(error as Error).message}), expected gzip; ${DOWNLOAD_AGAIN}`,
      { cause: error },
    )
  }
}

function hex(magic: number): string {
  return `0x${magic.toString(16).padStart(8, '0')}`
}
