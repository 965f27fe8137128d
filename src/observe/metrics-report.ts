/**
 * Reports of metrics on their way from the ranks to whoever is asked for them: as JSON, and joined into one page of
 * Prometheus' text format. It refuses to know what is counted.
 */
import { AggregatorRegistry, type MetricObjectWithValues, type MetricValue } from 'prom-client'

export type Report = readonly MetricObjectWithValues<MetricValue<string>>[]

/** One line. JSON has no NaN and no infinity: they travel as text. */
export function encodeReport(report: Report): string {
  return JSON.stringify(report, (_, value) =>
    typeof value === 'number' && !Number.isFinite(value) ? String(value) : value,
  )
}

/** @returns undefined for what is none, such as the half line that a process leaves when it is killed. */
export function decodeReport(line: string): Report | undefined {
  try {
    return JSON.parse(line, (key, value) => (key === 'value' ? Number(value) : value))
  } catch {
    return undefined
  }
}

/** Every metric once, with the values of all reports, which differ in their labels. */
export function joinReports(reports: Iterable<Report>): Promise<string> {
  return AggregatorRegistry.aggregate([...reports]).metrics()
}
