/** onnxruntime-node as it is installed here: loading it, and the execution providers that it can have. */
import { LockstepError } from '../errors.js'

export type Ort = typeof import('onnxruntime-node')

/** Where a session's kernels run; what a provider has no kernel for runs on the cpu. */
export const PROVIDERS = ['cpu', 'webgpu', 'cuda'] as const
export type Provider = (typeof PROVIDERS)[number]

let loading: Promise<Ort> | undefined

/** onnxruntime-node, which npm silently leaves out when its install script cannot reach the network. */
export function loadOrt(): Promise<Ort> {
  // It would otherwise write a device id and logs to the home and temporary directories, and report to its maker.
  process.env.ORT_DISABLE_TELEMETRY ??= '1'
  loading ??= import('onnxruntime-node').catch((cause) => {
    throw new LockstepError(
      'onnxruntime-node is not installed or does not load; install it with: ' +
        'ONNXRUNTIME_NODE_INSTALL=skip npm install onnxruntime-node',
      { cause },
    )
  })
  return loading
}
