/**
 * A process that saves is killed at a random moment, again and again: what it called saved is there, and whatever is there
 * is what was saved.
 *
 *   npm run test:checkpoint-chaos        200 times; CHECKPOINT_KILLS, CHECKPOINT_SEED: others
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { afterAll, expect, test } from 'vitest'
import {
  type Checkpoint,
  readCheckpoint,
  writeCheckpoint,
} from '../../../src/runtime/checkpoint/checkpoints.js'
import { compileInto } from '../../compiled.js'

const KILLS = Number(process.env.CHECKPOINT_KILLS ?? 20)
const SEED = Number(process.env.CHECKPOINT_SEED ?? 1)
/** Several saves. */
const LONGEST_MS = 100

const directory = mkdtempSync(join(tmpdir(), 'lockstep-killed-'))
afterAll(() => rmSync(directory, { recursive: true }))

test(`a process killed while it saves, ${KILLS} times (seed ${SEED})`, { timeout: 600_000 }, async () => {
  const modules = ['checkpoints', 'background-writer', 'writing', 'locations']
  const used = modules.map((name) => `src/runtime/checkpoint/${name}.ts`)
  const launcher = await compileInto(join(directory, 'package'), used)
  const source = pathToFileURL(join(launcher, '../../src/runtime/checkpoint')).href
  const saving = fileURLToPath(new URL('saving.mjs', import.meta.url))
  const checkpoints = join(directory, 'checkpoints')
  const random = generator(SEED)
  let [last, interrupted, replaced] = [0, 0, 0]
  for (let kill = 0; kill < KILLS; kill++) {
    const thread = kill % 3
    const args = [saving, checkpoints, String(last + 1), String(thread), source, 'js']
    const saver = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    let printed = ''
    saver.stdout.setEncoding('utf8').on('data', (text: string) => {
      printed += text
    })
    await once(saver.stdout, 'data')
    await new Promise((resolve) => setTimeout(resolve, random() * LONGEST_MS))
    saver.kill('SIGKILL')
    await once(saver, 'close')
    const names = readdirSync(checkpoints, { withFileTypes: true }).map(({ name }) => name)
    interrupted += Number(names.some((name) => name.includes('.tmp-')))
    replaced += Number(names.some((name) => name.includes('.old-')))

    const safe = Number(printed.trimEnd().split('\n').at(-1)!.replace('ready', String(last)))
    const found = await readCheckpoint(checkpoints)
    const story = `kill ${kill}, seed ${SEED}, saved ${safe}, found ${found?.step} among ${names}`
    if (safe === 0 && found === undefined) continue
    const { step, model, optimizer } = found as Checkpoint
    expect(found!.damaged, story).toEqual([])
    expect([safe, safe + 1], story).toContain(step)
    expect(found!.state, story).toEqual({ step })
    expect(
      model[0]!.data.every((value) => value === step),
      story,
    ).toBe(true)
    expect(
      optimizer[0]!.data.every((value) => value === -step),
      story,
    ).toBe(true)
    last = step
  }
  console.log(
    `${last} checkpoints; killed while writing ${interrupted} times, while replacing ${replaced} times`,
  )
  // Else nothing was tried.
  expect(interrupted).toBeGreaterThan(KILLS / 4)
  await writeCheckpoint(checkpoints, { step: last, model: [], optimizer: [], state: {} }, 2)
  expect(readdirSync(checkpoints).filter((name) => !/^step-\d{8}$/.test(name))).toEqual([])
})

/** A linear congruential generator (Numerical Recipes): 0 … 1. */
function generator(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}
