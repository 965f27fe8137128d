/** onnxruntime must not write a device id and logs, nor report to its maker, because a model was trained. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const session = new URL('../../src/compiler/session.ts', import.meta.url).href
const root = new URL('../..', import.meta.url)

test('a session leaves nothing in the home and temporary directories', () => {
  const directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'))
  try {
    const script = `
      import { Session } from '${session}'
      const value = (name) => ({ name, type: 'float32', shape: [1] })
      const nodes = [{ op: 'Relu', inputs: ['x'], outputs: ['y'], attributes: {} }]
      const graph = { nodes, constants: [], inputs: [value('x')], outputs: [value('y')] }
      const session = await Session.create(graph, { threads: 1 })
      session.bindInputs(new Map([['x', Float32Array.of(1)]]))
      session.bindOutputs(new Map([['y', new Float32Array(1)]]))
      await session.run()
      await session.release()`
    const env = { PATH: process.env.PATH, HOME: directory, TMPDIR: directory, TSX_DISABLE_CACHE: '1' }
    execFileSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
      cwd: root,
      env,
    })
    expect(readdirSync(directory)).toEqual([])
  } finally {
    rmSync(directory, { recursive: true })
  }
})
