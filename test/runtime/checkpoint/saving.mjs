// Saves one checkpoint after the other, until it is killed: saving.mjs DIR STEP THREAD SOURCE. Each but the first is saved
// twice, the second time in place of itself, and the last two are kept. THREAD is 1 for a thread of its own that writes.
// SOURCE is the folder of the checkpoint modules, as a URL, and its ending. Prints each step that is safe.
import { writeSync } from 'node:fs'

const [, , directory, first, thread, source, ending] = process.argv
const { writeCheckpoint } = await import(`${source}/checkpoints.${ending}`)
const { BackgroundWriter } = await import(`${source}/background-writer.${ending}`)
const writer = new BackgroundWriter()
const write = thread === '1' ? writer.write.bind(writer) : writeCheckpoint

const tensor = (name, value) => ({ name, shape: [50_000], data: new Float32Array(50_000).fill(value) })
writeSync(1, 'ready\n')
for (let step = Number(first); ; step++) {
  const checkpoint = { step, model: [tensor('w', step)], optimizer: [tensor('m', -step)], state: { step } }
  for (let times = 0; times < 2; times++) {
    await write(directory, checkpoint, 2)
    writeSync(1, `${step}\n`)
  }
}
