/**
 * How fast gradients are compressed and restored, on one core: codecs in GiB of float32 a second, top-k in milliseconds (of a step
 * that the one before has told where to look).
 *
 *   npm run -s bench:compression [-- --save]
 */
import { parseArgs } from 'node:util'
import { bytesOf, type Codec } from '../src/collectives/compression/codec.js'
import { bfloat16, float16 } from '../src/collectives/compression/codecs/half.js'
import { int4 } from '../src/collectives/compression/codecs/int4.js'
import { int8 } from '../src/collectives/compression/codecs/int8.js'
import { sign } from '../src/collectives/compression/codecs/sign.js'
import { floatsAndBytes } from '../src/collectives/compression/room.js'
import { roomFor, Selection } from '../src/collectives/compression/select.js'
import { formatTable } from '../src/observe/table.js'
import { circumstances, rounded, saveResult } from './record.js'

const ELEMENTS = 25 * 2 ** 20
const RUNS = 9
const RATIO = 0.01

const { values } = parseArgs({ options: { save: { type: 'boolean', default: false } } })

const k = Math.round(RATIO * ELEMENTS)
const candidates = roomFor(ELEMENTS, k)
const { floats, bytes } = floatsAndBytes(
  [ELEMENTS, ELEMENTS, candidates],
  [4 * ELEMENTS, 4 * candidates, 4 * 2048],
)
const [gradient, restored, found] = floats as [Float32Array, Float32Array, Float32Array]
const [codes, positions, counts] = bytes as [Uint8Array, Uint8Array, Uint8Array]
for (let i = 0; i < ELEMENTS; i++) gradient[i] = Math.sin(i * 7.3) * Math.exp(3 * Math.sin(i * 0.37))

/** Of the fastest run: others share the machine. */
function milliseconds(run: () => void): number {
  let least = Number.POSITIVE_INFINITY
  for (let i = 0; i < RUNS; i++) {
    const start = performance.now()
    run()
    least = Math.min(least, performance.now() - start)
  }
  return least
}

const gibPerSecond = (ms: number) => rounded((4 * ELEMENTS) / 2 ** 30 / (ms / 1000), 1)

const rows = [float16, bfloat16, int8, int4, sign].map((codec: Codec) => {
  const part = codes.subarray(0, bytesOf(codec, ELEMENTS))
  return {
    codec: codec.name,
    compressGiBs: gibPerSecond(milliseconds(() => codec.compress(part, gradient))),
    decompressGiBs: gibPerSecond(milliseconds(() => codec.decompress(restored, part))),
    accumulateGiBs: gibPerSecond(milliseconds(() => codec.accumulate(restored.fill(0), part))),
  }
})
const words = ({ buffer, byteOffset, length }: Uint8Array) => new Uint32Array(buffer, byteOffset, length / 4)
const selection = new Selection({ values: found, positions: words(positions), counts: words(counts) })
const select = () => {
  selection.begin(ELEMENTS, k)
  selection.look(gradient, 0)
  selection.largest(gradient, k)
}
const topkMs = rounded(milliseconds(select))
const copyGiBs = gibPerSecond(milliseconds(() => restored.set(gradient)))

const head = ['codec', 'compress GiB/s', 'decompress GiB/s', 'zero and accumulate GiB/s']
console.log(formatTable([head, ...rows.map((row) => Object.values(row).map(String))]).join('\n'))
console.log(`top-k ${RATIO} of ${ELEMENTS} elements: ${topkMs} ms; a plain copy: ${copyGiBs} GiB/s`)
if (values.save) {
  const command = 'npm run -s bench:compression -- --save'
  saveResult('compression', { ...circumstances(command), elements: ELEMENTS, rows, topkMs, copyGiBs })
}
