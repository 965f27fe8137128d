/**
 * What a cluster's own launcher tells each process that it starts, in the cluster's own variables, and the words for an
 * environment that is only half there. It refuses to know any cluster.
 */
import { LockstepError } from '../../../errors.js'

export type Variables = Readonly<Record<string, string | undefined>>

/** One process among those that the cluster started: a node's ddp-launch, or a rank. */
export interface Placement {
  /** For errors. */
  readonly cluster: string
  /** How many were started; undefined where the cluster does not say. */
  readonly nodes: { readonly min: number; readonly max: number } | undefined
  /** This one's number; number 0 is at the endpoint. Undefined: as they come. */
  readonly nodeRank: number | undefined
  /** An address of number 0; undefined where the cluster does not say. */
  readonly endpoint: { readonly host: string; readonly port: number } | undefined
  /** Ranks per node, where the cluster has an opinion. */
  readonly nproc?: number | 'auto' | 'gpu' | 'cpu'
}

/**
 * Undefined where the environment is not that cluster's.
 * @throws LockstepError naming the variable when it is, but not all of it is there.
 */
export type Cluster = (env: Variables) => Placement | undefined

/** torchrun's, and Kubeflow's. */
export const DEFAULT_PORT = 29500

/** Reads variables of one cluster, which `marker` has shown to be there. `starter` completes "as X sets it". */
export function reader(cluster: string, env: Variables, marker: string, starter: string) {
  const text = (name: string, form: RegExp, expected: string): string => {
    const value = env[name]
    if (value !== undefined && form.test(value)) return value
    const given = value === undefined ? 'is not set' : `is "${value}"`
    throw new LockstepError(
      `environment variable ${name} ${given}, though ${marker} says that this is ${cluster}: expected ${expected}, as ${starter} sets it (to run without the cluster, unset ${marker})`,
    )
  }
  const integer = (name: string, least: number, most = 999_999): number => {
    const range = most === 999_999 ? `of at least ${least}` : `from ${least} to ${most}`
    const value = Number(text(name, /^\d{1,6}$/, `a whole number ${range}`))
    return value >= least && value <= most ? value : Number(text(name, /$^/, `a whole number ${range}`)) // never matches: the same error
  }
  return { text, integer }
}

export function exactly(count: number): { min: number; max: number } {
  return { min: count, max: count }
}
