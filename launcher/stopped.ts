/**
 * Ranks that somebody has stopped (SIGSTOP): they do not end, and where no other rank waits for them, nobody would ever
 * know. It refuses to look where the kernel does not tell (/proc).
 */
import { readFileSync } from 'node:fs'

const LOOK_MS = 500

export const IS_STOPPED = 'it is stopped: somebody has sent it SIGSTOP (kill -CONT lets it go on)'

/** As the kernel names it: R runs, S sleeps, T is stopped; undefined where that is not told. */
export function processState(pid: number): string | undefined {
  try {
    return /\) (\S) /.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1]
  } catch {
    return undefined
  }
}

/**
 * Calls `found` once, when the process has been stopped for `patienceMs` on end. By looks, not by the clock: who stops the
 * whole job for a while (Slurm's suspend) stops this process, too. @returns what ends the watch.
 */
export function watchForStop(pid: number, patienceMs: number, found: () => void): () => void {
  let looks = 0
  const timer = setInterval(() => {
    looks = processState(pid) === 'T' ? looks + 1 : 0
    if (looks * LOOK_MS < patienceMs) return
    clearInterval(timer)
    found()
  }, LOOK_MS)
  return () => clearInterval(timer)
}
