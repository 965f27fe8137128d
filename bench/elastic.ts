/**
 * Does a job that shrinks and grows learn as one that does not? Four nodes of one rank train the MLP on generated digits;
 * one is asked to leave, then another, then two come back. The loss of every step is compared with that of four ranks that
 * nobody disturbs. `npm run docs:plot` draws docs/elastic.svg of it.
 *
 *   npm run -s bench:elastic -- [--steps 240] [--batch 48] [--pace 60] [--save]
 *
 * `pace`: milliseconds that ranks wait after a step, so that nodes can come while there are still some left.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { compileInto } from '../test/compiled.js'
import { eventually, type Launched, startCommand } from '../test/launcher/launch.js'
import { circumstances, rounded, saveResult } from './record.js'

const { values } = parseArgs({
  options: {
    steps: { type: 'string', default: '240' },
    batch: { type: 'string', default: '48' },
    pace: { type: 'string', default: '60' },
    save: { type: 'boolean', default: false },
  },
})
const steps = Number(values.steps)
type Curve = [loss: number, ranks: number][]

const directory = mkdtempSync(join(tmpdir(), 'lockstep-elastic-'))
const nodes: Launched[] = []
process.once('exit', () => {
  for (const { child } of nodes) child.kill('SIGKILL')
  rmSync(directory, { recursive: true })
})
const launcher = await compileInto(join(directory, 'package'))
const script = fileURLToPath(new URL('elastic-rank.ts', import.meta.url))

const undisturbed = await train('undisturbed', ['--nproc', '4', '--threads', '1'], '0')
const elastic = await shrinkAndGrow()
const deviations = elastic.map(([loss], i) => Math.abs(loss - undisturbed[i]![0]) / undisturbed[i]![0])
const largest = Math.max(...deviations)
const result = {
  model: 'mlp',
  globalBatch: Number(values.batch),
  steps,
  largestRelativeDeviation: Number(largest.toPrecision(2)),
  undisturbed: undisturbed.map(([loss]) => rounded(loss, 4)),
  elastic: elastic.map(([loss, ranks]) => [rounded(loss, 4), ranks]),
}
const sizes = elastic.map(([, ranks]) => ranks).filter((ranks, i, all) => ranks !== all[i - 1])
console.log(JSON.stringify({ ...result, undisturbed: undefined, elastic: undefined, ranks: sizes }))
const command = `npm run -s bench:elastic -- ${process.argv.slice(2).join(' ')}`
if (values.save) saveResult('elastic', { ...circumstances(command), ...result })
if (largest > 0.01) throw new Error(`the losses differ by up to ${rounded(100 * largest, 1)} %`)

async function shrinkAndGrow(): Promise<Curve> {
  const port = await freePort()
  const flags = ['--nnodes', '1:4', '--nproc', '1', '--threads', '1', '--rdzv-endpoint', `127.0.0.1:${port}`]
  const node = (rank: number) => start([...flags, '--node-rank', `${rank}`], 'elastic', values.pace)
  const [home, , second, third] = [0, 1, 2, 3].map(node) as [Launched, Launched, Launched, Launched]
  const reached = (share: number) =>
    eventually(() => lastStep(home) >= share * steps || home.child.exitCode !== null, 300_000)
  for (const [share, change] of [
    [1 / 5, () => third.child.kill('SIGTERM')],
    [2 / 5, () => second.child.kill('SIGTERM')],
    [3 / 5, () => [2, 3].map(node)],
  ] as const) {
    await reached(share)
    change()
  }
  return finished(home, 'elastic')
}

function train(name: string, flags: readonly string[], pace: string): Promise<Curve> {
  return finished(start(flags, name, pace), name)
}

async function finished(launched: Launched, name: string): Promise<Curve> {
  const { code, stderr } = await launched.done
  if (code !== 0) throw new Error(`ddp-launch ended with ${code}:\n${stderr}`)
  return JSON.parse(readFileSync(join(directory, name, 'curve.json'), 'utf8'))
}

function start(flags: readonly string[], name: string, pace: string): Launched {
  const args = [...flags, script, join(directory, name), values.steps, values.batch, pace]
  const tsconfig = join(directory, 'package/tsconfig.json')
  const env = { LOCKSTEP_TOKEN: 'ab'.repeat(16), TSX_TSCONFIG_PATH: tsconfig }
  const launched = startCommand([process.execPath, launcher, ...args], env)
  nodes.push(launched)
  return launched
}

function lastStep({ output }: Launched): number {
  return Number([...output.stdout.matchAll(/step (\d+) of/g)].at(-1)?.[1] ?? 0)
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}
