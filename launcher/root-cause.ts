/**
 * How every rank ended -> why the job did, in words and as an exit code. Pure. It refuses to blame a rank that only
 * failed because another one had.
 */
import { constants } from 'node:os'
import { ASKED_EXIT_CODE } from '../src/runtime/environment/failure.js'
import type { RankState } from './rank-state.js'

export interface Verdict {
  /** Lines for stderr; the last of them say the root cause. */
  readonly report: string
  readonly exitCode: number
}

/** A node whose launcher is gone: of its ranks nothing is known. */
export interface LostNode {
  readonly hostName: string
  readonly address: string
  /** Completes "the connection with its launcher". */
  readonly reason: string
}

/**
 * Chooses among the ranks that failed by themselves, before anything was stopped.
 *
 * When a node is lost, so are its ranks, and the others' failures follow from that. When rank 2 is killed, the others lose their peer within milliseconds, and may be gone before it. So first comes
 * whoever was killed by a signal, which no other rank's failure brings about; then who died of something of its own,
 * earliest first; and if nobody did, or only waited in vain, the cause is whoever left early with exit code 0.
 *
 * @param states all ranks, at that moment; at least one has failed, or a node is lost.
 */
export function findRootCause(states: readonly RankState[], lost: readonly LostNode[] = []): Verdict {
  if (lost.length > 0) return blameNodes(lost)
  const failed = states.filter(hasFailed).sort((a, b) => a.at - b.at)
  const primary = failed.filter((state) => !state.failure?.secondary)
  const first = primary.find(({ signal }) => signal) ?? primary[0] ?? failed[0]!
  const left = states.filter((state) => state.code === 0)
  const nobodyElse = primary.every(({ failure }) => failure?.timedOut) && !states.some(isBusy)
  if (nobodyElse && left.length > 0) return blameLeavers(left, first)

  const alike = failed.filter((state) => isSameCause(state, first)).sort((a, b) => a.rank - b.rank)
  const others = primary.filter((state) => !isSameCause(state, first))
  const report = [
    ...others.map((state) => also(state)),
    ...lastLines(first, states.length),
    ...stack(first, alike),
    ...states.filter((state) => state === first || state.running).flatMap(hints),
    first.failure?.timedOut ? waiting(first, states) : cause(first, alike),
  ]
  return { report: report.join('\n'), exitCode: exitCode(first) }
}

export function signalExitCode(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal]
}

/** Includes a rank that has said why it fails and is still on its way out. */
export function hasFailed(state: RankState): boolean {
  return state.failure !== undefined || (!state.running && state.code !== 0)
}

function blameNodes(lost: readonly LostNode[]): Verdict {
  const lines = lost.map(
    ({ hostName, address, reason }) =>
      `ddp-launch: node ${hostName} (${address}) was lost: the connection with its launcher ${reason}; see whether the machine runs, and what ddp-launch said there`,
  )
  return { report: lines.join('\n'), exitCode: 1 }
}

function blameLeavers(left: readonly RankState[], witness: RankState): Verdict {
  const who = name(left)
  const seen = witness.failure ? `; rank ${witness.rank} saw: ${headline(witness.failure.text)}` : ''
  return {
    report: `ddp-launch: ${who} left with exit code 0 before the others were done${seen}`,
    exitCode: exitCode(witness),
  }
}

/** The same words, or those that one rank has found and others repeat with more behind them ("told by rank 2"). */
function isSameCause(a: RankState, b: RankState): boolean {
  if (a === b || !a.failure || !b.failure) return a === b
  return a.failure.text.startsWith(b.failure.text) || b.failure.text.startsWith(a.failure.text)
}

/** The last line: all of the cause that fits in one. */
function cause(first: RankState, alike: readonly RankState[]): string {
  const who = `ddp-launch: ${name(alike)}`
  if (!first.failure) return `${who} ${describeEnd(first)}`
  return `${who} failed with exit code ${exitCode(first)}: ${headline(shortest(alike))}`
}

/** Whoever waited in vain has failed; who never came still runs. */
function waiting(witness: RankState, states: readonly RankState[]): string {
  const stuck = states.filter(isBusy)
  if (stuck.length === 0) return cause(witness, [witness])
  return `ddp-launch: ${name(stuck)} kept the others waiting; rank ${witness.rank} saw: ${headline(witness.failure!.text)}`
}

function isBusy({ running, failure }: RankState): boolean {
  return running && failure === undefined
}

function stack(first: RankState, alike: readonly RankState[]): string[] {
  if (!first.failure?.text.includes('\n')) return []
  return [`ddp-launch: the error of rank ${first.rank}:`, shortest(alike)]
}

/** Of the culprit, and of who still ran when the others had waited in vain. */
function hints({ rank, hints }: RankState): string[] {
  return hints.map((hint) => `ddp-launch: rank ${rank}: ${hint}`)
}

/** Of texts that say the same, some with more behind it. */
function shortest(alike: readonly RankState[]): string {
  return alike.map((state) => state.failure!.text).reduce((a, b) => (b.length < a.length ? b : a))
}

/** Of a rank that did not say why: completes "rank 2 …". */
export function describeEnd({ code, signal }: RankState): string {
  if (signal === 'SIGKILL')
    return 'was killed by SIGKILL, from outside the job (the system does so when memory runs out)'
  if (signal) return `was killed by ${signal}`
  if (code === ASKED_EXIT_CODE) return `ended with exit code ${code}: somebody has asked it to end (SIGTERM)`
  // Node's own code for it; otherwise it looks like a script that simply ended.
  return code === 13
    ? 'ended with exit code 13: it waited for a promise that nothing was left to fulfil'
    : `ended with exit code ${code}`
}

function also(state: RankState): string {
  const why = state.failure ? `failed: ${headline(state.failure.text)}` : describeEnd(state)
  return `ddp-launch: also, ${name([state])} ${why}`
}

/** What a rank wrote last; left out where the error says all, and where no other rank's lines stand in between. */
function lastLines({ rank, failure, lastLines }: RankState, worldSize: number): string[] {
  if (failure?.oneLine || worldSize === 1 || lastLines.length === 0) return []
  return [`ddp-launch: the last lines of rank ${rank}:`, ...lastLines.map((line) => `  | ${line}`)]
}

function exitCode({ code, signal, failure }: RankState): number {
  return signal ? signalExitCode(signal) : (code ?? failure?.exitCode ?? 1)
}

/** "rank 2 (pid 4242)", "rank 2 (pid 4242 on node-b)", "ranks 0, 1 and 3". */
function name(states: readonly RankState[]): string {
  const [{ rank, pid, hostName }] = states as [RankState]
  if (states.length === 1) return `rank ${rank} (pid ${pid ?? 'none'}${hostName ? ` on ${hostName}` : ''})`
  const ranks = states.map(({ rank }) => rank)
  return `ranks ${ranks.slice(0, -1).join(', ')} and ${ranks.at(-1)}`
}

function headline(text: string): string {
  return text.split('\n', 1)[0]!
}
