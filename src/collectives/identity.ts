/**
 * The runner of a group of one rank: every collective is the identity. No thread, no socket.
 */
import { bytesOf } from './call.js'
import type { Runner } from './task.js'

export const identity: Runner = {
  rank: 0,
  size: 1,
  bytesSent: 0,
  async run({ input, output }) {
    if (input && output && input.data !== output.data) bytesOf(output.data).set(bytesOf(input.data))
  },
  async close() {},
}
