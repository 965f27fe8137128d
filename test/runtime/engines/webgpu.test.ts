/**
 * onnxruntime's WebGPU provider beside its cpu provider: `npm run test:webgpu`. It needs a Vulkan driver; without a GPU
 * SwiftShader will do: VK_DRIVER_FILES=/usr/lib/chromium/vk_swiftshader_icd.json (Debian: chromium-common, libvulkan1).
 */
import { describe, expect, test } from 'vitest'
import { resolveProvider } from '../../../src/compiler/providers.js'
import { cases, train } from './cases.js'

/** Why there is nothing to test; undefined where there is. */
const missing = process.env.TEST_WEBGPU
  ? await resolveProvider('webgpu').then(
      () => undefined,
      (error: Error) => error.message,
    )
  : 'npm run test:webgpu'

describe.skipIf(missing)(`on WebGPU${missing === undefined ? '' : `: ${missing}`}`, () => {
  test.each(Object.entries(cases))(
    '%s: the same losses to 1e-3',
    async (_, given) => {
      const cpu = await train(given, { engine: 'onnx', provider: 'cpu' }, 1, 2)
      const webgpu = await train(given, { engine: 'onnx', provider: 'webgpu' }, 1, 2)
      webgpu.losses.forEach((loss, i) => {
        expect(Math.abs(loss - cpu.losses[i]!)).toBeLessThan(1e-3)
      })
      webgpu.predictions.forEach((n, i) => {
        expect(Math.abs(n - cpu.predictions[i]!)).toBeLessThan(1e-2)
      })
    },
    600_000,
  )

  test('float16: near to float32, or one line that says what the device lacks (SwiftShader: shader-f16)', async () => {
    const given = cases['convolutions and max-pooling']!
    const webgpu = { engine: 'onnx', provider: 'webgpu' } as const
    const half = await train(given, { ...webgpu, precision: 'float16' }, 1, 2).catch((error: Error) => error)
    if (half instanceof Error) {
      expect(half.message).toMatch(/^precision float16: onnxruntime's webgpu provider cannot .*f16/)
      return
    }
    const whole = await train(given, webgpu, 1, 2)
    half.losses.forEach((loss, i) => {
      expect(Math.abs(loss - whole.losses[i]!)).toBeLessThan(1e-2)
    })
  }, 600_000)
})
