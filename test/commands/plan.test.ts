/** `ddp-launch plan`, as a user runs it. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { loadSubject } from '../../src/runtime/planner/subject.js'
import { fixture, launch } from '../launcher/launch.js'

// Beside other users' scripts, where 'lockstep' is known.
const directory = mkdtempSync(fixture('plan-'))
afterAll(() => rmSync(directory, { recursive: true }))
const file = (name: string, text: string) => {
  const path = join(directory, name)
  writeFileSync(path, text)
  return path
}

const MODEL = `
import { adam, mlp } from 'lockstep'
export default () => ({
  model: mlp(),
  loss: 'softmaxCrossEntropy',
  optimizer: adam(1e-3),
  x: { data: new Float32Array(784), shape: [1, 28, 28, 1] },
  y: { data: new Int32Array(1), shape: [1] },
})`

test('a table, a recommendation, and all figures as JSON', async () => {
  const json = join(directory, 'plan.json')
  const args = ['--ranks', '2', '--memory', '8GiB', '--batch', '64', '--json', json]
  const { code, stdout, stderr } = await launch(['plan', file('model.ts', MODEL), ...args])
  expect([code, stderr]).toEqual([0, ''])
  expect(stdout).toMatch(/^dp 2, zero 3 +yes +[\d.]+MiB/m)
  expect(stdout).toContain('recommended: dp 2\n  world.ddp(model, { loss, optimizer })\n')
  const plan = JSON.parse(readFileSync(json, 'utf8'))
  expect(plan).toMatchObject({ ranks: 2, batch: 64, limit: 8 * 2 ** 30, recommended: { dp: 2, zero: 0 } })
  expect(Object.keys(plan.recommended.memory)).toEqual([
    'parameters',
    'gradients',
    'optimizer',
    'activations',
    'model',
    'total',
  ])
})

test('of the models that come with the package each has its plan', async () => {
  const model = MODEL.replace('mlp }', 'cnn, CNN_PLAN }').replace('mlp()', 'cnn(), plan: CNN_PLAN')
  const { stdout, stderr } = await launch([
    ...['plan', file('cnn.ts', model), '--ranks', '2', '--memory', '8GiB', '--batch', '8'],
  ])
  expect(stderr).toBe('')
  expect(stdout).toMatch(/^tp 2 +yes +[\d.]+MiB/m)
})

test('what is wrong is one line and exit code 2', async () => {
  await expect(loadSubject(file('none.ts', 'export const model = 1'))).rejects.toThrow(
    /^plan: .*none.ts has no function as its default export: expected export default/,
  )
  await expect(loadSubject(file('half.ts', 'export default () => ({ x: 1 })'))).rejects.toThrow(
    /half.ts returns no model, no y: expected/,
  )
  const { code, stderr } = await launch(['plan', file('model.ts', MODEL), '--ranks', '2', '--memory', 'lots'])
  expect(stderr).toBe(
    'ddp-launch: plan: --memory is "lots": expected a size as 512MiB or 8GiB (see --help)\n',
  )
  expect(code).toBe(2)
})
