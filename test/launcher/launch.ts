/** Runs the launcher, compiled by test/compiled.ts, as a user would run it, on the scripts in fixtures/. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** None outside vitest. */
const MAIN = process.env.TEST_LAUNCHER ?? ''
const ROOT = fileURLToPath(new URL('../..', import.meta.url))

export interface Launched {
  readonly child: ChildProcess
  /** What came so far. */
  readonly output: { stdout: string; stderr: string }
  /** Resolves when the launcher has ended and its pipes are closed. */
  readonly done: Promise<{ code: number | null; signal: string | null; stdout: string; stderr: string }>
}

/** A script: beside the compiled package, whose users it is one of. */
export function fixture(name: string): string {
  if (MAIN !== '') return join(dirname(MAIN), '../fixtures', name)
  return fileURLToPath(new URL(`./fixtures/${name}`, import.meta.url))
}

/** @param main node's own arguments: the launcher, unless they say another. */
export function start(
  args: readonly string[],
  env: Record<string, string> = {},
  main: readonly string[] = [MAIN],
): Launched {
  return startCommand([process.execPath, ...main, ...args], env)
}

/** Any command, in the environment that launchers get. */
export function startCommand([command, ...args]: readonly string[], env: Record<string, string>): Launched {
  const { PATH, HOME, TMPDIR } = process.env
  // With that tsconfig an example's 'lockstep' is the same, not dist.
  const tsconfig = MAIN === '' ? {} : { TSX_TSCONFIG_PATH: join(dirname(MAIN), '../tsconfig.json') }
  const child = spawn(command!, args, {
    cwd: ROOT,
    env: { PATH, HOME, TMPDIR, ...tsconfig, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const output = { stdout: '', stderr: '' }
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream]!.setEncoding('utf8').on('data', (text: string) => {
      output[stream] += text
    })
  }
  const done = once(child, 'close').then(([code, signal]) => ({ code, signal, ...output }))
  return { child, output, done }
}

export function launch(args: readonly string[], env?: Record<string, string>) {
  return start(args, env).done
}

/** Polls until `probe` gives something, or throws after `ms`. */
export async function eventually<T>(probe: () => T | undefined | false, ms = 30_000): Promise<T> {
  const end = Date.now() + ms
  for (;;) {
    const found = probe()
    if (found) return found
    if (Date.now() > end) throw new Error(`nothing came within ${ms} ms`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** The process ids that the ranks have printed as "pid N", once there are `count`. */
export function pids(launched: Launched, count: number): Promise<number[]> {
  return eventually(() => {
    const found = [...launched.output.stdout.matchAll(/pid (\d+)$/gm)].map((match) => Number(match[1]))
    return found.length >= count && found
  })
}

/** A zombie is dead, but `kill(pid, 0)` succeeds on it: look at its state. */
export function isAlive(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}
