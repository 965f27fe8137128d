/** The Python of docs/checkpoint-format.md, run on a checkpoint of ours; its PyTorch twin predicts what we do. */
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { layers, sequential } from '@tensorflow/tfjs-layers'
import { describe, expect, test } from 'vitest'
import { adam } from '../../../src/runtime/optimizers/index.js'
import { asRanks } from '../ranks.js'
import { temporaryFolder } from './temporary.js'

const docs = readFileSync(new URL('../../../docs/checkpoint-format.md', import.meta.url), 'utf8')
const [reader, loader] = [...docs.matchAll(/```python\n([\s\S]*?)```/g)].map(([, code]) => code!)

const python = [process.env.LOCKSTEP_PYTHON, 'python3', '/opt/torchenv/bin/python'].find(
  (path) => path && spawnSync(path, ['-c', 'import safetensors.numpy, torch']).status === 0,
)

const TWIN = `
class Twin(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 3, 3)
        self.scores = torch.nn.Linear(3 * 4 * 4, 5)

    def forward(self, x):
        x = torch.relu(self.conv(x.permute(0, 3, 1, 2)))
        return self.scores(x.permute(0, 2, 3, 1).flatten(1))

twin = Twin()
`

const SHAPE = [2, 6, 6, 2]
const input = Float32Array.from({ length: 144 }, (_, i) => Math.sin(i))

/** Two steps of a small convolutional network: its checkpoint, and what it predicts. */
async function trained(directory: string) {
  const [result] = await asRanks(1, async (world) => {
    const model = sequential({
      layers: [
        layers.conv2d({ inputShape: [6, 6, 2], filters: 3, kernelSize: 3, activation: 'relu', name: 'conv' }),
        layers.flatten(),
        layers.dense({ units: 5, name: 'scores' }),
      ],
    })
    const ddp = await world.ddp(model, { loss: 'softmaxCrossEntropy', optimizer: adam(0.01) })
    const x = { data: input, shape: SHAPE }
    for (const labels of [
      [1, 2],
      [3, 4],
    ])
      await ddp.step(x, { data: Int32Array.from(labels), shape: [2] })
    const path = await ddp.save(directory)
    return { path, predictions: [...(await ddp.predict(x)).data] }
  })
  return result!
}

function run(path: string, ...code: string[]): string {
  const script = code.join('\n').replace('checkpoints/step-00000150', 'checkpoints/step-00000002')
  const cwd = dirname(dirname(path))
  return execFileSync(python!, ['-c', script], { cwd, encoding: 'utf8' })
}

describe.skipIf(!python)(
  `Python reads checkpoints${python ? '' : ' (none with safetensors and torch)'}`,
  () => {
    test('names, shapes and step', async () => {
      const { path } = await trained(join(await temporaryFolder(), 'checkpoints'))
      expect(run(path, reader!, 'print(sorted(optimizer))')).toBe(
        "2 {'conv/kernel': (3, 3, 2, 3), 'conv/bias': (3,), 'scores/kernel': (48, 5), 'scores/bias': (5,)}\n" +
          "['m/conv/bias', 'm/conv/kernel', 'm/scores/bias', 'm/scores/kernel', " +
          "'v/conv/bias', 'v/conv/kernel', 'v/scores/bias', 'v/scores/kernel']\n",
      )
    })

    test('a PyTorch twin with these weights predicts the same', async () => {
      const { path, predictions } = await trained(join(await temporaryFolder(), 'checkpoints'))
      const [imports, ...rest] = loader!.split('\n')
      const predict =
        `x = torch.tensor(${JSON.stringify([...input])}).reshape(${JSON.stringify(SHAPE)})\n` +
        'print(json.dumps(twin(x).flatten().tolist()))'
      const lines = run(path, reader!, imports!, TWIN, ...rest, predict)
        .trim()
        .split('\n')
      const theirs: number[] = JSON.parse(lines.at(-1)!)
      expect(theirs).toHaveLength(10)
      theirs.forEach((value, i) => {
        expect(Math.abs(value - predictions[i]!)).toBeLessThan(1e-5)
      })
    })
  },
)
