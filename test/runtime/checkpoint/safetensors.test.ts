/** Our safetensors against the format's own Python package, and against every kind of damage. */
import { execFileSync, spawnSync } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Arena } from '../../../src/collectives/kernels/arena.js'
import { LockstepError } from '../../../src/errors.js'
import { readFrom, writeDurably } from '../../../src/runtime/checkpoint/files.js'
import type { NamedTensor } from '../../../src/runtime/checkpoint/safetensors.js'
import { readTensors, tensorPieces } from '../../../src/runtime/checkpoint/tensors.js'
import { temporaryFolder } from './temporary.js'

const golden = fileURLToPath(new URL('golden/reference.safetensors', import.meta.url))
const python = ['python3', '/opt/torchenv/bin/python'].find(
  (path) => spawnSync(path, ['-c', 'import safetensors.numpy']).status === 0,
)

function numbers(name: string, ...shape: number[]): NamedTensor {
  const size = shape.reduce((a, b) => a * b, 1)
  return { name, shape, data: Float32Array.from({ length: size }, (_, i) => i / 4 - 3) }
}

const write = (path: string, tensors: readonly NamedTensor[]) => writeDurably(path, tensorPieces(tensors))
const read = (path: string) => readFrom(path, readTensors)

const tensors = [
  numbers('dense/kernel', 3, 5),
  numbers('dense/bias', 5),
  numbers('scalar'),
  numbers('empty', 0, 7),
  numbers('conv/kernel é', 2, 2, 1, 3),
]

describe('safetensors', () => {
  test('reads what the Python package wrote', async () => {
    const found = await read(golden)
    const byName = (a: NamedTensor, b: NamedTensor) => (a.name < b.name ? -1 : 1)
    expect([...found].sort(byName)).toEqual([...tensors].sort(byName))
  })

  test.skipIf(!python)('the Python package reads what we wrote', async () => {
    const path = join(await temporaryFolder(), 'ours.safetensors')
    await write(path, tensors)
    const script =
      'import json, sys; from safetensors.numpy import load_file; ' +
      'print(json.dumps({k: [str(v.dtype), v.shape, v.flatten().tolist()] for k, v in load_file(sys.argv[1]).items()}))'
    const found = JSON.parse(execFileSync(python!, ['-c', script, path], { encoding: 'utf8' }))
    expect(found).toEqual(
      Object.fromEntries(tensors.map(({ name, shape, data }) => [name, ['float32', shape, [...data]]])),
    )
  })

  test('writes back what it reads, bit by bit, out of an arena too', async () => {
    const path = join(await temporaryFolder(), 'a.safetensors')
    const arena = new Arena(100_000)
    const data = arena.alloc(20_011)
    new Uint32Array(data.buffer, data.byteOffset, data.length).forEach((_, i, bits) => {
      bits[i] = Math.imul(i, 2_654_435_761) // NaN payloads, denormals and all
    })
    await write(path, [{ name: 'w', shape: [20_011], data }])
    expect(new Uint32Array((await read(path))[0]!.data.buffer)).toEqual(new Uint32Array(data.slice().buffer))
  })

  test('the data starts at a multiple of 8 bytes, whatever the names', async () => {
    const folder = await temporaryFolder()
    for (const name of ['', 'a', 'ab', 'abc', 'abcd', 'ébcdefg']) {
      const path = join(folder, `${name}.safetensors`)
      await write(path, [numbers(name, 2)])
      const bytes = await readFile(path)
      expect(Number(bytes.readBigUInt64LE()) % 8).toBe(0)
      expect(bytes.at(8)).toBe('{'.charCodeAt(0))
      expect((await read(path))[0]!.name).toBe(name)
    }
  })

  test('no tensor at all is a file too', async () => {
    const path = join(await temporaryFolder(), 'none.safetensors')
    await write(path, [])
    expect(await read(path)).toEqual([])
  })

  test.each([
    [[numbers('a', 1), numbers('a', 2)], 'two tensors are named "a"'],
    [[numbers('__metadata__', 1)], 'a tensor is named "__metadata__"'],
  ])('refuses names that the format cannot hold', async (given, message) => {
    const path = join(await temporaryFolder(), 'a.safetensors')
    await expect(async () => write(path, given)).rejects.toThrow(message)
  })
})

describe('a damaged file', () => {
  const entry = (dtype: unknown, shape: unknown, offsets: unknown) => ({
    dtype,
    shape,
    data_offsets: offsets,
  })
  const good = entry('F32', [2], [0, 8])

  test.each<[string, unknown, string]>([
    ['an unknown dtype', { a: entry('BF16', [2], [0, 8]) }, 'tensor "a" has dtype "BF16", expected "F32"'],
    ['no dtype', { a: {} }, 'tensor "a" has dtype undefined, expected "F32"'],
    ['a tensor that is a number', { a: 1 }, 'tensor "a" has dtype undefined'],
    ['a negative size', { a: entry('F32', [-2], [0, 8]) }, 'tensor "a" has shape [-2]'],
    ['a huge size', { a: entry('F32', [2 ** 53], [0, 8]) }, 'tensor "a" has shape [9007199254740992]'],
    ['sizes whose product overflows', { a: entry('F32', [2 ** 50, 2 ** 50], [0, 8]) }, 'needs 5.07'],
    ['a shape that is a word', { a: entry('F32', 'x', [0, 8]) }, 'tensor "a" has shape "x"'],
    ['one offset', { a: entry('F32', [2], [0]) }, 'tensor "a" has data_offsets [0], expected [begin, end]'],
    ['offsets in reverse', { a: entry('F32', [2], [8, 0]) }, 'needs 8 bytes, its offsets hold -8'],
    [
      'a tensor beyond the end',
      { a: entry('F32', [4], [0, 16]) },
      'it has 8 bytes of tensors, its header describes 16',
    ],
    ['a gap', { a: entry('F32', [1], [4, 8]) }, 'tensor "a" starts at byte 4, expected 0'],
    ['an overlap', { a: good, b: entry('F32', [1], [4, 8]) }, 'tensor "b" starts at byte 4, expected 8'],
    ['bytes of no tensor', {}, 'it has 8 bytes of tensors, its header describes 0'],
    ['a list for a header', [], 'its header is not a JSON object'],
    ['a word for a header', 'no', 'its header is not a JSON object'],
  ])('%s', async (_, header, message) => {
    const path = join(await temporaryFolder(), 'a.safetensors')
    await writeFile(path, withHeader(Buffer.from(JSON.stringify(header)), 8))
    await expect(read(path)).rejects.toThrow(new RegExp(`^${literally(`${path}: `)}.*${literally(message)}`))
  })

  test.each([
    ['empty', Buffer.alloc(0), 'it has 0 bytes, a header takes at least 8'],
    ['shorter than a length', Buffer.alloc(7), 'it has 7 bytes'],
    [
      'a length beyond the end',
      Buffer.alloc(64, 255),
      'claims 18446744073709551615 bytes, at most 56 are possible in 64',
    ],
    ['no JSON', withHeader(Buffer.from('{"a":'), 8), 'its header is not JSON'],
    ['no UTF-8', withHeader(Buffer.from([0x22, 0xff, 0x22]), 8), 'its header is not JSON'],
  ])('%s', async (_, bytes, message) => {
    const path = join(await temporaryFolder(), 'a.safetensors')
    await writeFile(path, bytes)
    await expect(read(path)).rejects.toThrow(message)
    await expect(read(path)).rejects.toThrow(LockstepError)
  })

  test('cut or changed anywhere, it reads as the same shapes or fails with a LockstepError', async () => {
    const path = join(await temporaryFolder(), 'a.safetensors')
    const bytes = await readFile(golden)
    const damage = fc.record({
      keep: fc.oneof(fc.constant(bytes.length), fc.nat(bytes.length)),
      changes: fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { maxLength: 4 }),
    })
    await fc.assert(
      fc.asyncProperty(damage, async ({ keep, changes }) => {
        const damaged = Buffer.from(bytes)
        for (const [at, value] of changes) damaged[at] = value
        await writeFile(path, damaged.subarray(0, keep))
        try {
          for (const { shape, data } of await read(path))
            expect(data.length).toBe(shape.reduce((a, b) => a * b, 1))
        } catch (error) {
          expect(error).toBeInstanceOf(LockstepError)
          expect((error as Error).message).toContain(path)
        }
      }),
      { numRuns: 500 },
    )
  })
})

function withHeader(json: Buffer, dataBytes: number): Buffer {
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  return Buffer.concat([length, json, Buffer.alloc(dataBytes)])
}

function literally(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}
