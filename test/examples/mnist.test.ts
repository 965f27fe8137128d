/** The main job as a user runs it: the launcher, real ranks, the example script. Longer runs are in mnist.slow.test.ts. */
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { eventually, isAlive, start } from '../launcher/launch.js'
import { directory, refused, SCRIPT, train } from './mnist-job.js'

test('a run interrupted in mid-epoch and resumed by one rank ends where two uninterrupted ones do', {
  timeout: 180_000,
}, async () => {
  const args = ['--model', 'mlp', '--steps', '12']
  const whole = await train(2, ...args, '--batch', '32')
  const checkpoint = ['--checkpoint', join(directory, 'checkpoints'), '--save-every', '5']
  const seven = ['--model', 'mlp', '--steps', '7']
  expect((await train(2, ...seven, '--batch', '32', ...checkpoint)).steps).toBe(7)
  const resumed = await train(1, ...args, '--batch', '64', ...checkpoint)
  expect(resumed.steps).toBe(whole.steps)
  resumed.losses.forEach((loss, i) => {
    expect(Math.abs(loss / whole.losses[i]! - 1)).toBeLessThan(1e-4)
  })
  // One rank sends nothing.
  expect(whole.bytesSentPerStep).toBeGreaterThan(0)
  expect(resumed.bytesSentPerStep).toBe(0)
})

test('kill -9 of a rank in mid-training ends all within 2 s, naming rank and signal', async () => {
  const ours = (name: string) => /lockstep|ddp/.test(name)
  // Its own: other tests come and go in theirs.
  const temporary = mkdtempSync(join(directory, 'tmp-'))
  const leftovers = () => [...readdirSync('/dev/shm'), ...readdirSync(temporary).filter(ours)].sort()
  const before = leftovers()
  const job = start(['--nproc', '3', SCRIPT, '--model', 'mlp', '--epochs', '1000', '--steps', '1000'], {
    TMPDIR: temporary,
  })
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

test('bad input gets one clear line and exit code 2', async () => {
  await refused(/Unknown option '--modle'/, '--modle', 'cnn')
  const file = join(directory, 'a-file')
  writeFileSync(file, '')
  await refused(/a-file/, '--model', 'mlp', '--steps', '1', '--checkpoint', join(file, 'checkpoints'))
})
