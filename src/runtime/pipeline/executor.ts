/**
 * Runs a rank's list of actions, whatever schedule it is from. Transfers go on beside what is computed; a pass awaits the
 * recv that it needs, and gives the event loop one turn before it takes the thread. It knows neither tensors nor ranks.
 */
import type { Action } from './schedules.js'

/** What each kind of action does. A recv and a send settle when they are done, a pass blocks the thread meanwhile. */
export type Handlers = Readonly<Record<Action['kind'], (stage: number, microBatch: number) => Promise<void>>>

/** Of one run, in milliseconds. */
export interface Times {
  readonly computing: number
  readonly all: number
}

const awaitedBy = { recvActivation: 'forward', recvGradient: 'backward' } as const

export async function execute(actions: readonly Action[], handlers: Handlers): Promise<Times> {
  const start = performance.now()
  const arriving = new Map<string, Promise<void>>()
  const transfers: Promise<void>[] = []
  let computing = 0
  for (const { kind, stage, microBatch } of actions) {
    if (kind === 'forward' || kind === 'backward') {
      await arriving.get(`${kind} ${stage} ${microBatch}`)
      const began = performance.now()
      await handlers[kind](stage, microBatch)
      computing += performance.now() - began
      continue
    }
    const moving = handlers[kind](stage, microBatch)
    moving.catch(() => {}) // thrown where it is awaited
    transfers.push(moving)
    if (kind === 'recvActivation' || kind === 'recvGradient')
      arriving.set(`${awaitedBy[kind]} ${stage} ${microBatch}`, moving)
  }
  await Promise.all(transfers)
  return { computing, all: performance.now() - start }
}
