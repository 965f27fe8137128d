/**
 * The one place where a job is decided on: who takes part, when an attempt starts and stops, whether another follows,
 * and how it ends. A job on one node has it too, with one member. It refuses to know processes and sockets: members
 * report, and are sent orders.
 *
 *   meeting   enough members?  -> running
 *   running   all ended well   -> over
 *             a failure, a lost member, a newcomer, a member that leaves -> stopping
 *   stopping  all members of the round have ended -> meeting, or over
 */
import type { RankState } from '../rank-state.js'
import { findRootCause, type LostNode, signalExitCode, type Verdict } from '../root-cause.js'
import { refusalOf, type Terms } from './admission.js'
import type { Assignment, Hello, Order, Report, StopReason } from './messages.js'

export interface Member {
  readonly hello: Hello
  /** The node that the coordinator lives on: without it there is no job. */
  readonly isHome: boolean
  readonly send: (order: Order) => void
}

/** Where the ranks of one attempt meet. */
export interface Place {
  readonly host: string
  readonly port: number
  close(): Promise<void>
}

/** One attempt, from start to when nobody runs any more. */
interface Round {
  readonly attempt: number
  readonly members: readonly Member[]
  readonly ended: Map<Member, readonly RankState[]>
  readonly lost: LostNode[]
  readonly place: Place
  /** Why it is being stopped; undefined while it runs. */
  stopping: StopReason | undefined
}

export class Coordinator {
  readonly #terms: Terms
  readonly #openPlace: (attempt: number) => Promise<Place>
  /** In the order in which they came. */
  #members: Member[] = []
  /** Those among the members that have been asked to go. */
  readonly #leaving = new Map<Member, NodeJS.Signals>()
  #round: Round | undefined
  #attempts = 0
  #restarts = 0
  #isOver = false
  #isOpening = false
  #meetTimer: NodeJS.Timeout | undefined
  #lastCall: NodeJS.Timeout | undefined
  /** The meeting place of the round before. */
  #closing: Promise<void> | undefined

  /** @param openPlace must be new for every attempt: nothing of an earlier one may be found there. */
  constructor(terms: Terms, openPlace: (attempt: number) => Promise<Place>) {
    this.#terms = terms
    this.#openPlace = openPlace
    this.#awaitNodes()
  }

  /** Takes a node in, or sends it away with the reason. */
  add(member: Member): void {
    // One that was cut off may be back before its silence has been noticed.
    const before = this.#members.find(({ hello }) => hello.launcher === member.hello.launcher)
    if (before) this.lost(before, 'was made anew by its launcher')
    const here = this.#members.map(({ hello }) => hello)
    const refusal = this.#isOver ? 'the job is over' : refusalOf(member.hello, this.#terms, here)
    if (refusal !== undefined) {
      member.send({ op: 'end', report: `ddp-launch: ${refusal}`, exitCode: 2 })
      return
    }
    this.#members.push(member)
    if (this.#round === undefined) this.#beginIfComplete()
    else this.#request()
  }

  report(member: Member, report: Exclude<Report, { op: 'join' }>): void {
    if (!this.#members.includes(member)) return
    if (report.op === 'leave') this.#leave(member, report.signal)
    else if (report.attempt !== this.#round?.attempt) return
    else if (report.op === 'ended') this.#ended(member, report)
    // Ranks that were asked to end may fail at it: that is no reason to end the others at once.
    else if (this.#round.stopping === undefined) this.#stop(this.#round, 'failure', report.timedOut)
  }

  /** A member that will never report again. @param reason completes "the connection with its launcher". */
  lost(member: Member, reason: string): void {
    if (!this.#members.includes(member)) return
    this.#remove(member)
    const round = this.#round
    if (!round?.members.includes(member) || round.ended.has(member)) return
    round.lost.push({ hostName: member.hello.hostName, address: member.hello.address, reason })
    if (round.stopping !== 'failure') this.#stop(round, 'failure', false)
    this.#finishIfEnded()
  }

  /** Waits for the first of: all nodes; enough nodes and the last call over; too long. */
  #awaitNodes(): void {
    const { nodes, meetSeconds } = this.#terms
    this.#meetTimer = setTimeout(() => {
      const there = this.#members.map(({ hello }) => `${hello.hostName} (${hello.address})`).join(', ')
      const report = `ddp-launch: ${this.#members.length} of at least ${nodes.min} nodes came within ${meetSeconds} s (--rdzv-timeout): only ${there}; start ddp-launch on the others, or see what it says there`
      this.#end({ report, exitCode: 2 })
    }, meetSeconds * 1000)
  }

  get #isComplete(): boolean {
    return !this.#isOver && this.#members.length >= this.#terms.nodes.min
  }

  #beginIfComplete(): void {
    if (!this.#isComplete) return
    // Later attempts go on with whoever is there.
    if (this.#attempts > 0 || this.#members.length === this.#terms.nodes.max) void this.#open()
    else this.#lastCall ??= setTimeout(() => void this.#open(), this.#terms.lastCallSeconds * 1000)
  }

  async #open(): Promise<void> {
    clearTimeout(this.#lastCall)
    this.#lastCall = undefined
    if (this.#isOpening || !this.#isComplete) return
    this.#isOpening = true
    try {
      await this.#closing
      const place = await this.#openPlace(this.#attempts)
      if (this.#isComplete) this.#begin(place)
      else await place.close()
    } catch (error) {
      this.#end({ report: `ddp-launch: ${(error as Error).message}`, exitCode: 2 })
    } finally {
      this.#isOpening = false
    }
  }

  #begin(place: Place): void {
    clearTimeout(this.#meetTimer)
    const attempt = this.#attempts++
    const members = inRankOrder(this.#members)
    this.#round = { attempt, members, ended: new Map(), lost: [], place, stopping: undefined }
    const worldSize = members.reduce((sum, { hello }) => sum + hello.ranks, 0)
    let firstRank = 0
    for (const [nodeRank, { hello, send }] of members.entries()) {
      const { maxRestarts, runId } = this.#terms
      const assignment: Assignment = {
        ...{ attempt, restarts: this.#restarts, maxRestarts, runId },
        ...{ nodeRank, nodes: members.length, firstRank, worldSize, address: hello.address },
        ...{ storeHost: place.host, storePort: place.port },
      }
      send({ op: 'start', assignment })
      firstRank += hello.ranks
    }
  }

  #stop(round: Round, reason: StopReason, timedOut: boolean): void {
    round.stopping = reason
    for (const member of round.members)
      if (this.#members.includes(member))
        member.send({ op: 'stop', attempt: round.attempt, reason, timedOut })
  }

  #request(): void {
    if (this.#round && this.#round.stopping === undefined) this.#stop(this.#round, 'request', false)
  }

  #leave(member: Member, signal: NodeJS.Signals): void {
    this.#leaving.set(member, signal)
    if (this.#round?.members.includes(member)) this.#request()
    else if (member.isHome) this.#end(interrupted(signal, undefined))
    else this.#dismiss(member, signal)
  }

  #dismiss(member: Member, signal: NodeJS.Signals): void {
    member.send({ op: 'end', ...interrupted(signal, undefined) })
    this.#remove(member)
  }

  #ended(member: Member, { now, states }: { now: number; states: readonly RankState[] }): void {
    // Clocks of different machines differ: by our own, they ended so long ago.
    const shift = Date.now() - now
    this.#round!.ended.set(
      member,
      states.map((state) => ({ ...state, at: state.at + shift })),
    )
    this.#finishIfEnded()
  }

  #finishIfEnded(): void {
    const round = this.#round
    if (!round?.members.every((member) => round.ended.has(member) || !this.#members.includes(member))) return
    this.#round = undefined
    this.#closing = round.place.close()
    const states = [...round.ended.values()].flat()
    const isWell = round.lost.length === 0 && states.every(({ code }) => code === 0)
    if (round.stopping === undefined && isWell) this.#end({ report: '', exitCode: 0 })
    else if (round.stopping === 'request') this.#regroup(failuresWhileStopping(states))
    else this.#restart(findRootCause(states, round.lost))
  }

  /** After a stop that was asked for. */
  #regroup(failures: string[]): void {
    for (const text of failures) this.#tell(text)
    const home = [...this.#leaving].find(([member]) => member.isHome)
    const { min, max } = this.#terms.nodes
    const [leaver, signal] = home ?? [...this.#leaving][0] ?? []
    if (leaver && signal && (home || min === max)) {
      const others = this.#members.length > 1 ? leaver : undefined
      this.#end(interrupted(signal, others?.hello.hostName))
      return
    }
    for (const [member, why] of this.#leaving) this.#dismiss(member, why)
    this.#tell(`ddp-launch: the nodes have changed, ${this.#members.length} go on from the last checkpoint`)
    this.#meetAgain()
  }

  #restart(verdict: Verdict): void {
    const isHomeLeaving = [...this.#leaving.keys()].some(({ isHome }) => isHome)
    if (this.#restarts >= this.#terms.maxRestarts || isHomeLeaving) {
      this.#end(verdict)
      return
    }
    this.#restarts++
    for (const [member, signal] of this.#leaving) this.#dismiss(member, signal)
    const next = `ddp-launch: all ranks start again, restart ${this.#restarts} of ${this.#terms.maxRestarts}`
    this.#tell(`${verdict.report}\n${next}`)
    this.#meetAgain()
  }

  #meetAgain(): void {
    const { min } = this.#terms.nodes
    if (this.#members.length < min)
      this.#tell(`ddp-launch: ${this.#members.length} of at least ${min} nodes are there, waiting for more`)
    this.#awaitNodes()
    this.#beginIfComplete()
  }

  #tell(text: string): void {
    for (const { send } of this.#members) send({ op: 'say', text })
  }

  #end({ report, exitCode }: Verdict): void {
    this.#isOver = true
    clearTimeout(this.#meetTimer)
    clearTimeout(this.#lastCall)
    for (const { send } of this.#members) send({ op: 'end', report, exitCode })
  }

  #remove(member: Member): void {
    this.#members = this.#members.filter((other) => other !== member)
    this.#leaving.delete(member)
  }
}

/** By the numbers that users gave, then in the order in which they came. */
function inRankOrder(members: readonly Member[]): Member[] {
  const wanted = ({ hello }: Member) => hello.nodeRank ?? Number.MAX_SAFE_INTEGER
  return members.toSorted((a, b) => wanted(a) - wanted(b))
}

function interrupted(signal: NodeJS.Signals, hostName: string | undefined): Verdict {
  const where = hostName === undefined ? '' : ` at ${hostName}`
  return { report: `ddp-launch: ${signal}${where}, all ranks were stopped`, exitCode: signalExitCode(signal) }
}

/** What went wrong while ranks were saving, say: not that they ended for the signal, or for each other. */
function failuresWhileStopping(states: readonly RankState[]): string[] {
  const own = states.filter(({ failure }) => failure !== undefined && !failure.secondary)
  return own.length === 0 ? [] : [findRootCause(own, []).report]
}
