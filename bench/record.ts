/** What every benchmark writes next to its figures: machine, date, command. And where it writes: bench/results/. */
import { writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'

export interface Circumstances {
  readonly date: string
  readonly command: string
  readonly machine: string
  readonly node: string
}

export function circumstances(command: string): Circumstances {
  const [cpu] = cpus()
  return {
    date: new Date().toISOString().slice(0, 10),
    command,
    machine: `${cpus().length} cores of ${cpu!.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB`,
    node: process.version,
  }
}

/** Writes bench/results/NAME.json. */
export function saveResult(name: string, result: object): void {
  const path = fileURLToPath(new URL(`results/${name}.json`, import.meta.url))
  writeFileSync(path, `${JSON.stringify(result, undefined, 2)}\n`)
  console.error(`written to ${path}`)
}

export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  return sorted[sorted.length >> 1]!
}

export const rounded = (n: number, digits = 2): number => Number(n.toFixed(digits))
