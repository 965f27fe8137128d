/**
 * Which rank is on which host, and who reduces what: every host's first `slices` ranks own one slice of an array each,
 * as many as the host with the fewest ranks has. Pure; the same on all ranks but for `host` and `place`.
 */
import type { Range } from './chunks.js'
import { sliceOf } from './shared-memory/views.js'

export interface Topology {
  /** The ranks of each host, ascending; hosts in the order of their first ranks. */
  readonly hosts: readonly (readonly number[])[]
  /** This rank's host. */
  readonly host: readonly number[]
  /** This rank among those of its host. */
  readonly place: number
  readonly slices: number
}

/** @param names one for each rank: ranks with equal names are on one host. */
export function topologyOf(names: readonly string[], rank: number): Topology {
  const byName = new Map<string, number[]>()
  for (const [member, name] of names.entries()) byName.set(name, [...(byName.get(name) ?? []), member])
  const hosts = [...byName.values()]
  const host = byName.get(names[rank]!)!
  const slices = Math.min(...hosts.map((ranks) => ranks.length))
  return { hosts, host, place: host.indexOf(rank), slices }
}

/** The ranks, one a host, that own the same slice as this one; undefined if it owns none. */
export function columnOf({ hosts, place, slices }: Topology): number[] | undefined {
  return place < slices ? hosts.map((ranks) => ranks[place]!) : undefined
}

/** What each rank of a host owns of `count` elements, by its place; the last ones may own nothing. */
export function slicesOf(count: number, { host, slices }: Topology): Range[] {
  return host.map((_, place) =>
    place < slices ? sliceOf(count, slices, place) : { start: count, end: count },
  )
}
