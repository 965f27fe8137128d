/**
 * How long does a failure cost? One of 4 ranks of the reference CNN is killed (kill -9) again and again, and the time until
 * every rank has done the first step of the next attempt is measured, with its parts.
 *
 *   npm run -s bench:restart -- [--nproc 4] [--rounds 5] [--save]
 *
 * The package is compiled as for users; checkpoint and model are loaded as in any job.
 */
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { compileInto } from '../test/compiled.js'
import { start } from '../test/launcher/launch.js'
import { circumstances, median, saveResult } from './record.js'

const { values } = parseArgs({
  options: {
    nproc: { type: 'string', default: '4' },
    rounds: { type: 'string', default: '5' },
    save: { type: 'boolean', default: false },
  },
})
const [nproc, rounds] = [Number(values.nproc), Number(values.rounds)]

/** In this order; each is over when the last rank has come so far. */
const PARTS = {
  stopped: 'failure seen, all ranks gone',
  imported: 'processes started, everything imported',
  connected: 'ranks connected',
  loaded: 'model made, checkpoint loaded',
  stepped: 'model compiled, first step',
} as const
type Part = keyof typeof PARTS
type Moment = Part | 'saved'

const directory = mkdtempSync(join(tmpdir(), 'lockstep-restart-'))
process.once('exit', () => rmSync(directory, { recursive: true }))
const launcher = await compileInto(join(directory, 'package'))
const script = join(directory, 'package/restart-rank.ts')
copyFileSync(fileURLToPath(new URL('restart-rank.ts', import.meta.url)), script)

const flags = ['--nproc', String(nproc), '--threads', '1', '--max-restarts', String(rounds)]
const job = start([...flags, script, join(directory, 'checkpoints')], {}, [launcher])
/** When all ranks of an attempt had come to a moment. */
const came = new Map<string, { at: number; pids: number[] }>()
let changed = () => {}
job.child.stdout!.on('data', () => {
  for (const [, attempt, what, at, pid] of job.output.stdout.matchAll(
    /^\[\d+\] (\d+) (\w+) (\d+) (\d+)$/gm,
  )) {
    const key = `${attempt} ${what}`
    const { at: before, pids } = came.get(key) ?? { at: 0, pids: [] }
    came.set(key, { at: Math.max(before, Number(at)), pids: [...new Set([...pids, Number(pid)])] })
  }
  changed()
})
job.child.stderr!.on('data', () => {
  for (const [, attempt] of job.output.stderr.matchAll(/all ranks start again, restart (\d+)/g)) {
    if (!came.has(`${attempt} stopped`)) came.set(`${attempt} stopped`, { at: Date.now(), pids: [] })
  }
})

const times: Record<Part | 'all', number[]> = {
  ...{ stopped: [], imported: [], connected: [], loaded: [], stepped: [], all: [] },
}
for (let round = 0; round < rounds; round++) {
  await whenAll(round, 'saved')
  // Steps are being taken: a failure in their midst.
  await new Promise((resolve) => setTimeout(resolve, 300 + 100 * round))
  const killedAt = Date.now()
  process.kill(came.get(`${round} saved`)!.pids[round % nproc]!, 'SIGKILL')
  await whenAll(round + 1, 'saved')
  let before = killedAt
  for (const part of Object.keys(PARTS) as Part[]) {
    const { at } = came.get(`${round + 1} ${part}`)!
    times[part].push(at - before)
    before = at
  }
  times.all.push(before - killedAt)
  console.error(`round ${round + 1}: ${before - killedAt} ms`)
}
job.child.kill('SIGKILL')
await job.done

const partsMs = Object.fromEntries(
  Object.entries(PARTS).map(([part, words]) => [words, median(times[part as Part])]),
)
const result = {
  model: 'cnn',
  nproc,
  rounds,
  medianMs: median(times.all),
  slowestMs: Math.max(...times.all),
  partsMs,
}
console.log(JSON.stringify(result, undefined, 2))
const command = `npm run -s bench:restart -- ${process.argv.slice(2).join(' ')}`
if (values.save) saveResult('restart', { ...circumstances(command), ...result })

async function whenAll(attempt: number, what: Moment): Promise<void> {
  while ((came.get(`${attempt} ${what}`)?.pids.length ?? 0) < nproc) {
    if (job.child.exitCode !== null) throw new Error(`the job has ended:\n${job.output.stderr}`)
    await new Promise<void>((resolve) => {
      changed = resolve
      setTimeout(resolve, 500)
    })
  }
}
