/**
 * What does a job cost before it trains? All ranks start, all-reduce one number and end: time, CPU time and memory, beside
 * torchrun's with Gloo.
 *
 *   npm run -s bench:startup -- [--nproc 2] [--rounds 5] [--json] [--save]
 *
 * The package is compiled as for users, the script is one of TypeScript or of JavaScript. CPU time is that of all processes
 * together; `rank` and `launcher` are the most memory that the largest rank and the launcher had resident. torchrun runs
 * startup_torch.py on each Python of PYTHONS (default: python3) that has torch.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { compileInto } from '../test/compiled.js'
import { pythons, torchVersion } from './peers.js'
import { circumstances, median, rounded, saveResult } from './record.js'

/** What a rank prints, in MiB. */
interface Memory {
  readonly rank: number
  readonly launcher: number
}

interface Measured extends Memory {
  readonly wallMs: number
  readonly cpuMs: number
}

const { values } = parseArgs({
  options: {
    nproc: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '5' },
    json: { type: 'boolean', default: false },
    save: { type: 'boolean', default: false },
  },
})
const [nproc, rounds] = [Number(values.nproc), Number(values.rounds)]

const directory = mkdtempSync(join(tmpdir(), 'lockstep-startup-'))
process.once('exit', () => rmSync(directory, { recursive: true }))
const launcher = await compileInto(join(directory, 'package'))
const commands = new Map<string, string[]>()
for (const [language, extension] of [
  ['TypeScript', 'ts'],
  ['JavaScript', 'mjs'],
]) {
  const script = join(directory, `package/startup-rank.${extension}`)
  copyFileSync(fileURLToPath(new URL('startup-rank.mjs', import.meta.url)), script)
  commands.set(`ddp-launch, ${language}`, [process.execPath, launcher, '--nproc', `${nproc}`, script])
}
for (const python of pythons()) {
  const version = torchVersion(python)
  const torchrun = [python, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', `${nproc}`]
  const script = fileURLToPath(new URL('startup_torch.py', import.meta.url))
  if (version !== undefined) commands.set(`torchrun, torch ${version}`, [...torchrun, script])
}

const measured = new Map([...commands.keys()].map((name) => [name, [] as Measured[]]))
// In turns, after one that fills the caches of files.
for (let round = -1; round < rounds; round++) {
  for (const [name, command] of commands) {
    const one = measure(command)
    if (round >= 0) measured.get(name)!.push(one)
  }
}
const rows = [...measured].map(([name, all]) => {
  const middle = (of: keyof Measured) => rounded(median(all.map((one) => one[of])), 0)
  return {
    ...{ job: name, nproc, wallMs: middle('wallMs'), cpuMs: middle('cpuMs') },
    ...{ rankMiB: middle('rank'), launcherMiB: middle('launcher') },
  }
})
if (values.json) console.log(JSON.stringify(rows))
else console.table(rows)
if (values.save) {
  const command = `npm run -s bench:startup -- ${process.argv.slice(2).join(' ')}`
  saveResult('startup', { ...circumstances(command), rows })
}

function measure(command: readonly string[]): Measured {
  const env = { ...process.env, OMP_NUM_THREADS: '1' }
  const start = performance.now()
  // The shell knows what its children and theirs have used.
  const { status, stdout, stderr } = spawnSync('/bin/sh', ['-c', '"$@" && times', 'sh', ...command], {
    ...{ env, encoding: 'utf8', timeout: 120_000 },
  })
  const wallMs = performance.now() - start
  if (status !== 0) throw new Error(`${command.join(' ')} failed: ${stderr}`)
  const ranks = [...stdout.matchAll(/\{[^{}]*\}/g)].map(([line]) => JSON.parse(line) as Memory)
  if (ranks.length !== nproc) throw new Error(`${ranks.length} of ${nproc} ranks answered: ${stdout}`)
  const times = [...stdout.matchAll(/(\d+)m([\d.]+)s/g)].map(([, m, s]) => Number(m) * 60 + Number(s))
  const cpuMs = (times[2]! + times[3]!) * 1000
  const most = (of: keyof Memory) => Math.max(...ranks.map((one) => one[of]))
  return { wallMs, cpuMs, rank: most('rank'), launcher: most('launcher') }
}
