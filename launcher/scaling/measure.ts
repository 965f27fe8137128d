/** Starts ranks of the reference models by the launcher itself, and reads from their timeline how long steps took. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { LockstepError } from '../../src/errors.js'
import type { ScalingOptions } from './options.js'
import { lastSteps, type Steps } from './steps.js'

const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
const path = (name: string) => fileURLToPath(new URL(`${name}.${extension}`, import.meta.url))
const LAUNCHER = path('../main')
const RANK = path('../../src/bench/scaling-rank')

/** @throws LockstepError with what the launch ended by, when it fails. */
export async function measure(
  ranks: number,
  batchPerRank: number,
  { threads, transport, model, steps, compression }: ScalingOptions,
): Promise<Steps> {
  const directory = mkdtempSync(join(tmpdir(), 'lockstep-scaling-'))
  try {
    const timeline = join(directory, 'timeline.json')
    const flags = { nproc: ranks, threads, transport, timeline }
    await launch([
      '--standalone',
      ...Object.entries(flags).flatMap(([name, value]) => [`--${name}`, String(value)]),
      ...[RANK, model, String(batchPerRank), String(steps), compression],
    ])
    return lastSteps(JSON.parse(readFileSync(timeline, 'utf8')), steps)
  } finally {
    rmSync(directory, { recursive: true })
  }
}

async function launch(args: readonly string[]): Promise<void> {
  const child = spawn(process.execPath, [...process.execArgv, LAUNCHER, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const forward = (signal: NodeJS.Signals) => child.kill(signal)
  process.on('SIGTERM', forward).on('SIGINT', forward)
  try {
    const [said, [code]] = await Promise.all([text(child.stderr), once(child, 'close')])
    if (code === 0) return
    const reason = said.trim().split('\n').at(-1)
    throw new LockstepError(`bench scaling: ddp-launch ended with exit code ${code}: ${reason}`)
  } finally {
    process.off('SIGTERM', forward).off('SIGINT', forward)
  }
}
