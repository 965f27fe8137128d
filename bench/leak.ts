/**
 * Does a process that trains for long hold ever more?
 *
 *   npm run -s test:leak -- [--steps 10000] [--save yes]
 *
 * The MLP for so many steps and the CNN for a tenth of them, with one rank and with two that share memory, an evaluation
 * after every twentieth. Ends with 1 where memory has grown by more than 5 %, or where there are more tensors or sessions
 * than after a quarter of the steps. Memory is compared by medians, of the last quarter and of the first after the start:
 * single figures hold what V8 and the kernel have not given back yet.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { formatTable, readFlags } from '../src/index.js'
import { circumstances, median, rounded, saveResult } from './record.js'

/** By one rank's process; rss and heap in bytes, after a garbage collection. */
export interface Held {
  readonly rss: number
  readonly heap: number
  readonly tensors: number
  readonly sessions: number
}

const BOUND = 0.05
const BATCH = 16

const flags = readFlags({ steps: 10_000, save: ['no', 'yes'] })
const path = (name: string) => fileURLToPath(new URL(name, import.meta.url))
const rows = [['model', 'ranks', 'steps', 'MB', 'growth', 'heap MB', 'tensors', 'sessions']]
const runs = []
let failed = false
for (const [model, steps] of [
  ['mlp', flags.steps],
  ['cnn', flags.steps / 10],
] as const) {
  for (const ranks of [1, 2]) {
    const all = measure(model, steps, ranks)
    const [first, last] = [all.map((held) => held[4]!), all.map((held) => held.at(-1)!)]
    const early = all.map((held) => median(held.slice(1, 6).map(({ rss }) => rss)))
    const late = all.map((held) => median(held.slice(-5).map(({ rss }) => rss)))
    const growth = Math.max(...late.map((rss, rank) => rss / early[rank]! - 1))
    const same = (what: 'tensors' | 'sessions') =>
      last.every((held, rank) => held[what] <= first[rank]![what])
    if (growth > BOUND || !same('tensors') || !same('sessions')) failed = true
    const change = (what: keyof Held, unit: number) =>
      `${Math.round(first[0]![what] / unit)} → ${Math.round(last[0]![what] / unit)}`
    rows.push([
      model,
      `${ranks}`,
      `${steps}`,
      `${Math.round(early[0]! / 1e6)} → ${Math.round(late[0]! / 1e6)}`,
      `${(100 * growth).toFixed(1)} %`,
      change('heap', 1e6),
      change('tensors', 1),
      change('sessions', 1),
    ])
    runs.push({ model, ranks, steps, batch: BATCH, growth: rounded(growth, 4), held: all })
  }
}
console.log(formatTable(rows).join('\n'))
if (flags.save === 'yes') {
  const command = `npm run -s test:leak -- ${process.argv.slice(2).join(' ')}`
  saveResult('leak', { ...circumstances(command), runs })
}
if (failed) {
  console.error(`a process holds ever more (memory: by more than ${100 * BOUND} %)`)
  process.exitCode = 1
}

/** What each rank held after each twentieth of the steps. */
function measure(model: string, steps: number, ranks: number): Held[][] {
  const directory = mkdtempSync(join(tmpdir(), 'bench-'))
  try {
    const launcher = ['--import', 'tsx', path('../launcher/main.ts'), '--nproc', `${ranks}`, '--threads', '1']
    execFileSync(
      process.execPath,
      [...launcher, path('leak-rank.ts'), model, `${steps}`, `${BATCH}`, directory],
      {
        stdio: ['ignore', 'inherit', 'inherit'],
      },
    )
    return Array.from(
      { length: ranks },
      (_, rank) => JSON.parse(readFileSync(join(directory, `${rank}.json`), 'utf8')) as Held[],
    )
  } finally {
    rmSync(directory, { recursive: true })
  }
}
