/**
 * `ddp-launch doctor`: what this machine and this project can train with, what is missing, and the command that mends
 * it. Exit code 0 when training can run, 1 otherwise. The checks are doctor/checks.ts' part.
 */
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { LockstepError } from '../src/errors.js'
import { formatTable } from '../src/observe/table.js'
import { readMachine } from './devices.js'
import { checks, type Finding } from './doctor/checks.js'

const USAGE = 'ddp-launch doctor [--json] [--project DIR]'

export async function run(argv: readonly string[]): Promise<number> {
  const { json, project, help } = readOptions(argv)
  if (help) {
    console.log(`${USAGE}\nSays what training can use here, what is missing, and what mends it.`)
    return 0
  }
  const place = { machine: readMachine(process.env), directory: resolve(project) }
  const findings = await Promise.all(
    Object.entries(checks).map(async ([name, check]) => ({ name, ...(await check(place)) })),
  )
  const ok = findings.every(({ state }) => state !== 'missing')
  if (json) console.log(JSON.stringify({ ok, checks: findings }))
  else console.log(report(findings, ok))
  return ok ? 0 : 1
}

function readOptions(argv: readonly string[]): { json: boolean; project: string; help: boolean } {
  try {
    const options = {
      json: { type: 'boolean', default: false },
      project: { type: 'string', default: '.' },
      help: { type: 'boolean', short: 'h', default: false },
    } as const
    return parseArgs({ args: [...argv], options }).values
  } catch (cause) {
    throw new LockstepError(`doctor: ${(cause as Error).message.split('\n')[0]} (${USAGE})`, { cause })
  }
}

function report(findings: readonly (Finding & { readonly name: string })[], ok: boolean): string {
  const rows = formatTable(findings.map(({ state, name, found }) => [state, name, found]))
  const mending = findings.flatMap(({ name, mend }) => (mend === undefined ? [] : [[`${name}:`, mend]]))
  return [
    ...rows,
    ...(mending.length > 0
      ? ['', 'What would mend or add:', ...formatTable(mending).map((l) => `  ${l}`)]
      : []),
    '',
    ok ? 'Training can run here.' : 'Training cannot run here: mend what is missing.',
  ].join('\n')
}
