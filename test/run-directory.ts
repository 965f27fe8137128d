/**
 * Whatever tests put into the folder for temporary files, tsx's cache among it, is in one folder for each run, which goes with
 * it. Of a run that was killed it goes with the next run, which knows by the process id in its name that it is nobody's.
 */
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const PREFIX = 'lockstep-run-'

/** As vitest's first global setup: workers, and what they start, get its TMPDIR. */
export default function setup(): () => void {
  const outside = tmpdir()
  for (const name of readdirSync(outside).filter((each) => each.startsWith(PREFIX))) {
    const [pid] = name.slice(PREFIX.length).split('-')
    if (!existsSync(`/proc/${pid}`)) rmSync(join(outside, name), { recursive: true, force: true })
  }
  const directory = mkdtempSync(join(outside, `${PREFIX}${process.pid}-`))
  process.env.TMPDIR = directory
  return () => rmSync(directory, { recursive: true, force: true })
}
