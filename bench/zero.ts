/**
 * What does sharding cost and save? A GPT with Adam, one thread a rank, at each level in turn, step by step: time, the
 * bytes of state that a rank holds, and those that it sends, in multiples of the parameters' bytes in float32.
 *
 *   npm run -s bench:zero -- [--nproc 2] [--transport shm] [--batch 8] [--depth 4] [--steps 30] [--precision float16] [--save]
 *
 * `state` and `bytesSent` of 16 bits are multiples of float32's, too, and `throughput` is of level 0's in the same precision, all
 * of which rounds on the cpu.
 *
 * (`throughput` is the median, over steps, of level 0's time by this level's: a noisy machine is noisy for all. `cpuMs` is the
 * processor time of rank 0, waiting in shared memory included.)
 */
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { circumstances, saveResult } from './record.js'

const { values } = parseArgs({
  options: {
    nproc: { type: 'string', default: '2' },
    transport: { type: 'string', default: 'shm' },
    batch: { type: 'string', default: '8' },
    depth: { type: 'string', default: '4' },
    steps: { type: 'string', default: '30' },
    precision: { type: 'string', default: 'float32' },
    save: { type: 'boolean', default: false },
  },
})
const { nproc, transport, batch, depth, steps, precision } = values
const path = (name: string) => fileURLToPath(new URL(name, import.meta.url))
const launcher = ['--import', 'tsx', path('../launcher/main.ts'), '--nproc', nproc, '--threads', '1']
const printed = execFileSync(
  process.execPath,
  [...launcher, '--transport', transport, path('zero-rank.ts'), batch, steps, depth, precision],
  { encoding: 'utf8' },
)
const result = JSON.parse(printed.slice(printed.indexOf('{'))) as object
const whole = {
  worldSize: Number(nproc),
  transport,
  batchPerRank: Number(batch),
  depth: Number(depth),
  precision,
  ...result,
}
console.log(JSON.stringify(whole, undefined, 2))
const command = `npm run -s bench:zero -- ${process.argv.slice(2).join(' ')}`
const name = precision === 'float32' ? 'zero' : `zero-${precision}`
if (values.save) saveResult(`${name}-${transport}-${nproc}`, { ...circumstances(command), ...whole })
