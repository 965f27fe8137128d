/** `ddp-launch consolidate`, as a user runs it, on the shards of two ranks; Python reads the file. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { consolidate } from '../../src/runtime/checkpoint/consolidate.js'
import { readFrom } from '../../src/runtime/checkpoint/files.js'
import { readTensors } from '../../src/runtime/checkpoint/tensors.js'
import { adam } from '../../src/runtime/optimizers/index.js'
import { launch } from '../launcher/launch.js'
import { asRanks, samples, tinyModel } from '../runtime/ranks.js'

const options = { loss: 'softmaxCrossEntropy', optimizer: adam(0.01) } as const
const python = [process.env.LOCKSTEP_PYTHON, 'python3', '/opt/torchenv/bin/python'].find(
  (path) => path && spawnSync(path, ['-c', 'import safetensors.numpy']).status === 0,
)

const directory = mkdtempSync(join(tmpdir(), 'lockstep-consolidate-'))
afterAll(() => rmSync(directory, { recursive: true }))
let checkpoint: string
let weights: Map<string, Float32Array>

beforeAll(async () => {
  const [saved] = await asRanks(2, async (world) => {
    const model = tinyModel()
    const ddp = await world.ddp(model, { ...options, zero: 3 })
    const { x, y } = samples(world.rank * 4, world.rank * 4 + 4)
    await ddp.step(x, y)
    const path = await ddp.save(directory, { epoch: 1 })
    await ddp.gather()
    ddp.updateModel()
    const names = model.weights.map(({ originalName }) => originalName)
    return {
      path,
      values: model.getWeights().map((w, i) => [names[i]!, w.dataSync() as Float32Array] as const),
    }
  })
  checkpoint = saved!.path
  weights = new Map(saved!.values)
})

test('one file of the weights, which Python reads, too', async () => {
  const file = join(directory, 'model.safetensors')
  const { code, stdout, stderr } = await launch(['consolidate', checkpoint, file])
  expect([code, stdout, stderr]).toEqual([0, `${checkpoint} -> ${file}\n`, ''])
  const tensors = await readFrom(file, readTensors)
  expect(new Map(tensors.map(({ name, data }) => [name, data]))).toEqual(weights)
  if (python === undefined) return console.warn('no Python with safetensors: set LOCKSTEP_PYTHON')
  const script = `import sys, json; from safetensors.numpy import load_file
print(json.dumps({name: array.ravel().tolist() for name, array in load_file(sys.argv[1]).items()}))`
  const read = JSON.parse(execFileSync(python, ['-c', script, file], { encoding: 'utf8' }))
  expect(read).toEqual(Object.fromEntries([...weights].map(([name, data]) => [name, [...data]])))
})

test('a checkpoint of whole tensors, which any ranks load as they load the shards', async () => {
  const out = join(directory, 'whole')
  expect(await consolidate(directory, out)).toEqual({ from: checkpoint, to: join(out, 'step-00000001') })
  const after = async (from: string) =>
    asRanks(1, async (world) => {
      const ddp = await world.ddp(tinyModel({ seed: 2 }), options)
      return [await ddp.load(from), ddp.stepCount, (await ddp.evaluate([samples(0, 8)])).loss]
    })
  expect(await after(out)).toEqual(await after(directory))
})

test('what cannot be is one line and exit code 2', async () => {
  await expect(consolidate(join(directory, 'none'), 'out.safetensors')).rejects.toThrow(
    /^cannot consolidate .*none: there is no checkpoint; give a checkpoint/,
  )
  truncateSync(join(checkpoint, 'shard-00001-of-00002.safetensors'), 50)
  const { code, stderr } = await launch(['consolidate', checkpoint, join(directory, 'damaged.safetensors')])
  expect(code).toBe(2)
  expect(stderr).toMatch(
    /^ddp-launch: cannot consolidate .* is damaged \(.*shard-00001-of-00002.safetensors has SHA.*\n$/,
  )
  expect(readdirSync(directory).filter((name) => name.startsWith('damaged'))).toEqual([])
})
