/** The mnist example as a user runs it, for tests. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect } from 'vitest'
import { launch } from '../launcher/launch.js'

export const SCRIPT = fileURLToPath(new URL('../../examples/mnist/train.ts', import.meta.url))

export interface Result {
  readonly worldSize: number
  readonly steps: number
  readonly losses: number[]
  readonly testAccuracy: number
  readonly bytesSentPerStep: number
  readonly paramsSha256: string
}

/** For one test file; gone after it. */
export const directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'))
afterAll(() => rmSync(directory, { recursive: true }))

let runs = 0

export async function train(nproc: number, ...args: string[]): Promise<Result> {
  const json = join(directory, `${runs++}.json`)
  const { code, stdout, stderr } = await launch(['--nproc', String(nproc), SCRIPT, ...args, '--json', json])
  expect(code, stdout + stderr).toBe(0)
  return JSON.parse(readFileSync(json, 'utf8')) as Result
}

/** Exit code 2 and one line on stderr, apart from the launcher's report of which ranks ended with it. */
export async function refused(message: RegExp, ...args: string[]): Promise<void> {
  const { code, stderr } = await launch(['--nproc', '2', SCRIPT, ...args])
  expect(stderr).toMatch(message)
  expect(stderr).not.toMatch(/^\s+at /m)
  expect(code).toBe(2)
}
