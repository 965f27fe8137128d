/**
 * One rank of `ddp-launch bench scaling`: steps of a reference model on made-up data. Started like any training script, with
 * a model's name, its batch, the number of steps and a compressor; it measures nothing, since its timeline is read.
 */
import { TUNING_STEPS } from '../runtime/exchange-tuner.js'
import { adam } from '../runtime/optimizers/index.js'
import { init } from '../runtime/world.js'
import { madeUpBatch, referenceModel } from './reference.js'

/** The first compile, and fill caches. */
const WARM_UP = 3

const [name = '', batch, steps, compression = 'none'] = process.argv.slice(2)
const model = referenceModel(name)

const world = await init()
const ddp = await world.ddp(model, { loss: 'softmaxCrossEntropy', optimizer: adam(1e-3), compression })
const { x, y } = madeUpBatch(name, Number(batch))
// Before, over a network, as many as it takes to find out how gradients are best exchanged.
const tuned = world.size > 1 && world.collectives.share === undefined
const all = WARM_UP + (tuned ? TUNING_STEPS : 0) + Number(steps)
for (let step = 0; step < all; step++) await ddp.step(x, y)
await world.close()
