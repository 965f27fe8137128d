/**
 * The pipe on which a rank hands its metrics to the launcher, if the launcher has asked for them. Training never waits
 * for it: a report that the pipe has no room for is dropped.
 */
import { Socket } from 'node:net'
import { METRICS_FD_VARIABLE } from './variables.js'

/** @returns what sends one line; undefined when nobody has asked. Once per process. */
export function takeMetricsPipe(env: NodeJS.ProcessEnv = process.env): ((line: string) => void) | undefined {
  const descriptor = env[METRICS_FD_VARIABLE]
  // A child of this process would inherit the variable, but not the descriptor.
  delete env[METRICS_FD_VARIABLE]
  if (descriptor === undefined) return undefined
  const pipe = new Socket({ fd: Number(descriptor), readable: false, writable: true })
  pipe.unref()
  pipe.on('error', () => {}) // the launcher is gone, and takes this rank with it
  return (line) => {
    if (pipe.writable && pipe.writableLength === 0) pipe.write(`${line}\n`)
  }
}
