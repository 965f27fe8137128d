/** A rank that is killed in a pipeline, in tensor parallelism or in ZeRO 3: the other is told at once, and the job goes on. */
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { launch } from '../launcher/launch.js'
import { temporaryFolder } from './checkpoint/temporary.js'

const script = fileURLToPath(new URL('killed-rank.ts', import.meta.url))

test.each(['pp', 'tp', 'zero3'])('%s', { timeout: 120_000 }, async (kind) => {
  const directory = await temporaryFolder()
  const { code, stdout, stderr } = await launch([
    ...['--nproc', '2', '--threads', '1', '--max-restarts', '1'],
    ...[script, kind, directory],
  ])
  expect(stderr).toContain('SIGKILL')
  const [, died] = /^\[1\] dies at (\d+)$/m.exec(stdout)!
  const [, told, message] = /^\[0\] told at (\d+): (.*)$/m.exec(stdout)!
  expect(message).toContain('rank 1')
  expect(Number(told) - Number(died)).toBeLessThan(5000)
  for (const rank of [0, 1]) expect(stdout).toMatch(new RegExp(`^\\[${rank}\\] steps 3 to 6, losses`, 'm'))
  expect(code).toBe(0)
})
