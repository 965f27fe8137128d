/**
 * Every option of a launch: its name, the form of its value and its help. A row here is a flag `--name`, an environment
 * variable `LOCKSTEP_NAME` and a key `name` of a config file. It refuses to know which of them was used.
 */
import { TLS_MODES } from '../../src/runtime/environment/tls.js'
import { ENGINES, TRANSPORTS } from '../../src/runtime/environment/variables.js'
import {
  anything,
  type Form,
  hostPort,
  nodeCount,
  oneOf,
  plainName,
  rankCount,
  rankSet,
  seconds,
  streams,
  wholeNumber,
  yesOrNo,
} from './forms.js'

export interface Row<T> {
  readonly form: Form<T>
  /** What stands for the value in the help; undefined: the flag stands alone and means true. */
  readonly value: string | undefined
  readonly help: string
}

const row = <T>(form: Form<T>, value: string | undefined, help: string): Row<T> => ({ form, value, help })

/** In the order of the help. Defaults are in settings.ts, where options meet. */
export const TABLE = {
  nproc: row(
    rankCount,
    '<count>',
    'ranks per node: a number, gpu (CUDA devices), cpu (cores) or auto (gpu, else cpu)',
  ),
  'nproc-per-node': row(rankCount, '<count>', "the same, by torchrun's name"),
  threads: row(wholeNumber(1), '<count>', 'intra-op threads of each rank (default: cores / ranks)'),
  timeout: row(seconds, '<seconds>', 'how long ranks wait for each other (default: 60)'),
  transport: row(
    oneOf(TRANSPORTS),
    '<name>',
    'auto (shared memory, else sockets), shm, tcp, ws or unix (default: auto)',
  ),
  engine: row(
    oneOf(ENGINES),
    '<name>',
    'what computes, over what the script asks for: onnx, onnx:cpu, onnx:webgpu, onnx:cuda, tfjs or auto',
  ),
  profile: row(
    anything,
    '<dir>',
    'says where the time of steps 3 to 12 goes, and writes a trace of each rank to DIR',
  ),
  timeline: row(anything, '<file>', 'writes what all ranks do and when, on one clock, as a Chrome trace'),
  'metrics-port': row(
    wholeNumber(0, 65535),
    '<port>',
    "serves /metrics of this node's ranks, for Prometheus; 0: at any free port",
  ),
  'metrics-addr': row(
    anything,
    '<address>',
    'where /metrics is served (default: 127.0.0.1; 0.0.0.0: everywhere)',
  ),

  nnodes: row(nodeCount, '<n|min:max>', 'how many nodes, each with its own ddp-launch (default: 1)'),
  'node-rank': row(
    wholeNumber(0),
    '<rank>',
    "this node's number; node 0 is at the endpoint (default: as they come)",
  ),
  'rdzv-endpoint': row(hostPort, '<host:port>', 'where the launchers meet: an address of one node'),
  'rdzv-id': row(plainName, '<name>', 'the name of the job, the same on all nodes'),
  'rdzv-timeout': row(seconds, '<seconds>', 'how long to wait for enough nodes (default: 600)'),
  'rdzv-last-call': row(seconds, '<seconds>', 'how long MIN nodes wait for more (default: 30)'),
  'master-addr': row(anything, '<host>', "the endpoint's host, by torchrun's other name"),
  'master-port': row(wholeNumber(0, 65535), '<port>', "the endpoint's port (default: 29500)"),
  'local-addr': row(
    anything,
    '<address>',
    'where other nodes reach this one (default: its address towards the endpoint)',
  ),
  standalone: row(yesOrNo, undefined, 'one node, whatever else says more'),
  'token-file': row(
    anything,
    '<file>',
    "holds the job's secret, the same on all nodes (or set LOCKSTEP_TOKEN)",
  ),
  tls: row(
    oneOf(TLS_MODES),
    '<how>',
    'auto: encrypts what nodes say to each other, by a key made of the token (default: off, or by certificates)',
  ),
  'tls-ca': row(anything, '<file>', 'encrypts by certificates: the authority that signed those of all nodes'),
  'tls-cert': row(anything, '<file>', "this node's certificate"),
  'tls-key': row(anything, '<file>', 'its private key'),

  'max-restarts': row(
    wholeNumber(0),
    '<count>',
    'how often all ranks start again after a failure (default: 0)',
  ),
  'monitor-interval': row(
    seconds,
    '<seconds>',
    'how often launchers tell each other that they live (default: 2)',
  ),
  'stop-timeout': row(
    seconds,
    '<seconds>',
    'how long ranks may take to save when asked to stop (default: 30)',
  ),

  'log-dir': row(anything, '<dir>', 'keeps what ranks write and die of, under DIR/<job>/attempt_<k>/<rank>/'),
  redirects: row(
    streams,
    '<streams>',
    'what goes to files only: 0-3, or by local rank 0:3,1:1 (needs --log-dir)',
  ),
  tee: row(streams, '<streams>', 'what goes to files and the screen (needs --log-dir; default: 3, all)'),
  'local-ranks-filter': row(rankSet, '<ranks>', 'show only these local ranks, as in 0,2'),
} as const

export type OptionName = keyof typeof TABLE
type ValueOf<R> = R extends Row<infer T> ? T : never
/** What was given, from wherever. */
export type Given = { readonly [N in OptionName]?: ValueOf<(typeof TABLE)[N]> }

export const OPTION_NAMES = Object.keys(TABLE) as readonly OptionName[]

export function isOptionName(name: string): name is OptionName {
  return Object.hasOwn(TABLE, name)
}

/** `LOCKSTEP_NPROC_PER_NODE`. */
export function variableOf(name: string): string {
  return `LOCKSTEP_${name.toUpperCase().replaceAll('-', '_')}`
}
