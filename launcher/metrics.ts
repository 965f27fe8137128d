/**
 * The metrics of this node's ranks as the launcher has them: the last report of each, and what only a launcher knows. It
 * refuses to count anything of the training.
 */
import { hostname } from 'node:os'
import { Counter, Gauge, Registry } from 'prom-client'
import { decodeReport, joinReports, type Report } from '../src/observe/metrics-report.js'
import type { Identity } from './rank-process.js'
import type { Assignment } from './rendezvous/messages.js'

export class NodeMetrics {
  readonly #reports = new Map<number, Report>()
  readonly #registry = new Registry()
  readonly #restarts: Counter
  readonly #running: Gauge<'rank'>
  readonly #heardAt: Gauge<'rank'>

  constructor() {
    this.#registry.setDefaultLabels({ host: hostname() })
    const of = (name: string, help: string) => ({
      ...{ name: `lockstep_${name}`, help },
      registers: [this.#registry],
    })
    const byRank = { labelNames: ['rank'] as const }
    this.#restarts = new Counter(
      of('restarts_total', 'How often all ranks have started again after a failure.'),
    )
    this.#running = new Gauge({
      ...of('rank_running', '1 while the process of a rank runs, else 0.'),
      ...byRank,
    })
    this.#heardAt = new Gauge({
      ...of('report_timestamp_seconds', 'When a rank has last reported its metrics.'),
      ...byRank,
    })
  }

  /** An attempt begins, perhaps with other ranks here than the last one. Their last reports stay until they report anew. */
  begin({ firstRank, restarts }: Assignment, localWorldSize: number): void {
    this.#restarts.reset()
    this.#restarts.inc(restarts)
    this.#running.reset()
    for (let rank = firstRank; rank < firstRank + localWorldSize; rank++) this.#running.set({ rank }, 1)
    for (const rank of this.#reports.keys()) {
      if (rank >= firstRank && rank < firstRank + localWorldSize) continue
      this.#reports.delete(rank)
      this.#heardAt.remove({ rank })
    }
  }

  take({ rank }: Identity, line: string): void {
    const report = decodeReport(line)
    if (report === undefined) return
    this.#reports.set(rank, report)
    this.#heardAt.setToCurrentTime({ rank })
  }

  /** Its process is gone. */
  ended({ rank }: Identity): void {
    this.#running.set({ rank }, 0)
  }

  /** All of it, in Prometheus' text format. */
  async page(): Promise<string> {
    return joinReports([await this.#registry.getMetricsAsJSON(), ...this.#reports.values()])
  }
}
