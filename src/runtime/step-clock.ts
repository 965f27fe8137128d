/** Who is told what a step is doing: several at once, or nobody, which costs nothing. */
import type { StepOutcome, StepPart } from '../observe/metrics.js'

export interface StepClock {
  /** What was done since the last mark was `part`. */
  mark(part: StepPart): void
  endStep(outcome: StepOutcome): void
}

/** All of those that there are as one. */
export function joinClocks(...all: readonly (StepClock | undefined)[]): StepClock | undefined {
  const clocks = all.filter((clock) => clock !== undefined)
  if (clocks.length < 2) return clocks[0]
  return {
    mark: (part) => {
      for (const clock of clocks) clock.mark(part)
    },
    endStep: (outcome) => {
      for (const clock of clocks) clock.endStep(outcome)
    },
  }
}
