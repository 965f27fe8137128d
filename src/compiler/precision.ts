/**
 * What a precision means on a provider: whether it has kernels of 16-bit types, asked of a session of one product, since
 * onnxruntime tells only when it is to run.
 */
import { LockstepError } from '../errors.js'
import type { Autocast } from './autocast.js'
import type { OnnxNode } from './onnx.js'
import type { Provider } from './onnxruntime.js'
import { Session } from './session.js'

/** What matrix products and convolutions compute in; parameters and gradients are float32 in any case. */
export const PRECISIONS = ['float32', 'bfloat16', 'float16'] as const
export type Precision = (typeof PRECISIONS)[number]

const probed = new Map<string, Promise<void>>()

/**
 * On the cpu provider, which has no kernels of 16-bit types, numbers are rounded: given float16 nodes it would leave the
 * casts out, and compute in float32 without saying so.
 * @returns undefined for float32
 * @throws LockstepError when another provider has no such kernels, or its device cannot run them
 */
export async function autocastOn(provider: Provider, precision: Precision): Promise<Autocast | undefined> {
  if (precision === 'float32') return undefined
  const wanted = { type: precision, native: provider !== 'cpu' }
  if (!wanted.native) return wanted
  const key = `${provider} ${precision}`
  const probing = probed.get(key) ?? probe(provider, wanted)
  probed.set(key, probing)
  await probing
  return wanted
}

async function probe(provider: Provider, { type }: Autocast): Promise<void> {
  const value = { name: 'x', type: 'float32' as const, shape: [2, 2] }
  const node = (op: string, inputs: string[], output: string, to?: number): OnnxNode => ({
    ...{ op, inputs, outputs: [output] },
    attributes: to === undefined ? {} : { to },
  })
  const graph = {
    nodes: [
      node('Cast', ['x'], 'half', type === 'float16' ? 10 : 16),
      node('MatMul', ['half', 'half'], 'product'),
      node('Cast', ['product'], 'y', 1),
    ],
    constants: [],
    inputs: [value],
    outputs: [{ ...value, name: 'y' }],
  }
  try {
    const session = await Session.create(graph, { threads: 1, provider, quiet: true })
    session.bindInputs(new Map([['x', Float32Array.of(1, 2, 3, 4)]]))
    session.bindOutputs(new Map([['y', new Float32Array(4)]]))
    await session.run()
    await session.release()
  } catch (cause) {
    const [line] = (cause as Error).message.trim().split('\n')
    const reason = line!.replace(/^.*(Status Message: (\S+:\d+ \w+ )?| was false\. )/, '').replace(/\.$/, '')
    const other = type === 'bfloat16' ? 'float16' : 'float32'
    throw new LockstepError(
      `precision ${type}: onnxruntime's ${provider} provider cannot compute in it here (${reason}): use precision ${other}, or ` +
        'provider cpu, which rounds as it would',
      { cause },
    )
  }
}
