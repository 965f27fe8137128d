/** How a plain step exchanges gradients: all buckets at once, as the backward pass makes them, or compressed either way. */
import { compressorByName } from '../../collectives/compression/compression.js'
import { bucketsFromTheEnd } from '../buckets.js'
import { CompressedExchange } from '../compressed-exchange.js'
import type { DdpOptions } from '../ddp-options.js'
import { ExchangeTuner } from '../exchange-tuner.js'
import { ExactExchange } from '../gradient-exchange.js'
import { STATS } from '../layout.js'
import type { LocalSteps } from '../local-steps.js'
import { OverlappedExchange } from '../overlapped-exchange.js'
import { AveragedStep, type Choice } from './averaged.js'
import { LocalStep } from './local.js'
import type { Workplace } from './step.js'

const MIB = 2 ** 20
/** Small enough that the optimizer starts while most gradients are still travelling, large enough to fill the links. */
export const BUCKET_BYTES = 4 * MIB
/** Compressed they are small, and have further to go: some are there before the backward pass is over. */
const COMPRESSED_BUCKET_BYTES = 1 * MIB
const OTHER_BUCKET_BYTES = [1 * MIB, 16 * MIB]
/** Of a small model: so many that some are there long before the pass is over, but none so small that its call costs more. */
const BUCKETS = 4
const LEAST_BUCKET_BYTES = MIB / 4

type Log = (line: string) => void

export function averagedStep(place: Workplace, options: DdpOptions, log: Log): AveragedStep {
  return new AveragedStep(place, choiceOf(place, options, log))
}

export function localStep(place: Workplace, local: LocalSteps, options: DdpOptions, log: Log): LocalStep {
  const warmUp = local.warmUp ? averagedStep(place, options, log) : undefined
  const { exchange } = choiceOf(place, { ...options, overlap: 1 }, warmUp ? () => {} : log)
  return new LocalStep(place, local, warmUp, exchange)
}

function choiceOf(
  place: Workplace,
  { compression = 'none', overlap = 'auto', bucketBytes }: DdpOptions,
  log: Log,
): Choice {
  const { links, parameters } = place
  const { reduced, tensors } = parameters
  const named = compressorByName(compression)
  const compressor = links.size > 1 ? named : undefined
  const most = compressor ? COMPRESSED_BUCKET_BYTES : BUCKET_BYTES
  const given = bucketBytes === 'auto' ? undefined : bucketBytes
  const bytes = given ?? Math.min(most, Math.max(LEAST_BUCKET_BYTES, reduced.byteLength / BUCKETS))
  const exchangeBy = (bucketBytes: number) =>
    compressor
      ? new CompressedExchange(links, compressor, reduced, STATS, tensors, bucketBytes, log)
      : new OverlappedExchange(links, reduced, STATS, tensors, bucketBytes)

  // In shared memory it is this very thread that reduces: nothing could go on beside its computing.
  if (links.size === 1 || links.share !== undefined) {
    const exchange = compressor ? exchangeBy(bytes) : new ExactExchange(links, reduced, bytes)
    return { exchange, segments: 1 }
  }
  // Two ranks' sums are the same in whatever buckets; what compressors remember is kept by bucket.
  const maySize = !compressor && given === undefined && (links.size === 2 || bucketBytes === 'auto')
  const countOf = (size: number) => bucketsFromTheEnd(tensors, STATS, reduced.length, size).length
  const others = OTHER_BUCKET_BYTES.filter((size) => countOf(size) > 1)
  const sizes = [bytes, ...(maySize ? others : [])]
  const different = sizes.filter(
    (size, i) => sizes.findIndex((each) => countOf(each) === countOf(size)) === i,
  )
  const segments = overlap !== 'auto' ? overlap : countOf(bytes) > 1 ? undefined : 1
  return tuned(new ExchangeTuner(links, log, segments, different), exchangeBy)
}

/** What a tuner says, with an exchange for it. */
function tuned(tuner: ExchangeTuner, exchangeBy: (bucketBytes: number) => Choice['exchange']): Choice {
  let { bucketBytes } = tuner.plan
  let exchange = exchangeBy(bucketBytes)
  return {
    get exchange() {
      if (tuner.plan.bucketBytes !== bucketBytes) {
        bucketBytes = tuner.plan.bucketBytes
        exchange = exchangeBy(bucketBytes)
      }
      return exchange
    },
    get segments() {
      return tuner.plan.segments
    },
    took: (milliseconds) => tuner.took(milliseconds),
  }
}
