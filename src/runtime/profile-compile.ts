/** Says what compiling costs: once how long the training step took, and when new batch shapes make it a habit. */
import type { Program } from '../compiler/program.js'

/** Shapes that a job may well have: whole batches, a last one, an evaluation's. */
const MANY = 8

export class CompileReport {
  private readonly shapes = { training: [] as string[], forward: [] as string[] }

  /** @param say is given single lines */
  constructor(private readonly say: (line: string) => void) {}

  compiled(kind: 'training' | 'forward', shape: string, { traceMs, compileMs }: Program): void {
    const shapes = this.shapes[kind]
    shapes.push(shape)
    const total = seconds(compileMs)
    if (kind === 'training' && shapes.length === 1) {
      this.say(
        `the training step was compiled in ${total}: traced in ${seconds(traceMs)}, built in ${seconds(compileMs - traceMs)}`,
      )
    }
    if (shapes.length !== MANY + 1) return
    const what = kind === 'training' ? 'the training step' : 'the forward pass'
    this.say(
      `${what} has been compiled for ${shapes.length} batch shapes, the last time in ${total} (${shapes.slice(-3).join('; ')}; …): ` +
        'leave out incomplete batches ({ dropLast: true }), or pad samples to a few lengths',
    )
  }
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`
