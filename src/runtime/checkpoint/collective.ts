/**
 * Work that rank 0 does for all, or each rank for itself: writing a checkpoint, reading one. Every rank waits, and ends with
 * the same result or error, so that none goes on alone. Moves small JSON only; tensors are broadcast by whoever owns their
 * buffers.
 */
import { setTimeout } from 'node:timers/promises'
import type { Communicator } from '../../collectives/communicator.js'
import { LockstepError } from '../../errors.js'
import type { Json } from './json.js'
import { DamagedError } from './storage.js'

// Sent in place of a length. Waiting ranks give up after LOCKSTEP_TIMEOUT without progress, which no disk knows of.
const STILL_WORKING = -1
const STILL_WORKING_MS = 500

type Links = Pick<Communicator, 'rank' | 'broadcast'>
type AllLinks = Pick<Communicator, 'rank' | 'size' | 'allGather' | 'allReduce'>
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

/**
 * Called by all ranks, each of which does its own work; settles when the last is done.
 * @throws on every rank the error of the first rank that failed, with its number: a DamagedError or a LockstepError where
 *   it was one, else an Error; and what the communicator throws.
 */
export async function onAllRanks(links: AllLinks, work: () => Promise<unknown>): Promise<void> {
  const result = attempt(work)
  if (links.size > 1) {
    for (let waiting = true; waiting; ) {
      const pause = setTimeout(STILL_WORKING_MS, undefined, { ref: false })
      const working = Int32Array.of((await Promise.race([result, pause])) === undefined ? 1 : 0)
      await links.allReduce(working, 'max')
      waiting = working[0] === 1
    }
  }
  const outcome = await result
  const failures = await allTexts(links, 'error' in outcome ? JSON.stringify(toFailure(outcome.error)) : '')
  const rank = failures.findIndex((failure) => failure !== '')
  if (rank === -1) return
  const failure: Failure = JSON.parse(failures[rank]!)
  const cause = 'error' in outcome ? { cause: outcome.error } : undefined
  const message = links.size > 1 ? `rank ${rank}: ${failure.error}` : failure.error
  if (failure.kind === 'damaged') throw new DamagedError(message, cause)
  throw failure.kind === 'user' ? new LockstepError(message, cause) : new Error(message, cause)
}

/** Every rank's text, in rank order. All ranks must call it together. */
export async function allTexts(links: AllLinks, text: string): Promise<string[]> {
  if (links.size === 1) return [text]
  const bytes = new TextEncoder().encode(text)
  const lengths = [...(await links.allGather(Int32Array.of(bytes.length)))]
  const all = (await links.allGather(bytes, lengths)) as Uint8Array
  let end = 0
  return lengths.map((length) => {
    end += length
    return new TextDecoder().decode(all.subarray(end - length, end))
  })
}

interface Failure {
  readonly error: string
  readonly kind: 'damaged' | 'user' | 'bug'
}

function toFailure(error: unknown): Failure {
  const kind = error instanceof DamagedError ? 'damaged' : error instanceof LockstepError ? 'user' : 'bug'
  return { error: error instanceof Error ? error.message : String(error), kind }
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
