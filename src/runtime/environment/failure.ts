/**
 * What a rank has died of, in the form in which it travels from the rank to the launcher. Turns any thrown value
 * into words; refuses to print them or to end a process.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { inspect } from 'node:util'
import { withSourceLines } from './source-lines.js'

export interface Failure {
  /** What a reader is shown: one line for an error that a user can cause, otherwise the stack. */
  readonly text: string
  readonly oneLine: boolean
  readonly exitCode: number
  /** True when this rank only failed because another had: never the root cause. */
  readonly secondary: boolean
  /** True when it waited for another rank in vain: that one may tell more. */
  readonly timedOut: boolean
  /** Milliseconds since the epoch. */
  readonly at: number
}

const USER_ERROR = 2
const BUG = 1
/** How the errors of collectives, links and the store begin to say that nobody came. */
const TIMED_OUT = / made no progress for | was not set within | has no connection with /

/** Describes an uncaught exception of the script `script` (an absolute path; shown where nothing better is known). */
export function describeFailure(error: unknown, script = process.argv[1] ?? 'the script'): Failure {
  const secondary = causes(error).some((cause) => (cause as Error | undefined)?.name === 'PeerFailedError')
  const words = (text: string, oneLine: boolean, exitCode: number): Failure => ({
    text,
    oneLine,
    exitCode,
    secondary,
    timedOut: oneLine && TIMED_OUT.test(text),
    at: Date.now(),
  })
  if (!(error instanceof Error))
    return words(`something that is no Error was thrown: ${inspect(error)}`, false, BUG)
  if (isLockstepError(error)) return words(joinLines(error.message), true, error.exitCode)
  const unloadable = unparsable(error, script) ?? unresolvable(error)
  return unloadable ? words(unloadable, true, USER_ERROR) : words(withSourceLines(inspect(error)), false, BUG)
}

/** With which a script says that it has ended because it was asked to: 128 + SIGTERM. */
export const ASKED_EXIT_CODE = 143

/**
 * Where the script has called process.exit; to be asked in an 'exit' listener. Undefined when it has not (Node ends with
 * an exit code of its own, or process.exitCode was set), and when it was asked to end.
 * @param wasAsked whether this very process was, if it takes such requests.
 */
export function describeExit(exitCode: number, wasAsked?: boolean): Failure | undefined {
  if (exitCode === ASKED_EXIT_CODE) return wasAsked === false ? askedElsewhere() : undefined
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = 50
  const frames = new Error().stack?.split('\n') ?? []
  Error.stackTraceLimit = limit
  const exit = frames.findIndex((frame) => / at process\.(exit|reallyExit) /.test(frame))
  const caller = exit === -1 ? undefined : frames[exit + 1]?.trim()
  if (caller === undefined) return undefined
  const text = `process.exit(${exitCode}) was called ${caller}`
  return { text, oneLine: false, exitCode, secondary: false, timedOut: false, at: Date.now() }
}

/** All ranks of a job end when one is asked to: that one is named. */
function askedElsewhere(): Failure {
  const text = 'ended because another rank was asked to (SIGTERM)'
  return {
    ...{ text, oneLine: true, exitCode: ASKED_EXIT_CODE, secondary: true, timedOut: false },
    at: Date.now(),
  }
}

/** The text of a report, back to a `Failure`; undefined for anything else that was written there. */
export function parseFailure(text: string): Failure | undefined {
  // Not whole: the rank died while it wrote. Of another form: the script wrote there.
  return /^\{"text":".*\}\n$/.test(text) ? (JSON.parse(text) as Failure) : undefined
}

/**
 * By class name along the prototypes, not by `instanceof`: the launcher's copy of the package and the one that
 * the script imports may be two.
 */
function isLockstepError(error: Error): error is Error & { exitCode: number } {
  for (let p: object | null = error; p; p = Object.getPrototypeOf(p)) {
    if (p.constructor?.name === 'LockstepError')
      return Number.isInteger((error as { exitCode?: unknown }).exitCode)
  }
  return false
}

/** The error, its cause, that one's cause … */
function causes(error: unknown): unknown[] {
  const chain: unknown[] = []
  for (let e = error; e instanceof Error && !chain.includes(e); e = e.cause) chain.push(e)
  return chain
}

/** `file:line:column: message` when a script, or what it imports, could not be parsed. */
function unparsable(error: Error, script: string): string | undefined {
  if (error.name === 'TransformError') {
    // tsx has esbuild say "Transform failed with 1 error:\nFILE:LINE:COLUMN: ERROR: TEXT".
    const [, file, column, text = ''] = /^(.+:\d+):(\d+): ERROR: (.*)$/m.exec(error.message) ?? []
    const hint = text.includes('Top-level await')
      ? ': name the script .mts, or set "type": "module" in package.json'
      : ''
    return file && `${file}:${Number(column) + 1}: ${text}${hint}` // esbuild counts columns from 0
  }
  if (error.name !== 'SyntaxError') return undefined
  const place = arrow(error.stack ?? '')
  if (place) return `${place}: ${error.message}`
  // Node keeps the place where a module could not be parsed to itself; its own checker prints it.
  if (!/compileSourceTextModule|moduleStrategy/.test(error.stack ?? '')) return undefined
  const checked = spawnSync(process.execPath, ['--check', script], { encoding: 'utf8', timeout: 5000 })
  return `${arrow(checked.stderr) ?? `in a module that ${script} imports`}: ${error.message}`
}

/** Reads the place from what Node puts above a SyntaxError: "FILE:LINE", the line, and "^^^" below its column. */
function arrow(text: string): string | undefined {
  const [, file, line, marker] = /^((?:file:\/\/)?\/[^\n]*):(\d+)\n[^\n]*\n(\s*)\^/.exec(text) ?? []
  if (!file || marker === undefined) return undefined
  return `${file.startsWith('file:') ? fileURLToPath(file) : file}:${line}:${marker.length + 1}`
}

function unresolvable(error: Error & { code?: unknown; requireStack?: unknown }): string | undefined {
  if (error.code !== 'ERR_MODULE_NOT_FOUND' && error.code !== 'MODULE_NOT_FOUND') return undefined
  const by = Array.isArray(error.requireStack) ? error.requireStack[0] : undefined
  return joinLines(error.message) + (by ? ` imported from ${by}` : '')
}

function joinLines(text: string): string {
  return text.replaceAll(/\s*\n\s*/g, ' ').replace(/ Require stack:.*$/, '')
}
