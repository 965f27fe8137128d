/** Which of a place's checkpoints one is meant, and which may go. Reads their metrics; it reads no tensors. */
import { LockstepError } from '../../errors.js'
import { bestOf, expendable, type Metric } from './retention.js'
import { DamagedError, explainingIo, type Storage, type Stored } from './storage.js'
import { readText } from './sums.js'

export const STATE = 'state.json'

/** Which one to read; the newest undamaged one where nothing is said. */
export interface Which {
  /** The one of this step. */
  readonly step?: number | undefined
  /** The best by the metric of this name. */
  readonly best?: string | undefined
}

/** In the order in which they are to be tried. @throws LockstepError when the one asked for is not among `all`. */
export async function choose(
  storage: Storage,
  all: readonly Stored[],
  { step, best }: Which,
  location: string,
): Promise<readonly Stored[]> {
  if (step === undefined && best === undefined) return all
  const chosen =
    best === undefined ? all.find((stored) => stored.step === step) : bestOf(await rated(storage, all), best)
  if (chosen !== undefined) return [chosen]
  const asked = best === undefined ? `of step ${step}` : `with a metric ${best}`
  throw new LockstepError(
    `${location} has no checkpoint ${asked}: its steps are ${all.map((stored) => stored.step).join(', ')}; ` +
      'load one of them, or the newest by asking for none',
  )
}

/** Deletes all that may go. @throws LockstepError when it cannot. */
export async function removeOld(
  storage: Storage,
  keepLast: number,
  written: number,
  location: string,
): Promise<void> {
  const advice = 'see that this process may delete there, or save without keepLast'
  await explainingIo(`cannot remove old checkpoints in ${location}`, advice, async () => {
    const all = await storage.list()
    if (all.length <= keepLast) return
    for (const { path } of expendable(await rated(storage, all), keepLast, written))
      await storage.remove(path)
  })
}

/** With their metrics. One whose state cannot be read has none. */
function rated(storage: Storage, all: readonly Stored[]): Promise<(Stored & { metric?: Metric })[]> {
  return Promise.all(
    all.map(async (stored) => {
      const { metric } = await readState(storage, stored.path).catch((error): { metric?: Metric } => {
        if (error instanceof DamagedError) return {}
        throw error
      })
      return metric === undefined ? stored : { ...stored, metric }
    }),
  )
}

async function readState(storage: Storage, path: string): Promise<{ metric?: Metric }> {
  const text = await storage.read(path, STATE, readText)
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new DamagedError(`${path}/${STATE} is not JSON`, { cause })
  }
}
