/** What a timeline says of the last steps of a job: how long each took, how much of it the ranks waited, what waiting was saved. Pure. */

export interface Steps {
  /** Rank 0's, which all others' equal up to who waits for whom. */
  readonly ms: readonly number[]
  /** Of all ranks' time in these steps, that in which gradients were waited for. */
  readonly communicationShare: number
  /** Undefined where gradients do not travel during the backward pass. */
  readonly hidden?: Hidden | undefined
}

/** Of the time that an exchange takes after the backward pass, as the first steps of the job tried it. */
export interface Hidden {
  /** What the pass hides of it. */
  readonly share: number
  /** What it could hide: as much as is computed once the first gradients are there. */
  readonly room: number
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
  const ranks = ranksIn(trace, count)
  const total = sum(ranks.flatMap(({ last }) => last.map(({ dur }) => dur)))
  const waited = sum(ranks.flatMap(({ own, last }) => last.map((step) => waitIn(own, step))))
  return {
    ms: ranks.find(({ rank }) => rank === 0)?.last.map(({ dur }) => dur / 1000) ?? [],
    communicationShare: waited / total,
    hidden: hiddenBy(ranks),
  }
}

/** Means over all ranks and the last `count` steps, in ms: how long gradients are waited for, and segments after the first compute. */
export function exposure(
  trace: object,
  count: number,
): { readonly waitMs: number; readonly laterMs: number } {
  const ranks = ranksIn(trace, count)
  const perStep = (of: typeof waitIn) =>
    mean(ranks.flatMap(({ own, last }) => last.map((step) => of(own, step))))
  return { waitMs: perStep(waitIn) / 1000, laterMs: perStep(laterSegmentsIn) / 1000 }
}

function ranksIn(trace: object, count: number) {
  const { traceEvents } = trace as { traceEvents: readonly Drawn[] }
  return [...new Set(traceEvents.map(({ pid }) => pid))].map((rank) => {
    const own = traceEvents.filter(({ pid, cat }) => pid === rank && (cat === 'step' || cat === 'pass'))
    const steps = own.filter(({ args, cat }) => cat === 'step' && args.step !== undefined)
    return { rank, own, steps, last: steps.slice(-count) }
  })
}

function hiddenBy(
  ranks: readonly { own: readonly Drawn[]; steps: readonly Drawn[]; last: readonly Drawn[] }[],
): Hidden | undefined {
  const [after, during, passes] = [[], [], []] as [number[], number[], number[]]
  for (const { own, steps, last } of ranks) {
    const trial = own.find(({ name }) => name.startsWith('tried after the backward pass'))
    if (trial === undefined) return undefined
    // The first of them compiles.
    const tried = steps.filter((step) => isIn(step, trial)).slice(1)
    after.push(...tried.map((step) => waitIn(own, step)))
    during.push(...last.map((step) => waitIn(own, step)))
    passes.push(...last.map((step) => laterSegmentsIn(own, step)))
  }
  const whole = mean(after)
  if (!(whole > 0) || mean(passes) === 0) return undefined
  return { share: Math.max(0, 1 - mean(during) / whole), room: Math.min(1, mean(passes) / whole) }
}

/** Whether it begins in it. */
const isIn = ({ ts }: Drawn, around: Drawn) => ts >= around.ts && ts < around.ts + around.dur

const waitIn = (events: readonly Drawn[], step: Drawn) =>
  sum(events.filter((event) => event.name === 'exchange' && isIn(event, step)).map(({ dur }) => dur))

const laterSegmentsIn = (events: readonly Drawn[], step: Drawn) =>
  sum(
    events
      .filter((event) => /^segment ([2-9]|\d{2,})$/.test(event.name) && isIn(event, step))
      .map(({ dur }) => dur),
  )

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0)
const mean = (values: readonly number[]) => sum(values) / values.length
