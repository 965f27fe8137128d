/**
 * Whether this process has been asked to end: SIGTERM, which the launcher sends when it is interrupted itself, when the
 * machine is wanted back, or when nodes come and go. It refuses to know what other ranks have been asked.
 */
import { setImmediate } from 'node:timers/promises'

const STATE = Symbol.for('lockstep.stopRequest')

interface State {
  isAsked: boolean
}

/**
 * Takes SIGTERM over at the first call: a script that never asks ends at the signal, as any process does. A second
 * SIGTERM ends this one too. Once per process, however many copies of the package there are.
 */
export async function stopRequested(): Promise<boolean> {
  const registry = globalThis as { [STATE]?: State }
  let state = registry[STATE]
  if (state === undefined) {
    const made = { isAsked: false }
    process.once('SIGTERM', () => {
      made.isAsked = true
    })
    registry[STATE] = made
    state = made
  }
  // Signals arrive between turns of the event loop, and a training loop may go on for long without one.
  await setImmediate()
  return state.isAsked
}
