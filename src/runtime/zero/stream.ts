/** Parameters that come when a pass needs them: gathered from all ranks' parts, unit by unit. It computes nothing. */
import type { Communicator } from '../../collectives/communicator.js'
import type { Streaming } from '../../compiler/streaming.js'
import type { Parameters } from '../parameters.js'
import { gatherUnit } from './shards.js'

export function streamingOf(links: Communicator, parameters: Parameters): Streaming {
  const { units, sharding, trainable } = parameters
  return {
    units: units.map(({ tensors }) => tensors),
    ahead: sharding.turns > 1,
    viewAt: (variable, place) => parameters.viewAt(variable, place),
    bring(index, place) {
      const unit = units[index]!
      return gatherUnit(links, unit, trainable, parameters.place(place).subarray(0, unit.end - unit.start))
    },
  }
}
