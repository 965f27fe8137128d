/**
 * What a rank does that others wait for in vain: its JavaScript stack, also when its event loop never comes back.
 * SIGUSR1 makes Node open its inspector (on loopback, at a port that only this process' stderr names), through which
 * one pause is asked for. It refuses to wait long: the rank is about to be stopped.
 */
import { SourceMap } from 'node:module'
import { fileURLToPath } from 'node:url'
import { withSourceLines } from '../src/runtime/environment/source-lines.js'
import { IS_STOPPED, processState } from './stopped.js'

/** For the whole examination: a machine that is busy takes its time. */
const PATIENCE_MS = 3000
const FRAMES = 12

/** Lines that Node writes to stderr about its inspector: not the script's. */
const INSPECTOR_LINE =
  /^(Debugger (listening on|attached|ending on)|For help, see: https:\/\/nodejs\.org|Waiting for the debugger)/

export function isInspectorLine(text: string): boolean {
  return INSPECTOR_LINE.test(text)
}

/** The inspector's address, from the line in which Node tells it. */
export function inspectorUrl(text: string): string | undefined {
  return /^Debugger listening on (ws:\S+)/.exec(text)?.[1]
}

/**
 * @param url resolves with the inspector's address, once the rank has been sent SIGUSR1.
 * @returns lines for a reader, completing "rank 2: …".
 */
export async function examine(pid: number, openInspector: () => Promise<string>): Promise<string[]> {
  const state = processState(pid)
  if (state === 'T') return [IS_STOPPED]
  const timeout = AbortSignal.timeout(PATIENCE_MS)
  try {
    const url = await orTimeout(openInspector(), timeout)
    const frames = await orTimeout(pause(url, timeout), timeout)
    return ['it was in', ...frames.slice(0, FRAMES).map((frame) => `    at ${withSourceLines(frame)}`)]
  } catch {
    return [
      processState(pid) === 'R'
        ? 'it ran native code (its JavaScript stack could not be taken)'
        : 'it ran no JavaScript: it waits for a promise, a timer or the system, or sleeps in native code',
    ]
  }
}

interface CallFrame {
  readonly functionName: string
  readonly location: {
    readonly scriptId: string
    readonly lineNumber: number
    readonly columnNumber?: number
  }
}

interface Script {
  readonly scriptId: string
  readonly url: string
  readonly sourceMapURL?: string
}

/** The call frames of the main thread, innermost first. */
async function pause(url: string, timeout: AbortSignal): Promise<string[]> {
  const { WebSocket } = await import('ws') // few jobs ever need it
  const socket = new WebSocket(url, { perMessageDeflate: false })
  timeout.addEventListener('abort', () => socket.terminate())
  const scripts = new Map<string, Script>()
  return new Promise((resolve, reject) => {
    const send = (id: number, method: string) => socket.send(JSON.stringify({ id, method }))
    socket.on('open', () => {
      send(1, 'Debugger.enable')
      send(2, 'Debugger.pause')
    })
    socket.on('error', reject)
    socket.on('message', (data) => {
      const { method, params } = JSON.parse(data.toString())
      if (method === 'Debugger.scriptParsed') scripts.set(params.scriptId, params)
      if (method !== 'Debugger.paused') return
      const frames = (params.callFrames as CallFrame[]).map((frame) => describe(frame, scripts))
      socket.terminate()
      resolve(frames)
    })
  })
}

function describe({ functionName, location }: CallFrame, scripts: ReadonlyMap<string, Script>): string {
  const { url = '', sourceMapURL } = scripts.get(location.scriptId) ?? {}
  const mapped = original(sourceMapURL, location.lineNumber, location.columnNumber ?? 0)
  const [line, column] = mapped ?? [location.lineNumber, location.columnNumber ?? 0]
  const file = url.startsWith('file:') ? fileURLToPath(url.replace(/\?.*$/, '')) : url
  const place = `${file}:${line + 1}:${column + 1}`
  return functionName ? `${functionName} (${place})` : place
}

/** Line and column, from 0, of the source that was translated; undefined where it cannot be told. */
function original(map: string | undefined, line: number, column: number): [number, number] | undefined {
  const [, base64] = /^data:application\/json[^,]*;base64,(.*)$/.exec(map ?? '') ?? []
  if (base64 === undefined) return undefined
  const entry = new SourceMap(JSON.parse(Buffer.from(base64, 'base64').toString())).findEntry(line, column)
  return 'originalLine' in entry ? [entry.originalLine, entry.originalColumn] : undefined
}

function orTimeout<T>(promise: Promise<T>, timeout: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    timeout.addEventListener('abort', () => reject(timeout.reason))
    promise.then(resolve, reject)
  })
}
