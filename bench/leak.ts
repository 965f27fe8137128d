/**
 * Does a process that trains for long hold ever more?
 *
 *   npm run -s test:leak -- [--steps 10000] [--save yes]
 *
 * The MLP for so many steps and the CNN for a tenth of them, with one rank and with two that share memory, an evaluation
 * after every twentieth. Ends with 1 where memory has grown by more than 5 % since the first tenth, or where there are
 * more tensors or sessions than then.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { formatTable, readFlags } from '../src/index.js'
import { circumstances, rounded, saveResult } from './record.js'

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
const rows = [
  ['model', 'ranks', 'steps', 'MB after a tenth', 'MB most', 'growth', 'heap MB', 'tensors', 'sessions'],
]
const runs = []
let failed = false
for (const [model, steps] of [
  ['mlp', flags.steps],
  ['cnn', flags.steps / 10],
] as const) {
  for (const ranks of [1, 2]) {
    const all = measure(model, steps, ranks)
    const [first, last] = [all.map((held) => held[1]!), all.map((held) => held.at(-1)!)]
    const most = all.map((held) => Math.max(...held.slice(2).map(({ rss }) => rss)))
    const growth = Math.max(...most.map((rss, rank) => rss / first[rank]!.rss - 1))
    const same = (what: 'tensors' | 'sessions') =>
      last.every((held, rank) => held[what] <= first[rank]![what])
    if (growth > BOUND || !same('tensors') || !same('sessions')) failed = true
    const change = (what: keyof Held, unit: number) =>
      `${Math.round(first[0]![what] / unit)} → ${Math.round(last[0]![what] / unit)}`
    rows.push([
      model,
      `${ranks}`,
      `${steps}`,
      `${Math.round(first[0]!.rss / 1e6)}`,
      `${Math.round(most[0]! / 1e6)}`,
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
  console.error(
    `a process holds more than it did after a tenth of its steps (memory: by more than ${100 * BOUND} %)`,
  )
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
