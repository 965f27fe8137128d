/** What a timeline says of the last steps of a job: how long each took, and how much of it the ranks waited. Pure. */

export interface Steps {
  /** Rank 0's, which all others' equal up to who waits for whom. */
  readonly ms: readonly number[]
  /** Of all ranks' time in these steps, that in which gradients were waited for. */
  readonly communicationShare: number
}

interface Drawn {
  readonly ph: string
  readonly pid: number
  readonly cat?: string
  readonly name: string
  readonly ts: number
  readonly dur: number
  readonly args: { readonly step?: number }
}

/** @param trace what `ddp-launch --timeline` has written. @param count steps, from the last back */
export function lastSteps(trace: object, count: number): Steps {
  const events = (trace as { traceEvents: readonly Drawn[] }).traceEvents.filter(({ cat }) => cat === 'step')
  let [waited, total] = [0, 0]
  const ranks = [...new Set(events.map(({ pid }) => pid))].map((rank) => {
    const own = events.filter(({ pid }) => pid === rank)
    const steps = own.filter(({ args }) => args.step !== undefined).slice(-count)
    const from = steps[0]?.ts ?? Number.POSITIVE_INFINITY
    for (const { dur } of steps) total += dur
    for (const { ts, dur, name } of own) if (name === 'exchange' && ts >= from) waited += dur
    return { rank, ms: steps.map(({ dur }) => dur / 1000) }
  })
  return { ms: ranks.find(({ rank }) => rank === 0)?.ms ?? [], communicationShare: waited / total }
}
