/**
 * The compiled engine until a model turns out not to be traceable; from then on the eager one, which says so once. What
 * fails eagerly too fails with the compiler's error, which names op and layer.
 */
import * as tf from '@tensorflow/tfjs-core'
import { ForeignVariableError, UntraceableError } from '../../compiler/recorder.js'
import type { Input } from '../batch.js'
import type { Engine } from './engine.js'

export class FallbackEngine implements Engine {
  private engine: Engine

  /** @param warn is called at most once, with one line */
  constructor(
    private readonly compiled: Engine,
    private readonly eager: Engine,
    private readonly warn: (line: string) => void,
  ) {
    this.engine = compiled
  }

  get name() {
    return this.engine.name
  }

  get compileMs(): number {
    return this.compiled.compileMs
  }

  train(...pass: Parameters<Engine['train']>) {
    return this.orEagerly((engine) => engine.train(...pass))
  }

  evaluate(x: readonly Input[], y: readonly Input[]) {
    return this.orEagerly((engine) => engine.evaluate(x, y))
  }

  predict(x: readonly Input[]) {
    return this.orEagerly((engine) => engine.predict(x))
  }

  constrain(): Promise<void> {
    return this.orEagerly((engine) => engine.constrain())
  }

  letGo(): Promise<void> {
    return this.engine.letGo()
  }

  async release(): Promise<void> {
    await this.compiled.release()
    await this.eager.release()
  }

  private async orEagerly<T>(pass: (engine: Engine) => Promise<T>): Promise<T> {
    if (this.engine === this.eager) return pass(this.eager)
    try {
      return await pass(this.compiled)
    } catch (error) {
      if (!(error instanceof UntraceableError) || error instanceof ForeignVariableError) throw error
      const result = await pass(this.eager).catch(() => {
        throw error
      })
      this.engine = this.eager
      await this.compiled.release()
      this.warn(
        `this model cannot be compiled and runs eagerly on TensorFlow.js backend ${tf.getBackend()}, many times slower: ` +
          error.message,
      )
      return result
    }
  }
}
