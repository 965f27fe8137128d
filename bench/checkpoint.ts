/**
 * How long does saving a checkpoint hold up training, and how long until it is safe?
 *
 *   npx tsx bench/checkpoint.ts [--rounds 7] [--dir DIR] [--json] [--save]
 *
 * ResNet-18 with Adam: 11.2 M parameters and two states of each, 134 MB, on one rank. `blocked` is what `await
 * ddp.save()` takes; `durable` until everything is flushed to the disk. PyTorch's torch.distributed.checkpoint writes
 * tensors of the same sizes beside it, on each Python of PYTHONS that has torch 2 (it flushes too, and takes no
 * checksums). Of two saves in a row the second counts on both sides: the first makes the memory for the copy.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { adam, init, resnet18 } from '../src/index.js'
import { pythons, torchVersion } from './peers.js'
import { circumstances, median, rounded, saveResult } from './record.js'

interface Times {
  readonly blocked: number
  readonly durable: number
}

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    dir: { type: 'string', default: tmpdir() },
    json: { type: 'boolean', default: false },
    save: { type: 'boolean', default: false },
  },
})
const rounds = Number(values.rounds)
const script = fileURLToPath(new URL('checkpoint_torch.py', import.meta.url))
const torches = pythons().flatMap((python) => {
  const version = torchVersion(python)
  return version === undefined || version.startsWith('1.') ? [] : [{ python, name: `torch ${version}` }]
})

const world = await init()
const ddp = await world.ddp(resnet18(), { loss: 'softmaxCrossEntropy', optimizer: adam(1e-3) })
const directory = mkdtempSync(join(values.dir, 'lockstep-bench-'))
const times = new Map<string, Times[]>()

try {
  for (let round = -1; round < rounds; round++) {
    for (const background of [false, true]) {
      await saveOnce(background)
      record(round, `lockstep, ${kind(background)}`, await saveOnce(background))
      for (const { python, name } of torches) {
        const output = execFileSync(python, [script, join(directory, 'torch'), kind(background)], {
          stdio: ['ignore', 'pipe', 'ignore'],
          encoding: 'utf8',
          timeout: 120_000,
        })
        record(round, `${name}, ${kind(background)}`, JSON.parse(output))
      }
    }
  }
} finally {
  rmSync(directory, { recursive: true })
}
await world.close()

const measured = [...times].map(([name, all]) => ({
  name,
  blockedMs: rounded(median(all.map(({ blocked }) => blocked)), 1),
  minBlockedMs: rounded(Math.min(...all.map(({ blocked }) => blocked)), 1),
  durableMs: rounded(median(all.map(({ durable }) => durable)), 1),
}))
const result = { ...circumstances(`npx tsx bench/checkpoint.ts --rounds ${rounds}`), measured }
if (values.json) console.log(JSON.stringify(result))
else console.table(measured)
if (values.save) saveResult('checkpoint', result)

async function saveOnce(background: boolean): Promise<Times> {
  const start = performance.now()
  await ddp.save(join(directory, 'lockstep'), {}, { background })
  const blocked = performance.now() - start
  await ddp.saved()
  return { blocked, durable: performance.now() - start }
}

function kind(background: boolean): string {
  return background ? 'background' : 'waiting'
}

/** The first round is not counted: it compiles, and touches the memory. */
function record(round: number, name: string, ms: Times): void {
  if (round >= 0) times.set(name, [...(times.get(name) ?? []), ms])
}
