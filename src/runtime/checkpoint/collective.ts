/**
 * Work that rank 0 does for all: writing a checkpoint, reading one. Every rank waits, and ends with rank 0's result or
 * its error, so that none goes on alone. Moves small JSON only; tensors are broadcast by whoever owns their buffers.
 */
import { setTimeout } from 'node:timers/promises'
import type { Communicator } from '../../collectives/communicator.js'
import { LockstepError } from '../../errors.js'
import type { Json } from './checkpoints.js'

// Sent in place of a length. Waiting ranks give up after LOCKSTEP_TIMEOUT without progress, which no disk knows of.
const STILL_WORKING = -1
const STILL_WORKING_MS = 500

type Links = Pick<Communicator, 'rank' | 'broadcast'>
type Outcome<T> = { readonly value: T } | { readonly error: unknown }
type Message<T> = { readonly value: T } | { readonly error: string; readonly bug: boolean }

/**
 * Called by all ranks; `work` runs on rank 0, and all return its result.
 * @throws on rank 0 what `work` threw; on the others a LockstepError of the same message when it was one, else an
 *   Error that names rank 0; and what the communicator throws.
 */
export async function onRankZero<T extends Json>(links: Links, work: () => Promise<T>): Promise<T> {
  if (links.rank === 0) {
    const outcome = await keepingOthersWaiting(links, attempt(work))
    await sendText(links, JSON.stringify(toMessage(outcome)))
    if ('error' in outcome) throw outcome.error
    return outcome.value
  }
  const message: Message<T> = JSON.parse(await receiveText(links))
  if ('value' in message) return message.value
  throw message.bug ? new Error(`rank 0: ${message.error}`) : new LockstepError(message.error)
}

async function keepingOthersWaiting<T>(links: Links, result: Promise<T>): Promise<T> {
  const pause = () => setTimeout(STILL_WORKING_MS, undefined, { ref: false })
  for (;;) {
    const done = await Promise.race([result.then((value) => ({ value })), pause()])
    if (done) return done.value
    await links.broadcast(Int32Array.of(STILL_WORKING), 0)
  }
}

async function attempt<T>(work: () => Promise<T>): Promise<Outcome<T>> {
  try {
    return { value: await work() }
  } catch (error) {
    return { error }
  }
}

function toMessage<T>(outcome: Outcome<T>): Message<T> {
  if ('value' in outcome) return outcome
  const { error } = outcome
  return {
    error: error instanceof Error ? error.message : String(error),
    bug: !(error instanceof LockstepError),
  }
}

/** Its length first, so that the receivers can make room, then UTF-8. */
async function sendText(links: Links, text: string): Promise<void> {
  const bytes = new TextEncoder().encode(text)
  await links.broadcast(Int32Array.of(bytes.length), 0)
  await links.broadcast(bytes, 0)
}

async function receiveText(links: Links): Promise<string> {
  const length = Int32Array.of(STILL_WORKING)
  while (length[0] === STILL_WORKING) await links.broadcast(length, 0)
  const bytes = new Uint8Array(length[0]!)
  await links.broadcast(bytes, 0)
  return new TextDecoder().decode(bytes)
}
