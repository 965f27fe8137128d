import { describe, expect, it } from 'vitest'
import { place } from '../../launcher/clusters/place.js'
import type { Given } from '../../launcher/options/table.js'
import { firstHost } from '../../src/runtime/environment/clusters/slurm.js'
import { findPlacement } from '../../src/runtime/environment/clusters/table.js'

// As each launcher has set them, in `env`; addresses are examples. PyTorchJob's are from Kubeflow's manifests.
const SLURM = {
  ...{
    SLURM_JOB_ID: '1234',
    SLURM_STEP_NUM_TASKS: '3',
    SLURM_PROCID: '2',
    SLURM_STEP_NODELIST: 'gpu[07-09]',
  },
}
const OPEN_MPI = {
  ...{ OMPI_COMM_WORLD_SIZE: '2', OMPI_COMM_WORLD_RANK: '1', OMPI_COMM_WORLD_LOCAL_SIZE: '1' },
  OMPI_MCA_orte_hnp_uri: '1306918912.0;tcp://192.0.2.2,10.0.0.2:48067;tcp6://[fd00::2]:32965',
}
const MPICH = { PMI_SIZE: '2', PMI_RANK: '1', MPI_LOCALNRANKS: '2', MPI_LOCALRANKID: '1' }
const KUBEFLOW = {
  ...{ PET_NNODES: '4', PET_NPROC_PER_NODE: 'auto', PET_NODE_RANK: '0', PET_MASTER_PORT: '29400' },
  ...{ PET_MASTER_ADDR: 'digits-node-0-0.digits', HOSTNAME: 'digits-node-0-0', JOB_COMPLETION_INDEX: '0' },
}
const PYTORCH_JOB = { MASTER_ADDR: 'digits-master-0', MASTER_PORT: '23456', WORLD_SIZE: '3', RANK: '1' }

const at = (host: string, port: number) => ({ host, port })
const nodes = (count: number) => ({ min: count, max: count })

describe('a cluster says', () => {
  it.each([
    ['Slurm', SLURM, { nodes: nodes(3), nodeRank: 2, endpoint: at('gpu07', 29734) }],
    ['Open MPI', OPEN_MPI, { nodes: nodes(2), nodeRank: 1, endpoint: at('192.0.2.2', 29500) }],
    [
      'Open MPI',
      { ...OPEN_MPI, OMPI_COMM_WORLD_LOCAL_SIZE: '2' },
      { nodes: nodes(2), nodeRank: 1, endpoint: at('127.0.0.1', 29500) },
    ],
    [
      'Open MPI',
      { ...OPEN_MPI, OMPI_MCA_orte_hnp_uri: undefined, SLURM_JOB_NODELIST: 'n[1-2]', SLURM_JOB_ID: '5' },
      { nodes: nodes(2), nodeRank: 1, endpoint: at('n1', 29500) },
    ],
    ['MPICH', MPICH, { nodes: nodes(2), nodeRank: 1, endpoint: at('127.0.0.1', 29500) }],
    ['MPICH', { ...MPICH, MPI_LOCALNRANKS: '1' }, { nodes: nodes(2), nodeRank: 1, endpoint: undefined }],
    ['Slurm', { ...SLURM, PMI_SIZE: '3', PMI_RANK: '2' }, { nodes: nodes(3) }],
    [
      'Kubeflow',
      KUBEFLOW,
      { nodes: nodes(4), nodeRank: 0, endpoint: at('digits-node-0-0.digits', 29400), nproc: 'auto' },
    ],
    [
      'Kubeflow',
      { PET_NNODES: '1:3', PET_RDZV_ENDPOINT: 'digits-worker-0:23456', PET_NPROC_PER_NODE: '2' },
      { nodes: { min: 1, max: 3 }, nodeRank: undefined, endpoint: at('digits-worker-0', 23456), nproc: 2 },
    ],
    ['Kubeflow', PYTORCH_JOB, { nodes: nodes(3), nodeRank: 1, endpoint: at('digits-master-0', 23456) }],
    ['Kubernetes', { JOB_COMPLETION_INDEX: '3' }, { nodes: undefined, nodeRank: 3, endpoint: undefined }],
  ])('%s', (cluster, env, expected) => {
    expect(findPlacement(env)).toMatchObject({ cluster, ...expected })
  })

  it.each([
    ['nowhere', {}],
    ["in a rank of torchrun's or ddp-launch's", { ...PYTORCH_JOB, LOCAL_RANK: '0' }],
    ['with a left-over MASTER_ADDR', { MASTER_ADDR: 'node0' }],
    ['in a batch script of one node', { SLURM_JOB_ID: '1', SLURM_JOB_NUM_NODES: '1', SLURM_PROCID: '0' }],
  ])('nothing %s', (_, env) => {
    expect(findPlacement(env)).toBeUndefined()
  })

  it.each([
    [
      { ...SLURM, SLURM_PROCID: undefined },
      /^environment variable SLURM_PROCID is not set, though SLURM_JOB_ID/,
    ],
    [{ ...SLURM, SLURM_PROCID: '3' }, /SLURM_PROCID is "3".* from 0 to 2, as srun sets it/],
    [{ ...SLURM, SLURM_STEP_NODELIST: '' }, /SLURM_STEP_NODELIST is ""/],
    [
      { SLURM_JOB_ID: '1', SLURM_JOB_NUM_NODES: '2' },
      /2 nodes .*expected `srun --ntasks-per-node 1 ddp-launch …`/,
    ],
    [{ ...OPEN_MPI, OMPI_COMM_WORLD_RANK: 'x' }, /OMPI_COMM_WORLD_RANK is "x".* as mpirun sets it/],
    [{ PMI_SIZE: '2' }, /PMI_RANK is not set/],
    [{ PET_NNODES: '2', PET_NODE_RANK: '0' }, /PET_MASTER_ADDR is not set, though PET_NNODES/],
    [{ RANK: '0', WORLD_SIZE: '2' }, /MASTER_ADDR is not set/],
  ])('in one line when only half is there: %j', (env, message) => {
    expect(() => findPlacement(env)).toThrow(message)
    expect(() => findPlacement(env)).toThrow(/^[^\n]+$/)
  })

  it.each([
    ['n1', 'n1'],
    ['n1,n2', 'n1'],
    ['gpu[007-010,12],cpu1', 'gpu007'],
    ['rack[2-3]n[4,6]-ib', 'rack2n4-ib'],
    ['a-b[1]', 'a-b1'],
  ])('the first host of %s is %s', (list, host) => {
    expect(firstHost(list)).toBe(host)
  })
})

describe('what the user did not say comes from the cluster', () => {
  it('all of it', () => {
    expect(place({}, SLURM)).toEqual({
      ...{ nnodes: nodes(3), 'node-rank': 2, 'rdzv-endpoint': at('gpu07', 29734) },
    })
    expect(place({}, KUBEFLOW)).toEqual({
      // This pod's own name, which it knows without DNS.
      ...{ nnodes: nodes(4), nproc: 'auto', 'node-rank': 0, 'rdzv-endpoint': at('digits-node-0-0', 29400) },
    })
  })

  it.each<[Given, Given]>([
    [{ 'master-port': 1 }, { 'rdzv-endpoint': at('gpu07', 1) }],
    [{ 'master-addr': 'ib07' }, { 'rdzv-endpoint': at('ib07', 29734) }],
    [{ 'rdzv-endpoint': at('ib07', 2) }, { 'rdzv-endpoint': at('ib07', 2) }],
    [{ 'node-rank': 0 }, { 'node-rank': 0 }],
    [{ nnodes: { min: 2, max: 3 } }, { nnodes: { min: 2, max: 3 } }],
    [
      { nproc: 8, threads: 2 },
      { nproc: 8, threads: 2 },
    ],
  ])('but flags win: %j', (given, expected) => {
    expect(place(given, SLURM)).toMatchObject(expected)
  })

  it('nothing in a job of one node, or outside of clusters', () => {
    for (const given of [{ standalone: true }, { nnodes: nodes(1) }] as Given[])
      expect(place(given, SLURM)).toBe(given)
    const given = { nnodes: nodes(2), 'rdzv-endpoint': at('node0', 1) }
    expect(place(given, {})).toBe(given)
    expect(place({}, { ...SLURM, SLURM_STEP_NUM_TASKS: '1', SLURM_PROCID: '0' })).toEqual({
      nnodes: nodes(1),
    })
  })

  it.each<[Given, NodeJS.ProcessEnv, RegExp]>([
    [{}, { JOB_COMPLETION_INDEX: '1' }, /does not say how many there are: give --nnodes and --rdzv-endpoint/],
    [{ nnodes: nodes(2) }, { JOB_COMPLETION_INDEX: '1' }, /does not say which of 2 nodes is the first/],
    [{ nnodes: nodes(2) }, SLURM, /^Slurm numbers this node 2, --nnodes is 2: expected/],
  ])('not enough together is one line: %j %j', (given, env, message) => {
    expect(() => place(given, env)).toThrow(message)
    expect(() => place(given, env)).toThrow(/^[^\n]+$/)
  })
})
