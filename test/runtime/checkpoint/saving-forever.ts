/** Saves two checkpoints over and over into the directory of its argument, until it is killed. */
import { writeCheckpoint } from '../../../src/runtime/checkpoint/checkpoints.js'

const data = new Float32Array(200_000).fill(1)
for (let i = 1; ; i++) {
  const model = [{ name: 'w', shape: [data.length], data }]
  await writeCheckpoint(process.argv[2]!, { step: i % 2, model, optimizer: [], state: {} })
  if (i === 2) console.log('saved')
}
