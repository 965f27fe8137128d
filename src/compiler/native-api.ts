/**
 * onnxruntime's C interface, by koffi, in the library that onnxruntime-node has loaded. Functions are found by their number in
 * a table that only ever grows (onnxruntime_c_api.h, OrtApi). It knows nothing of sessions.
 */
import { readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { loadOrt } from './onnxruntime.js'

/** A pointer to something of onnxruntime's; 0n: to nothing. */
export type Handle = bigint

/** Number in the table and arguments: pointers (p), 32-bit integers (i), sizes (s), text (t). */
const FUNCTIONS = {
  CreateEnv: [3, 'itp'],
  CreateSessionFromArray: [8, 'ppspp'],
  Run: [9, 'ppppspsp'],
  CreateSessionOptions: [10, 'p'],
  EnableProfiling: [14, 'pt'],
  DisableMemPattern: [17, 'p'],
  SetSessionLogSeverityLevel: [22, 'pi'],
  SetIntraOpNumThreads: [24, 'pi'],
  SetInterOpNumThreads: [25, 'pi'],
  SessionGetOutputTypeInfo: [34, 'psp'],
  CreateTensorWithDataAsOrtValue: [49, 'ppspsip'],
  CastTypeInfoToTensorInfo: [55, 'pp'],
  GetTensorElementType: [60, 'pp'],
  GetDimensionsCount: [61, 'pp'],
  GetDimensions: [62, 'pps'],
  CreateCpuMemoryInfo: [69, 'iip'],
  GetAllocatorWithDefaultOptions: [78, 'p'],
  SessionEndProfiling: [110, 'ppp'],
  AddSessionConfigEntry: [130, 'ptt'],
} as const
/** Which give nothing back. */
const RELEASES = { MemoryInfo: 94, Session: 95, Value: 96, TypeInfo: 98, SessionOptions: 100 } as const
const GET_ERROR_MESSAGE = 2
const RELEASE_STATUS = 93
/** Of an interface that has all of these. */
const VERSION = 14

export interface NativeApi {
  /** @throws Error with onnxruntime's message */
  call(name: keyof typeof FUNCTIONS, ...args: readonly unknown[]): void
  /** The same for a function whose last argument, not given here, is a pointer to what it makes or finds. */
  make(name: keyof typeof FUNCTIONS, ...args: readonly unknown[]): Handle
  release(what: keyof typeof RELEASES, handle: Handle): void
  addressOf(data: ArrayBufferView): bigint
}

let loading: Promise<NativeApi | undefined> | undefined

/** Undefined where there is no koffi, on Windows, and where the library is not where it is expected. */
export function loadNativeApi(): Promise<NativeApi | undefined> {
  loading ??= load().catch(() => undefined)
  return loading
}

async function load(): Promise<NativeApi | undefined> {
  if (process.platform === 'win32') return undefined
  await loadOrt()
  const koffi = (await import('koffi')).default
  const kinds = { p: 'void *', i: 'int', s: 'size_t', t: 'const char *' } as const
  const prototype = (result: string, kindsOf: string) =>
    koffi.proto(
      result,
      [...kindsOf].map((kind) => kinds[kind as keyof typeof kinds]),
    )
  const pointers = (address: bigint, count: number) => new BigUint64Array(koffi.view(address, 8 * count))
  const base = koffi.load(libraryPath()).func('void *OrtGetApiBase()')() as bigint
  const api = koffi.call(pointers(base, 1)[0], koffi.proto('void *', ['uint32_t']), VERSION) as bigint
  const table = pointers(api, 1 + Math.max(...Object.values(FUNCTIONS).map(([number]) => number)))
  const functions = Object.fromEntries(
    Object.entries(FUNCTIONS).map(([name, [number, args]]) => {
      const type = prototype('void *', args)
      return [name, (...given: unknown[]) => koffi.call(table[number], type, ...given) as bigint | null]
    }),
  )
  const message = prototype('const char *', 'p')
  const release = prototype('void', 'p')
  const found = new BigUint64Array(1)
  const call: NativeApi['call'] = (name, ...args) => {
    const status = functions[name]!(...args)
    if (!status) return
    const error = new Error(koffi.call(table[GET_ERROR_MESSAGE], message, status))
    koffi.call(table[RELEASE_STATUS], release, status)
    throw error
  }
  return {
    call,
    make(name, ...args) {
      found[0] = 0n
      call(name, ...args, found)
      return found[0]
    },
    release: (what, handle) => koffi.call(table[RELEASES[what]], release, handle),
    addressOf: (data) => koffi.address(data),
  }
}

/** The one that onnxruntime-node is linked to. */
function libraryPath(): string {
  const home = dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'))
  const folders = readdirSync(join(home, 'bin')).map((abi) =>
    join(home, 'bin', abi, process.platform, process.arch),
  )
  const [path] = folders.flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => /^libonnxruntime\.(so|.*dylib)/.test(name))
      .map((name) => join(folder, name)),
  )
  if (path === undefined) throw new Error(`no libonnxruntime in ${folders.join(', ')}`)
  return path
}
