/**
 * Whether a node that comes may take part in a job. Pure: it refuses to know when nodes come, and what they do then.
 */
import type { Hello } from './messages.js'

/** What the node at the endpoint was given, for the whole job. */
export interface Terms {
  readonly version: string
  readonly jobName: string | undefined
  readonly runId: string
  readonly nodes: { readonly min: number; readonly max: number }
  readonly maxRestarts: number
  readonly meetSeconds: number
  readonly lastCallSeconds: number
}

/** Why not, in words for both its user and the job's; undefined: it may. */
export function refusalOf(hello: Hello, terms: Terms, members: readonly Hello[]): string | undefined {
  const { version, jobName, nodes } = terms
  const who = `node ${hello.hostName} (${hello.address})`
  if (hello.version !== version) {
    return `${who} has lockstep ${hello.version}, the node at the endpoint ${version}: install the same everywhere`
  }
  if (hello.jobName !== jobName) {
    const [theirs, ours] = [hello.jobName, jobName].map((name) => (name === undefined ? 'none' : `"${name}"`))
    return `${who} has --rdzv-id ${theirs}, the node at the endpoint ${ours}: another job has this endpoint, or one --rdzv-id is wrong`
  }
  const [theirs, ours] = [termsGiven(hello), termsGiven(terms)]
  if (theirs !== ours)
    return `${who} has ${theirs}, the node at the endpoint ${ours}: give all nodes the same`
  const twin = members.find(({ nodeRank }) => nodeRank !== undefined && nodeRank === hello.nodeRank)
  if (twin) {
    const other = `${twin.hostName} (${twin.address})`
    return `--node-rank ${hello.nodeRank} is claimed by two nodes, ${other} and ${hello.hostName} (${hello.address}): give each its own`
  }
  if (members.length >= nodes.max)
    return `the job has all its ${nodes.max} nodes (--nnodes): ${who} is one too many`
  return undefined
}

function termsGiven({ nodes: { min, max }, maxRestarts }: Pick<Terms, 'nodes' | 'maxRestarts'>): string {
  return `--nnodes ${min === max ? max : `${min}:${max}`} --max-restarts ${maxRestarts}`
}
