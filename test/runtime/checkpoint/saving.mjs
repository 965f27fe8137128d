// Saves one checkpoint after the other, until it is killed: saving.mjs DIR STEP THREAD SOURCE. Each but the first is saved
// twice, the second time in place of itself, and the last two are kept. THREAD is 1 for a thread of its own that writes.
// 2 for two shards.
// SOURCE is the folder of the checkpoint modules, as a URL, and its ending. Prints each step that is safe.
import { writeSync } from 'node:fs'

const [, , directory, first, thread, source, ending] = process.argv
const { writeCheckpoint } = await import(`${source}/checkpoints.${ending}`)
const { BackgroundWriter } = await import(`${source}/background-writer.${ending}`)
const writer = new BackgroundWriter()
const { perform } = await import(`${source}/writing.${ending}`)
const { storageAt } = await import(`${source}/locations.${ending}`)

const ways = [
  writeCheckpoint,
  (location, checkpoint, keepLast) => writer.write({ location, checkpoint, keepLast }),
  writeShards,
]

async function writeShards(location, { model, optimizer, ...particulars }, keepLast) {
  const begun = { place: await storageAt(location).begin(particulars.step), save: String(Math.random()) }
  const all = [
    ...model.map((tensor) => ['model', tensor]),
    ...optimizer.map((tensor) => ['optimizer', tensor]),
  ]
  const half = (rank) =>
    all.map(([kind, { name, shape, data }]) => {
      const [offset, length] = [(rank * data.length) / 2, data.length / 2]
      const runs = { offset, length, stride: length, count: 1 }
      const copy = { rank: 0, size: 1, among: '' }
      return { kind, name, shape, runs, copy, data: data.subarray(offset, offset + length) }
    })
  const { signal } = new AbortController()
  const task = (rank) => ({ location, begun, rank, size: 2, parts: half(rank), particulars, keepLast })
  await Promise.all([0, 1].map((rank) => perform(task(rank), signal)))
}

const tensor = (name, value) => ({ name, shape: [50_000], data: new Float32Array(50_000).fill(value) })
writeSync(1, 'ready\n')
for (let step = Number(first); ; step++) {
  const checkpoint = { step, model: [tensor('w', step)], optimizer: [tensor('m', -step)], state: { step } }
  for (let times = 0; times < 2; times++) {
    await ways[thread](directory, checkpoint, 2)
    writeSync(1, `${step}\n`)
  }
}
