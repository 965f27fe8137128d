/** Which engine computes: what the script's options ask for, unless --engine says otherwise. It runs nothing. */
import { PROVIDERS, type Provider } from '../../compiler/onnxruntime.js'
import { PRECISIONS, type Precision } from '../../compiler/precision.js'
import type { Streaming } from '../../compiler/streaming.js'
import { LockstepError } from '../../errors.js'
import { type EngineSetting, readEngine } from '../environment/variables.js'
import type { Model } from '../model.js'
import type { Parameters } from '../parameters.js'
import type { Engine, ProgramWatch } from './engine.js'
import { FallbackEngine } from './fallback.js'
import { OnnxEngine } from './onnx.js'
import { type RecomputeOption, recomputeOf } from './recompute.js'
import { TfjsEngine } from './tfjs.js'

export interface EngineOptions {
  /** `auto` (default): compiled by onnxruntime, or eagerly by TensorFlow.js where a model cannot be compiled. */
  readonly engine?: 'auto' | 'onnx' | 'tfjs'
  /** Where onnxruntime computes; `auto` (default): on CUDA where it is installed and starts, else on the cpu. */
  readonly provider?: Provider | 'auto'
  /**
   * What matrix products and convolutions compute in, as under torch.autocast (docs/precision.md): float32 (default), bfloat16
   * or float16, with everything else in float32: parameters and gradients too, but for what `zero` shares. The same on every
   * rank.
   */
  readonly precision?: Precision
  /**
   * Keep few activations for the backward pass, and compute the others again when it gets there (docs/recompute.md): less memory
   * for at most one forward pass more, and the same training. True: where least is needed; or into how many segments.
   */
  readonly recompute?: RecomputeOption
}

/**
 * @param warn is given one line when the model has to run eagerly, or a precision is not what computes
 * @param streaming brings trainable parameters, of which each rank holds a part; then nothing runs eagerly
 * @throws LockstepError for an engine or a provider that there is not
 */
export function chooseEngine(
  model: Model,
  parameters: Parameters,
  options: EngineOptions,
  threads: number,
  warn: (line: string) => void,
  watch?: ProgramWatch,
  streaming?: Streaming,
  setting = readEngine(),
): Engine {
  const { engine = 'auto', provider = 'auto' } = setting === undefined ? options : optionsOf(setting)
  oneOf('engine', engine, ['auto', 'onnx', 'tfjs'])
  oneOf('provider', provider, ['auto', ...PROVIDERS])
  const { precision = 'float32' } = options
  oneOf('precision', precision, PRECISIONS)
  if (engine === 'tfjs' && provider !== 'auto') {
    throw new LockstepError(
      `provider ${provider} was given for engine tfjs, which computes on the TensorFlow.js backend that is registered: ` +
        'leave provider out, or use engine onnx',
    )
  }
  if (engine === 'tfjs' && precision !== 'float32')
    throw new LockstepError(
      `engine tfjs computes in float32: leave precision ${precision} out, or use engine onnx`,
    )
  const recompute = recomputeOf(options.recompute)
  if (engine === 'tfjs' && recompute)
    throw new LockstepError('engine tfjs keeps all activations: leave recompute out, or use engine onnx')
  if (engine === 'tfjs' && streaming)
    throw new LockstepError(
      'engine tfjs needs all parameters at once: use zero 0, 1 or 2 with it, or engine onnx',
    )
  if (engine === 'tfjs') return new TfjsEngine(model, parameters)
  const precisely = { precision, warn }
  const compiled = new OnnxEngine(
    model,
    parameters,
    threads,
    provider,
    watch,
    streaming,
    precisely,
    recompute,
  )
  // The eager engine computes in float32 only.
  if (engine === 'onnx' || streaming || precision !== 'float32') return compiled
  return new FallbackEngine(compiled, new TfjsEngine(model, parameters), warn)
}

/** `onnx:webgpu` → engine onnx, provider webgpu. */
export function optionsOf(setting: EngineSetting): EngineOptions {
  const [engine, provider] = setting.split(':')
  return { engine, ...(provider !== undefined && { provider }) } as EngineOptions
}

function oneOf(what: string, given: string, known: readonly string[]): void {
  if (known.includes(given)) return
  throw new LockstepError(`${what} is ${JSON.stringify(given)}: expected ${known.join(', ')}`)
}
