/** Every example as a user runs it, but for a few steps: it learns, its ranks agree, and what is wrong is one line. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readCifar } from '../../examples/cifar/images.js'
import { compiled } from '../compiled.js'
import { launch } from '../launcher/launch.js'

const script = (name: string) => fileURLToPath(new URL(`../../examples/${name}/train.ts`, import.meta.url))
const SAYS_ITS_HASH = pathToFileURL(compiled('test/examples/says-its-hash.ts')).href

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'))
})
afterAll(() => rmSync(directory, { recursive: true }))

interface Result {
  readonly losses: number[]
  readonly [name: string]: unknown
}

/** Two ranks of an example; all of them end with the same parameters. */
async function run(name: string, ...args: string[]): Promise<Result> {
  const json = join(directory, `${name}.json`)
  const { code, stdout, stderr } = await launch(['--nproc', '2', script(name), ...args, '--json', json], {
    NODE_OPTIONS: `--import ${SAYS_ITS_HASH}`,
  })
  expect(code, stdout + stderr).toBe(0)
  const hashes = [...stdout.matchAll(/^\[(\d)\] parameters (\w{64})$/gm)]
  for (const rank of ['0', '1']) {
    const own = hashes.filter(([, of]) => of === rank).map(([, , hash]) => hash)
    expect(own.length).toBeGreaterThan(0)
    expect(own).toEqual(hashes.filter(([, of]) => of === '0').map(([, , hash]) => hash))
  }
  return JSON.parse(readFileSync(json, 'utf8')) as Result
}

const mean = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b) / numbers.length

/** The mean of the last five losses as a share of the first. */
const left = (losses: readonly number[]) => mean(losses.slice(-5)) / losses[0]!

describe('two ranks of an example learn, and agree', () => {
  test('sentiment', async () => {
    const { losses, testAccuracy } = await run('sentiment', '--steps', '80')
    expect(losses).toHaveLength(80)
    expect(left(losses)).toBeLessThan(0.1)
    expect(testAccuracy).toBeGreaterThan(0.95)
  })

  test('autoencoder, and the image it writes', async () => {
    const image = join(directory, 'digits.pgm')
    const { losses, testLoss } = await run('autoencoder', '--steps', '25', '--batch', '16', '--image', image)
    expect(left(losses)).toBeLessThan(0.7)
    expect(testLoss).toBeLessThan(0.7 * losses[0]!)
    const header = 'P5 224 56 255\n'
    const bytes = readFileSync(image)
    expect(bytes.subarray(0, header.length).toString()).toBe(header)
    expect(bytes).toHaveLength(header.length + 224 * 56)
  })

  test('transfer: both parts learn', async () => {
    const result = await run('transfer', '--steps', '25', '--batch', '16', '--examples', '400')
    expect(left(result.firstLosses as number[])).toBeLessThan(0.6)
    expect(left(result.losses)).toBeLessThan(0.6)
    expect(result.testAccuracy).toBeGreaterThan(0.6)
  })

  test('housing, from a file too', async () => {
    const { losses, testError } = await run('housing', '--steps', '150')
    expect(left(losses)).toBeLessThan(0.1)
    expect(testError).toBeLessThan(80)

    const data = join(directory, 'plane.csv')
    const rows = Array.from({ length: 200 }, (_, i) => [i % 17, i % 5, 3 * (i % 17) - 2 * (i % 5)].join())
    writeFileSync(data, ['a,b,target', ...rows].join('\n'))
    expect((await run('housing', '--data', data, '--batch', '15', '--epochs', '30')).testError).toBeLessThan(
      2,
    )
  })

  test('gpt, by whichever number of micro-batches', async () => {
    const small = '--layers 1 --width 16 --heads 2 --context 16 --batch 32 --steps 60'.split(' ')
    const whole = await run('gpt', ...small)
    expect(left(whole.losses)).toBeLessThan(0.9)
    expect(whole).toMatchObject({
      worldSize: 2,
      dp: 2,
      pp: 1,
      tp: 1,
      zero: 0,
      schedule: '1f1b',
      bubbleFraction: 0,
    })
    // Parameters, gradients and two moments; 64 bytes of loss and sample count.
    const parameters = 2 * 58 * 16 + 16 * 16 + 12 * 16 ** 2 + 13 * 16 + 2 * 16
    expect(whole.stateBytesPerRank).toBe(16 * parameters + 64)
    expect(whole.tokensPerSecond).toBeGreaterThan(0)
    const { losses } = await run('gpt', ...small, '--micro-batches', '4')
    losses.forEach((loss, i) => {
      expect(Math.abs(loss / whole.losses[i]! - 1)).toBeLessThan(1e-4)
    })

    const json = join(directory, 'tensor-parallel.json')
    const { code, stderr } = await launch([
      '--nproc',
      '2',
      script('gpt'),
      ...small,
      '--tp',
      '2',
      '--json',
      json,
    ])
    expect(code, stderr).toBe(0)
    const shared = JSON.parse(readFileSync(json, 'utf8')) as Result
    expect(shared).toMatchObject({ worldSize: 2, dp: 1, tp: 2 })
    expect(shared.stateBytesPerRank).toBeLessThan(whole.stateBytesPerRank as number)
    shared.losses.forEach((loss, i) => {
      expect(Math.abs(loss / whole.losses[i]! - 1)).toBeLessThan(1e-4)
    })
  })

  test('cifar', async () => {
    const { losses } = await run('cifar', '--steps', '30', '--batch', '16')
    expect(left(losses)).toBeLessThan(0.8)
  })

  test('word2vec', async () => {
    const { losses, sameKind } = await run('word2vec', '--epochs', '2')
    expect(left(losses)).toBeLessThan(0.7)
    expect(sameKind).toBeGreaterThan(0.8)
  })
})

test("CIFAR-10's files are read, their planes as pixels", async () => {
  const record = (label: number) =>
    Uint8Array.from({ length: 3073 }, (_, i) => (i === 0 ? label : (i - 1) % 251))
  writeFileSync(join(directory, 'test_batch.bin'), Buffer.concat([record(3), record(7)]))
  const test = await readCifar(directory, 'test')
  const { x, y } = await test.batch([1, 0])
  expect([...y.data]).toEqual([7, 3])
  expect(x.shape).toEqual([2, 32, 32, 3])
  expect([...x.data.slice(3, 6)]).toEqual([1, 1025 % 251, 2049 % 251])

  writeFileSync(join(directory, 'test_batch.bin'), record(3).subarray(1))
  await expect(readCifar(directory, 'test')).rejects.toThrow(
    /test_batch.bin has 3072 bytes: expected a multiple of 3073/,
  )
  await expect(readCifar(directory, 'train')).rejects.toThrow(/data_batch_1.bin: cannot be read/)
})

describe('what is wrong is one line, exit code 2', () => {
  test.each<[string, string[], RegExp]>([
    [
      'gpt',
      ['--tp', '2'],
      /world size \(1\) != dp \(1\) \* pp \(1\) \* tp \(2\): change ddp-launch's --nproc/,
    ],
    ['gpt', ['--width', '30'], /--width is 30: expected a multiple of --heads \(4\)/],
    ['gpt', ['--batch', '6', '--micro-batches', '4'], /--batch is 6: expected a multiple of 4/],
    ['gpt', ['--text', '/nowhere'], /--text \/nowhere: cannot be read/],
    ['housing', ['--data', 'package.json'], /package.json, line 2: .*expected 1 numbers/],
  ])('%s %j', async (name, args, message) => {
    const { code, stderr } = await launch(['--nproc', '1', script(name), ...args])
    expect(stderr).toMatch(message)
    expect(stderr).not.toMatch(/^\s+at /m)
    expect(code).toBe(2)
  })
})
