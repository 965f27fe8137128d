/** ResNet-18 in two stages, as a user runs it: what one rank computes of the same micro-batches. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test } from 'vitest'
import { launch } from '../launcher/launch.js'

const SCRIPT = fileURLToPath(new URL('../../examples/pipeline-resnet/train.ts', import.meta.url))
const directory = mkdtempSync(join(tmpdir(), 'lockstep-resnet-'))
afterAll(() => rmSync(directory, { recursive: true }))

async function run(nproc: number, ...args: string[]) {
  const json = join(directory, 'result.json')
  const { code, stdout, stderr } = await launch(['--nproc', String(nproc), SCRIPT, ...args, '--json', json])
  expect(code, stdout + stderr).toBe(0)
  return { ...(JSON.parse(readFileSync(json, 'utf8')) as { losses: number[] }), stdout }
}

test('30 steps on one rank and on two: losses within 1e-4', { timeout: 600_000 }, async () => {
  const args = ['--steps', '30', '--batch', '8', '--micro-batches', '2', '--lr', '0.002']
  const one = await run(1, ...args)
  const two = await run(2, ...args)
  expect(one.losses).toHaveLength(30)
  two.losses.forEach((loss, i) => {
    expect(Math.abs(loss - one.losses[i]!)).toBeLessThan(1e-4)
  })
  expect(two.stdout).toMatch(/^\[0\] pad0 to (relu\d+_1): [\d.]+ MiB of state$/m)
})

test('a cut beside a skip connection is one line that names the nearest place', async () => {
  const { code, stderr } = await launch(['--nproc', '2', SCRIPT, '--cuts', 'norm3'])
  expect(code).toBe(2)
  expect(stderr).toMatch(
    /the model cannot be cut after layer norm3: expected one float tensor to cross there, and it is 2 .*; the nearest such place is after \S+/,
  )
})
