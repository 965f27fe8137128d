/**
 * What does recomputing activations save and cost? Passes of a GPT, forward and backward, on one thread, each setting in a
 * process of its own: the memory that passes add to a process that has compiled its program, and the least time of one.
 *
 *   npm run -s bench:recompute -- [--depth 12] [--batch 8] [--context 256] [--width 256] [--passes 5] [--save]
 */
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { circumstances, rounded, saveResult } from './record.js'

const { values } = parseArgs({
  options: {
    depth: { type: 'string', default: '12' },
    batch: { type: 'string', default: '8' },
    context: { type: 'string', default: '256' },
    width: { type: 'string', default: '256' },
    passes: { type: 'string', default: '5' },
    save: { type: 'boolean', default: false },
  },
})
const { batch, depth, context, width, passes, save } = values
/** What is asked for, and as it is given to the process. */
const settings = [
  ['none', 0],
  ['true', 1],
  ['2', 2],
  ['4', 4],
] as const
const pass = fileURLToPath(new URL('recompute-pass.ts', import.meta.url))

interface Measured {
  readonly loss: number
  readonly passMB: number
  readonly minMs: number
  readonly minCpuMs: number
}

const measured = settings.map(([recompute, segments]) => {
  const given = [batch, depth, context, width, passes, String(segments)]
  const printed = execFileSync(process.execPath, ['--import', 'tsx', pass, ...given], { encoding: 'utf8' })
  return { recompute, ...(JSON.parse(printed) as Measured) }
})
const [kept] = measured
const rows = measured.map((row) => ({
  ...row,
  memory: rounded(row.passMB / kept!.passMB),
  cpuTime: rounded(row.minCpuMs / kept!.minCpuMs),
}))
console.table(rows)
const command = `npm run -s bench:recompute -- ${process.argv.slice(2).join(' ')}`.trim()
if (save) saveResult('recompute', { ...circumstances(command), batch, depth, context, width, rows })
