/** What a user reads who has no onnxruntime-node: npm leaves it out when its install script fails. */
import { expect, test, vi } from 'vitest'
import { Session } from '../../src/compiler/session.js'
import { LockstepError } from '../../src/errors.js'

vi.mock('onnxruntime-node', () => {
  throw new Error("Cannot find package 'onnxruntime-node'")
})

test('a missing onnxruntime-node is one line with the command that mends it', async () => {
  const graph = { nodes: [], constants: [], inputs: [], outputs: [] }
  const failure = await Session.create(graph, { threads: 1 }).catch((error: unknown) => error)
  expect(failure).toBeInstanceOf(LockstepError)
  const { message } = failure as LockstepError
  expect(message).toContain('ONNXRUNTIME_NODE_INSTALL=skip npm install onnxruntime-node')
  expect(message).not.toContain('\n')
})
