/** Which exchange a plain step uses: all buckets at once, during the backward pass, or compressed. */
import { compressorByName } from '../../collectives/compression/compression.js'
import { CompressedExchange } from '../compressed-exchange.js'
import type { DdpOptions } from '../ddp-options.js'
import { ExactExchange } from '../gradient-exchange.js'
import { OverlapTuner } from '../overlap-tuner.js'
import { OverlappedExchange } from '../overlapped-exchange.js'
import { STATS } from '../parameters.js'
import { AveragedStep } from './averaged.js'
import type { Workplace } from './step.js'

type ExchangeOptions = Pick<DdpOptions, 'compression' | 'overlap'> & { readonly bucketBytes: number }

export function averagedStep(
  place: Workplace,
  { compression = 'none', overlap = 'auto', bucketBytes }: ExchangeOptions,
  log: (line: string) => void,
): AveragedStep {
  const { links, parameters } = place
  const { reduced, tensors } = parameters
  const compressor = compressorByName(compression)
  if (compressor !== undefined && links.size > 1) {
    const exchange = new CompressedExchange(links, compressor, reduced, STATS, tensors, bucketBytes, log)
    return new AveragedStep(place, exchange, undefined)
  }
  const exchange = new ExactExchange(links, reduced, bucketBytes)
  // In shared memory it is this very thread that reduces: nothing could go on beside its computing.
  if (links.size === 1 || links.share !== undefined) return new AveragedStep(place, exchange, undefined)
  const choice = overlap === 'auto' ? new OverlapTuner(links, log) : { segments: overlap }
  const overlapped = new OverlappedExchange(links, reduced, STATS, tensors, bucketBytes)
  return new AveragedStep(place, exchange, { exchange: overlapped, choice })
}
