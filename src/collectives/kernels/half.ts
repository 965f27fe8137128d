/**
 * float32 to and from bfloat16 and IEEE float16, kept as Uint16Array: rounded to nearest, ties to even; infinities stay
 * and so do NaN. SIMD where both buffers lie in one Arena, else scalar with the same bits.
 * All throw RangeError when the lengths differ.
 */
import { simd } from './binding.js'
import { Bfloat16Bits, type HalfArray } from './half-arrays.js'

/** dst = bfloat16 of src. */
export function toBfloat16(dst: Uint16Array, src: Float32Array): void {
  const kernels = simd(dst, src)
  if (kernels) kernels.toBfloat16(dst.byteOffset, src.byteOffset, dst.length)
  else for (let i = 0; i < dst.length; i++) dst[i] = bfloat16Bits(src[i]!)
}

/** dst = float32 of bfloat16 src, exactly. */
export function fromBfloat16(dst: Float32Array, src: Uint16Array): void {
  const kernels = simd(dst, src)
  if (kernels) kernels.fromBfloat16(dst.byteOffset, src.byteOffset, dst.length)
  else for (let i = 0; i < dst.length; i++) dst[i] = bfloat16Value(src[i]!)
}

/** dst[i] += src[i], src being bfloat16. */
export function addBfloat16(dst: Float32Array, src: Uint16Array): void {
  const kernels = simd(dst, src)
  if (kernels) kernels.addBfloat16(dst.byteOffset, src.byteOffset, dst.length)
  else for (let i = 0; i < dst.length; i++) dst[i]! += bfloat16Value(src[i]!)
}

/** dst = float16 of src; from 65,520 on it is infinity. */
export function toFloat16(dst: Uint16Array, src: Float32Array): void {
  const kernels = simd(dst, src)
  if (kernels) kernels.toFloat16(dst.byteOffset, src.byteOffset, dst.length)
  else for (let i = 0; i < dst.length; i++) dst[i] = float16Bits(src[i]!)
}

/** dst = float32 of float16 src, exactly. */
export function fromFloat16(dst: Float32Array, src: Uint16Array): void {
  const kernels = simd(dst, src)
  if (kernels) kernels.fromFloat16(dst.byteOffset, src.byteOffset, dst.length)
  else for (let i = 0; i < dst.length; i++) dst[i] = float16Value(src[i]!)
}

/** dst[i] += src[i], src being float16. */
export function addFloat16(dst: Float32Array, src: Uint16Array): void {
  const kernels = simd(dst, src)
  if (kernels) kernels.addFloat16(dst.byteOffset, src.byteOffset, dst.length)
  else for (let i = 0; i < dst.length; i++) dst[i]! += float16Value(src[i]!)
}

/** dst = src in the format of `dst`. */
export function toHalf(dst: HalfArray, src: Float32Array): void {
  if (dst instanceof Bfloat16Bits) toBfloat16(dst, src)
  else toFloat16(dst, src)
}

/** dst = float32 of src, exactly. */
export function fromHalf(dst: Float32Array, src: HalfArray): void {
  if (src instanceof Bfloat16Bits) fromBfloat16(dst, src)
  else fromFloat16(dst, src)
}

/** dst[i] += src[i]. */
export function addHalf(dst: Float32Array, src: HalfArray): void {
  if (src instanceof Bfloat16Bits) addBfloat16(dst, src)
  else addFloat16(dst, src)
}

// One float32 and its bits.
const value = new Float32Array(1)
const bits = new Uint32Array(value.buffer)

function bfloat16Bits(x: number): number {
  value[0] = x
  const u = bits[0]!
  // A NaN keeps its sign and its upper bits, and becomes quiet: rounding could carry it into an infinity.
  if (Number.isNaN(x)) return (u >>> 16) | 0x40
  return (u + 0x7fff + ((u >>> 16) & 1)) >>> 16
}

function bfloat16Value(x: number): number {
  bits[0] = x << 16
  return value[0]!
}

function float16Bits(x: number): number {
  value[0] = x
  const sign = (bits[0]! >>> 16) & 0x8000
  const magnitude = Math.abs(x)
  if (Number.isNaN(x)) return sign | 0x7e00
  if (magnitude >= 65_520) return sign | 0x7c00
  // Subnormal: units of 2^-24; 1024 of them are the bits of the smallest normal number.
  if (magnitude < 2 ** -14) return sign | roundEven(magnitude * 2 ** 24)
  const exponent = (bits[0]! >>> 23) & 255
  const mantissa = roundEven((bits[0]! & 0x7fffff) / 2 ** 13)
  return sign | (((exponent - 112) << 10) + mantissa) // a mantissa of 1024 carries into the exponent, as it should
}

function float16Value(x: number): number {
  const sign = x & 0x8000 ? -1 : 1
  const exponent = (x >>> 10) & 31
  const mantissa = x & 1023
  if (exponent === 0) return sign * mantissa * 2 ** -24
  if (exponent < 31) return sign * (1 + mantissa / 1024) * 2 ** (exponent - 15)
  return mantissa ? Number.NaN : sign * Number.POSITIVE_INFINITY
}

/** The nearest whole number of `x` >= 0; the even one of two. */
function roundEven(x: number): number {
  const floor = Math.floor(x)
  const rest = x - floor
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor
}
