/**
 * Max-pooling of blocked images by windows that tile them, and its gradient without positions: onnxruntime's max-pooling
 * takes fifty times as long when it has to say where the maxima were.
 *
 * A window's first maximum, row by row, is found from the maxima of its upper left corners, each a pooling of its own.
 */
import type { Builder } from '../builder.js'
import { sizeOf, type Value } from '../graph.js'
import { BLOCKED_DOMAIN, onnxType } from '../onnx.js'
import type { Sliding } from './window.js'

/** Whether windows of x, an image whose channels fill blocks, cover every pixel once. */
export function tiles(b: Builder, x: Value, { window, image, positions }: Sliding): boolean {
  const { kernel_shape, strides, pads } = window
  return (
    x.shape.length === 4 &&
    b.blocks(x.shape[3]!) &&
    pads.every((n) => n === 0) &&
    strides.every((n, axis) => n === kernel_shape[axis] && n * positions[axis]! === image[axis])
  )
}

/** The maximum of the upper left `corner` of every window; of the whole window when that is its size. */
export function cornerMax(b: Builder, x: Value, { window }: Sliding, corner = window.kernel_shape): string {
  const attributes = { kernel_shape: corner, strides: window.strides, pads: [0, 0, 0, 0] }
  return b.once(`corner ${x.id} ${window.strides} ${corner}`, () =>
    b.add('MaxPool', [b.blockedAsFour(x)], attributes, BLOCKED_DOMAIN),
  )
}

/** Defines `output`, shaped like x: each window's dy (as four dimensions) at its first maximum, zeros elsewhere. */
export function defineTiledGrad(b: Builder, output: Value, dy: string, x: Value, sliding: Sliding): void {
  const [height, width] = sliding.window.kernel_shape as [number, number]
  const columns = sliding.positions[1]!
  const whole = cornerMax(b, x, sliding)
  /** `gradient` where the corner holds the window's maximum, and the rest of it. */
  const parted = (gradient: string, corner: number[]): [inside: string, outside: string] => {
    const isInside = b.add('Equal', [cornerMax(b, x, sliding, corner), whole])
    const inside = b.add('Mul', [b.add('Cast', [isInside], { to: onnxType.float32 }), gradient])
    return [inside, b.add('Sub', [gradient, inside])]
  }
  /** One gradient for each of `count` places in a row or a column, from corners that grow; the last gets the rest. */
  const dealt = (gradient: string, count: number, corner: (place: number) => number[]): string[] => {
    const places: string[] = []
    let rest = gradient
    for (let place = 1; place < count; place++) {
      const [inside, outside] = parted(rest, corner(place))
      places.push(inside)
      rest = outside
    }
    return [...places, rest]
  }
  const block = b.block!
  const rowsOfWindows = sizeOf(x.shape) / (height * width * columns * block)
  const bands = dealt(dy, height, (row) => [row, width]).map((gradient, row) => {
    const pixels = dealt(gradient, width, (column) => [row + 1, column])
    const shaped = pixels.map((name) => b.reshape(name, [rowsOfWindows, columns, block]))
    return b.add('Concat', shaped, { axis: 2 })
  })
  const [n, h, w, c] = x.shape as [number, number, number, number]
  b.defineBlocked(output, b.reshape(b.add('Concat', bands, { axis: 1 }), [n, c, h, w]))
}
