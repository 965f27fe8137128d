/** Tables of numbers: read from CSV or made up, and made fit for training. Knows columns, no model. */
import { readFile } from 'node:fs/promises'
import { randomUniform } from '@tensorflow/tfjs-core'
import { type Dataset, LockstepError } from 'lockstep'

export interface Table {
  /** The last column is what is to be predicted from the others. */
  readonly columns: readonly string[]
  readonly rows: readonly (readonly number[])[]
}

/** Comma-separated, the columns' names in the first line, numbers in all others. */
export async function readCsv(path: string): Promise<Table> {
  const text = await readFile(path, 'utf8').catch((cause: Error) => {
    throw new LockstepError(`${path}: cannot be read (${cause.message}); name a readable file`, { cause })
  })
  const [header = '', ...lines] = text.trim().split(/\r?\n/)
  const columns = header.split(',')
  const rows = lines.map((line, i) => {
    const cells = line.split(',')
    const row = cells.map(Number)
    if (
      row.length === columns.length &&
      cells.every((cell, c) => cell.trim() !== '' && Number.isFinite(row[c]))
    )
      return row
    throw new LockstepError(
      `${path}, line ${i + 2}: ${JSON.stringify(line)}, expected ${columns.length} numbers (${header})`,
    )
  })
  if (columns.length < 2 || rows.length < 10)
    throw new LockstepError(
      `${path}: ${columns.length} columns and ${rows.length} rows, expected at least 2 and 10`,
    )
  return { columns, rows }
}

/** Houses whose price (in thousands) follows no straight line: rooms are worth more near the centre, old and new sell best. */
export function inventHouses(count: number, seed: number): Table {
  const draws = randomUniform([count * 5], 0, 1, 'float32', seed + 1).dataSync()
  const rows = Array.from({ length: count }, (_, i) => {
    const [u, v, w, crime, noise] = draws.subarray(5 * i, 5 * i + 5) as unknown as [
      number,
      number,
      number,
      number,
      number,
    ]
    const [rooms, kilometres, years] = [1 + Math.floor(8 * u), 30 * v ** 2, 120 * w]
    const place = 20 + 90 / (1 + kilometres / 4)
    const price = rooms * place * (1 + ((years - 60) / 90) ** 2) * (1.2 - crime) + 40 * (noise - 0.5)
    return [rooms, kilometres, years, crime, price]
  })
  return { columns: ['rooms', 'kilometres', 'years', 'crime', 'price'], rows }
}

/** A column's mean and standard deviation. */
export interface Scale {
  readonly mean: number
  readonly deviation: number
}

export function scalesOf({ columns, rows }: Table): Scale[] {
  return columns.map((_, c) => {
    const mean = rows.reduce((sum, row) => sum + row[c]!, 0) / rows.length
    const variance = rows.reduce((sum, row) => sum + (row[c]! - mean) ** 2, 0) / rows.length
    return { mean, deviation: Math.sqrt(variance) || 1 }
  })
}

/** Batches: x float32 [B, columns - 1], y float32 [B, 1], every column scaled. */
export function tableDataset({ columns, rows }: Table, scales: readonly Scale[]): Dataset {
  const width = columns.length - 1
  const scaled = rows.map((row) => row.map((value, c) => (value - scales[c]!.mean) / scales[c]!.deviation))
  return {
    length: rows.length,
    batch(indices) {
      const chosen = Array.from(indices, (index) => scaled[index]!)
      return {
        x: {
          data: Float32Array.from(chosen.flatMap((row) => row.slice(0, width))),
          shape: [chosen.length, width],
        },
        y: { data: Float32Array.from(chosen, (row) => row[width]!), shape: [chosen.length, 1] },
      }
    },
  }
}
