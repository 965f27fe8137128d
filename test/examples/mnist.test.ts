/** The main job as a user runs it: the launcher, real ranks, the example script. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually, isAlive, launch, start } from '../launcher/launch.js'

const SCRIPT = fileURLToPath(new URL('../../examples/mnist/train.ts', import.meta.url))
const MNIST = fileURLToPath(new URL('../../../shared/data/mnist', import.meta.url))

interface Result {
  readonly worldSize: number
  readonly steps: number
  readonly losses: number[]
  readonly testAccuracy: number
  readonly bytesSentPerStep: number
  readonly paramsSha256: string
}

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'))
})
afterAll(() => rmSync(directory, { recursive: true }))

let runs = 0

async function train(nproc: number, ...args: string[]): Promise<Result> {
  const json = join(directory, `${runs++}.json`)
  const { code, stdout, stderr } = await launch(['--nproc', String(nproc), SCRIPT, ...args, '--json', json])
  expect(code, stdout + stderr).toBe(0)
  return JSON.parse(readFileSync(json, 'utf8')) as Result
}

/** Exit code 2 and one line on stderr, apart from the launcher's report of which ranks ended with it. */
async function refused(message: RegExp, ...args: string[]): Promise<void> {
  const { code, stderr } = await launch(['--nproc', '2', SCRIPT, ...args])
  expect(stderr).toMatch(message)
  expect(stderr).not.toMatch(/^\s+at /m)
  expect(code).toBe(2)
}

describe('the same training at any world size', () => {
  test.each(process.env.SLOW ? ['mlp', 'cnn'] : ['mlp'])(
    '%s: 1 × 64, 2 × 32 and 4 × 16 follow one loss curve',
    async (model) => {
      const steps = model === 'mlp' ? '50' : '12'
      const run = (nproc: number) =>
        train(nproc, '--model', model, '--steps', steps, '--batch', String(64 / nproc))
      const [alone, two, four] = [await run(1), await run(2), await run(4)]
      for (const other of [two, four]) {
        expect(other.losses).toHaveLength(Number(steps))
        other.losses.forEach((loss, i) => {
          expect(Math.abs(loss / alone.losses[i]! - 1)).toBeLessThan(1e-4)
        })
      }
      expect(alone.bytesSentPerStep).toBe(0)
      // A ring sends 2 (W - 1) / W of the gradients per rank and step.
      expect(four.bytesSentPerStep / two.bytesSentPerStep).toBeCloseTo(1.5, 2)
    },
  )
})

test('two runs with one seed end in the same parameters, another seed in others', async () => {
  const run = (seed: string) => train(2, '--model', 'mlp', '--steps', '6', '--seed', seed)
  const [first, again, other] = [await run('3'), await run('3'), await run('4')]
  expect(again.paramsSha256).toBe(first.paramsSha256)
  expect(again.losses).toEqual(first.losses)
  expect(other.paramsSha256).not.toBe(first.paramsSha256)
})

test('a run interrupted in mid-epoch and resumed ends where the uninterrupted one does', async () => {
  const args = ['--model', 'mlp', '--batch', '500', '--epochs', '2']
  const whole = await train(2, ...args)
  const checkpoint = ['--checkpoint', join(directory, 'checkpoints'), '--save-every', '5']
  expect((await train(2, ...args, ...checkpoint, '--steps', '7')).steps).toBe(7)
  const resumed = await train(2, ...args, ...checkpoint)
  expect(resumed.steps).toBe(whole.steps)
  expect(resumed.paramsSha256).toBe(whole.paramsSha256)
  expect(resumed.losses).toEqual(whole.losses)
  expect(resumed.testAccuracy).toBe(whole.testAccuracy)
})

test.skipIf(!existsSync(MNIST))('real MNIST: an MLP learns it', async () => {
  const { testAccuracy } = await train(2, '--data', MNIST, '--model', 'mlp', '--epochs', '2')
  expect(testAccuracy).toBeGreaterThan(0.93)
})

test('kill -9 of a rank in mid-training ends all within 2 s, naming rank and signal', async () => {
  const ours = (name: string) => /lockstep|ddp/.test(name)
  const leftovers = () => [...readdirSync('/dev/shm'), ...readdirSync(tmpdir()).filter(ours)].sort()
  const before = leftovers()
  const job = start(['--nproc', '3', SCRIPT, '--model', 'mlp', '--epochs', '1000'])
  await eventually(() => /step\s+\d+\/.*\d samples\/s/.test(job.output.stdout), 30_000)
  const ranks = readdirSync('/proc').filter((pid) => isRankOf(pid, job.child.pid!))
  expect(ranks).toHaveLength(3)
  const victim = ranks.find((pid) => readFileSync(`/proc/${pid}/environ`, 'utf8').includes('\0RANK=1\0'))!
  const killed = performance.now()
  process.kill(Number(victim), 'SIGKILL')
  const { code, stderr } = await job.done
  expect(performance.now() - killed).toBeLessThan(2000)
  expect(code).toBe(137)
  expect(stderr.trimEnd().split('\n').slice(-8).join('\n')).toMatch(/rank 1.*SIGKILL/)
  for (const pid of ranks) expect(isAlive(Number(pid))).toBe(false)
  expect(leftovers()).toEqual(before)
})

function isRankOf(pid: string, launcher: number): boolean {
  try {
    const parent = /^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
    return Number(parent) === launcher && /\0RANK=/.test(readFileSync(`/proc/${pid}/environ`, 'utf8'))
  } catch {
    return false
  }
}

describe('bad input gets one clear line and exit code 2', () => {
  test('flags', async () => {
    await refused(/Unknown option '--modle'/, '--modle', 'cnn')
    await refused(/--batch is "0": expected a whole number of at least 1/, '--batch', '0')
    await refused(
      /compression "gzip": no compressor is called "gzip"; expected none, float16/,
      '--compression',
      'gzip',
    )
  })

  test('data: none there, and a batch larger than the shard', async () => {
    await refused(/train-images-idx3-ubyte/, '--data', join(directory, 'nowhere'))
    await refused(/batch.*7000.*6000/i, '--batch', '7000')
  })

  test('a checkpoint directory that cannot be written', async () => {
    const file = join(directory, 'a-file')
    writeFileSync(file, '')
    await refused(/a-file/, '--model', 'mlp', '--steps', '1', '--checkpoint', join(file, 'checkpoints'))
  })

  test('a loss that is not finite', async () => {
    await refused(
      /loss of step \d+ is not finite on rank/,
      '--model',
      'mlp',
      '--optimizer',
      'sgd',
      '--lr',
      '1e30',
      '--steps',
      '9',
    )
  })
})
