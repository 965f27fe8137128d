/**
 * Sees to it that no rank outlives the launcher, however that dies. It refuses to do anything while it lives.
 *
 * A shell in a session of its own holds the reading end of a pipe whose only writer is the launcher: when that is
 * gone, even by SIGKILL, the shell reads the end of the pipe and ends the process groups that it was told last.
 * A thread in every rank that watches such a pipe would do as well, busy script or not, but costs each rank some
 * 15 ms and 10 MB; the shell costs the job one millisecond. Ranks that notice by themselves (IPC 'disconnect')
 * would not: an event loop that is busy in a script or in native code never hears of it.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { LockstepError } from '../src/errors.js'

/** Each line lists all process groups that live; one that was cut short by the launcher's death does not count. */
const SCRIPT = `
  trap '' HUP INT TERM
  while read -r groups; do living=$groups; done
  [ -n "$living" ] || exit 0
  for g in $living; do kill -s TERM -- "-$g"; done
  sleep 1
  for g in $living; do kill -s KILL -- "-$g"; done
`

export interface Reaper {
  /** Replaces what is to be ended should the launcher die. */
  watch(groups: readonly number[]): void
  close(): void
}

/** @throws LockstepError when there is no shell. */
export async function startReaper(): Promise<Reaper> {
  const shell = spawn('/bin/sh', ['-c', SCRIPT], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
  await started(shell)
  const pipe = shell.stdin!
  // If somebody ends the shell, the job goes on without its safety net.
  pipe.on('error', () => {})
  shell.unref()
  return {
    watch: (groups) => void pipe.write(`${groups.join(' ')}\n`),
    close: () => void pipe.end('\n'),
  }
}

function started(shell: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    shell.once('spawn', resolve)
    shell.once('error', (cause) => {
      reject(
        new LockstepError(
          `cannot start /bin/sh, which ends the ranks should ddp-launch be killed: ${cause.message}`,
          {
            cause,
          },
        ),
      )
    })
  })
}
