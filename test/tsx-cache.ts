/** Ranks that tests launch from source share tsx's cache of translated files; what was not there before goes with them. */
import { existsSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export default function setup(): (() => void) | undefined {
  const cache = join(tmpdir(), `tsx-${process.geteuid?.()}`)
  return existsSync(cache) ? undefined : () => rmSync(cache, { recursive: true, force: true })
}
