/** float32 to bfloat16 and float16 and back: PyTorch's bits, for every 16-bit number and for what rounds to it. */
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { expectSame, filled, LENGTHS, onBoth } from './suite.js'

const golden: { float32: number[]; bfloat16: number[]; float16: number[] } = JSON.parse(
  readFileSync(new URL('golden/half.json', import.meta.url), 'utf8'),
)

const FORMATS = [
  { name: 'bfloat16', to: 'toBfloat16', from: 'fromBfloat16', add: 'addBfloat16', infinity: 0x7f80 },
  { name: 'float16', to: 'toFloat16', from: 'fromFloat16', add: 'addFloat16', infinity: 0x7c00 },
] as const
const ALL = Uint16Array.from({ length: 65_536 }, (_, i) => i)

onBoth('half precision', (loaded) => {
  test.each(FORMATS)('$name: what PyTorch makes of float32', ({ name, to, infinity }) => {
    const { half, place } = loaded()
    const source = place(new Float32Array(Uint32Array.from(golden.float32).buffer))
    const dst = place(new Uint16Array(source.length))
    half[to](dst, source)
    golden[name].forEach((expected, i) => {
      const nan = (bits: number) => (bits & 0x7fff) > infinity // PyTorch's payloads differ from one CPU to the next
      if (nan(expected)) expect(nan(dst[i]!)).toBe(true)
      else expect([golden.float32[i], dst[i]]).toEqual([golden.float32[i], expected])
    })
  })

  test.each(FORMATS)('$name: all 65,536 numbers survive the way to float32 and back', (format) => {
    const { half, place } = loaded()
    const [all, floats] = [place(ALL), place(new Float32Array(ALL.length))]
    const back = place(new Uint16Array(ALL.length))
    half[format.from](floats, all)
    half[format.to](back, floats)
    for (let i = 0; i < ALL.length; i++) {
      if (Number.isNaN(floats[i])) expect(back[i]! & 0x7fff).toBeGreaterThan(format.infinity)
      else if (back[i] !== i) throw new Error(`${i} came back as ${back[i]}`)
    }
    expect(floats.filter(Number.isNaN)).toHaveLength(format.name === 'float16' ? 2 * 1023 : 2 * 127)
    expect(floats[format.infinity]).toBe(Number.POSITIVE_INFINITY)
    expect(floats[format.infinity | 0x8000]).toBe(Number.NEGATIVE_INFINITY)
  })

  test.each(FORMATS)('$name: no other number is nearer', ({ to, from, infinity }) => {
    const { half, place } = loaded()
    const [x, y] = [place(new Float32Array(1)), place(new Float32Array(3))]
    const [bits, neighbours] = [place(new Uint16Array(1)), place(new Uint16Array(3))]
    fc.assert(
      fc.property(fc.float({ noNaN: true, min: -65_000, max: 65_000 }), (value) => {
        x[0] = value
        half[to](bits, x)
        const magnitude = bits[0]! & 0x7fff
        neighbours.set([magnitude, Math.max(magnitude - 1, 0), Math.min(magnitude + 1, infinity)])
        half[from](y, neighbours)
        const [here, below, above] = [...y].map((candidate) => Math.abs(Math.abs(value) - candidate))
        expect(here).toBeLessThanOrEqual(Math.min(below!, above!))
        if ((here === below && magnitude > 0) || here === above) expect(magnitude % 2).toBe(0)
      }),
    )
  })

  test.each(FORMATS)('$name: any length, converted and accumulated', ({ to, from, add }) => {
    const { half, place } = loaded()
    for (const length of LENGTHS) {
      const [source, sum] = [place(filled(length, 1)), place(filled(length, 2))]
      const [packed, floats] = [place(new Uint16Array(length)), place(new Float32Array(length))]
      half[to](packed, source)
      half[from](floats, packed)
      const expected = sum.map((x, i) => x + floats[i]!)
      half[add](sum, packed)
      expectSame(sum, expected)
      // The same elements one by one, which takes the path of what is left over.
      for (const i of [0, 1, 7, length - 1].filter((i) => i >= 0 && i < length)) {
        const [one, bits] = [place(source.slice(i, i + 1)), place(new Uint16Array(1))]
        half[to](bits, one)
        expect(bits[0]).toBe(packed[i])
      }
    }
  })

  test('buffers of different lengths are refused', () => {
    const { half } = loaded()
    for (const format of FORMATS) {
      expect(() => half[format.to](new Uint16Array(3), new Float32Array(4))).toThrow(RangeError)
      expect(() => half[format.add](new Float32Array(3), new Uint16Array(4))).toThrow(RangeError)
    }
  })
})
