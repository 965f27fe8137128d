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
 * Takes SIGTERM over at the first call: a script that never asks ends at the signal, as any process does. Further ones
 * say the same (a scheduler signals ranks and launcher, which then signals ranks again): a rank that takes too long is
 * ended by SIGKILL. Once per process, however many copies of the package there are.
 */
export async function stopRequested(): Promise<boolean> {
  const registry = globalThis as { [STATE]?: State }
  let state = registry[STATE]
  if (state === undefined) {
    const made = { isAsked: false }
    process.on('SIGTERM', () => {
      made.isAsked = true
    })
    registry[STATE] = made
    state = made
  }
  // Signals arrive between turns of the event loop, and a training loop may go on for long without one.
  await setImmediate()
  return state.isAsked
}

/** Whether this process was; undefined when its script never asks. */
export function wasAskedToStop(): boolean | undefined {
  return (globalThis as { [STATE]?: State })[STATE]?.isAsked
}
