/**
 * `ddp-launch bench scaling`: how much faster more ranks are, measured on this machine. Exit code 0 when it has been
 * measured. What is computed and said is arithmetic's and report's part.
 */
import { accessSync, constants, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism, cpus, totalmem } from 'node:os'
import { dirname, resolve } from 'node:path'
import { LockstepError } from '../../src/errors.js'
import { formatTable } from '../../src/observe/table.js'
import { measure } from './measure.js'
import { type Kind, readOptions, USAGE } from './options.js'
import {
  type Circumstances,
  crowding,
  HEADINGS,
  hiddenBehindPasses,
  markdown,
  rowsOf,
  scalingOf,
  verdict,
} from './report.js'
import type { Steps } from './steps.js'

export async function run(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv
  if (name === '--help' || name === '-h') {
    console.log(USAGE)
    return 0
  }
  if (name !== 'scaling') {
    const given = name === undefined ? 'nothing to measure was given' : `there is no benchmark ${name}`
    throw new LockstepError(`bench: ${given}: expected ddp-launch bench scaling (see its --help)`)
  }
  const cores = availableParallelism()
  const options = readOptions(rest, cores)
  if (options === undefined) {
    console.log(USAGE)
    return 0
  }
  const { nproc, batch, kinds, json, report } = options
  for (const file of [json, report]) if (file !== undefined) checkWritable(file)

  /** One rank alone is the same in both kinds of scaling: by ranks and batch. */
  const done = new Map<string, Steps>()
  const measured = async (kind: Kind, ranks: number): Promise<Steps> => {
    const batchPerRank = kind === 'weak' ? batch : batch / ranks
    const key = `${ranks} of ${batchPerRank}`
    const steps = done.get(key) ?? (await measure(ranks, batchPerRank, options))
    done.set(key, steps)
    return steps
  }
  const scalings = []
  for (const kind of kinds) {
    const runs = []
    for (const ranks of nproc) {
      console.error(`ddp-launch: bench scaling: ${kind}, --nproc ${ranks}`)
      runs.push({ ranks, steps: await measured(kind, ranks) })
    }
    scalings.push(scalingOf(kind, batch, runs))
  }
  const notes = [
    ...scalings.flatMap((scaling) => [verdict(scaling), ...hiddenBehindPasses(scaling)]),
    crowding(options, cores),
  ].filter((note) => note !== undefined)
  const circumstances = circumstancesOf(argv)
  console.log([...formatTable([HEADINGS, ...scalings.flatMap(rowsOf)]), '', ...notes].join('\n'))
  if (json !== undefined) {
    const { nproc: _, json: _json, report: _report, kinds: _kinds, ...settings } = options
    const all = { ...circumstances, ...settings, scalings, notes }
    writeFileSync(json, `${JSON.stringify(all, undefined, 2)}\n`)
  }
  if (report !== undefined) writeFileSync(report, markdown(options, scalings, circumstances, notes))
  return 0
}

/** Before minutes of measuring. */
function checkWritable(file: string): void {
  const path = resolve(file)
  const stat = statSync(path, { throwIfNoEntry: false })
  try {
    if (stat?.isDirectory()) throw new Error('it is a directory')
    accessSync(stat ? path : dirname(path), constants.W_OK)
  } catch (cause) {
    throw new LockstepError(
      `bench scaling: cannot write ${file}: ${(cause as Error).message}; give a file in a directory that can be written to`,
      { cause },
    )
  }
}

function circumstancesOf(argv: readonly string[]): Circumstances {
  const { version } = createRequire(import.meta.url)('lockstep/package.json') as { version: string }
  return {
    date: new Date().toISOString().slice(0, 10),
    command: `ddp-launch bench ${argv.join(' ')}`,
    machine: `${cpus().length} cores of ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB`,
    node: process.version,
    lockstep: version,
  }
}
