/**
 * The job's secret: where it comes from, and what the ranks of one attempt get. It never travels, and never stands on
 * a command line, where every user of the machine could read it.
 */
import { createHmac, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { LockstepError } from '../src/errors.js'

const LEAST_CHARACTERS = 16
const HOW = 'make one with `openssl rand -hex 32 > job.token`, copy it to every node'

/**
 * From `file`, else LOCKSTEP_TOKEN, else made up where one node is the whole job.
 * @throws LockstepError when there is none and several nodes need one, or it is too short to be a secret.
 */
export function readToken(file: string | undefined, env: NodeJS.ProcessEnv, nodes: number): string {
  const token = file === undefined ? env.LOCKSTEP_TOKEN : readTokenFile(file)
  const from = file === undefined ? 'LOCKSTEP_TOKEN' : `--token-file ${file}`
  if (!token && file === undefined) {
    if (nodes === 1) return randomBytes(32).toString('hex')
    throw new LockstepError(
      `--nnodes ${nodes} needs a secret by which its launchers know each other: ${HOW} and give --token-file, or set LOCKSTEP_TOKEN`,
    )
  }
  if (!token || token.length < LEAST_CHARACTERS) {
    const length = token?.length ?? 0
    throw new LockstepError(
      `${from} has ${length} characters: expected a secret of at least ${LEAST_CHARACTERS}; ${HOW}`,
    )
  }
  return token
}

/** Ranks of an earlier attempt that are slow to die cannot join a later one. Hexadecimal. */
export function attemptToken(token: string, runId: string, attempt: number): string {
  return createHmac('sha256', token).update(`${runId} attempt ${attempt}`).digest('hex')
}

function readTokenFile(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch (cause) {
    throw new LockstepError(`--token-file ${file} cannot be read: ${(cause as Error).message}; ${HOW}`, {
      cause,
    })
  }
}
