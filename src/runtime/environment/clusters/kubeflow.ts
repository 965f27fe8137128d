/**
 * Kubeflow: what its Trainer and its older PyTorchJob tell each pod for torchrun, whose options PET_* variables are. An
 * older PyTorchJob says MASTER_ADDR, WORLD_SIZE and RANK only, and means pods by them, not ranks.
 */
import { type Cluster, DEFAULT_PORT, exactly, reader, type Variables } from './placement.js'

export const kubeflow: Cluster = (env) => {
  if (env.PET_NNODES !== undefined) return readOptions(env)
  const isRank = env.LOCAL_RANK !== undefined || env.LOCAL_WORLD_SIZE !== undefined
  return env.RANK === undefined || env.WORLD_SIZE === undefined || isRank ? undefined : readPods(env)
}

function readOptions(env: Variables) {
  const { integer, text } = reader('Kubeflow', env, 'PET_NNODES', 'Kubeflow')
  const [min = 1, max = min] = text('PET_NNODES', /^[1-9]\d{0,5}(:[1-9]\d{0,5})?$/, 'N or MIN:MAX')
    .split(':')
    .map(Number)
  const perNode =
    env.PET_NPROC_PER_NODE && text('PET_NPROC_PER_NODE', /^(auto|gpu|cpu|[1-9]\d{0,5})$/, 'ranks')
  return {
    cluster: 'Kubeflow',
    nodes: { min, max },
    nodeRank: env.PET_NODE_RANK === undefined ? undefined : integer('PET_NODE_RANK', 0, max - 1),
    endpoint: max === 1 ? undefined : readEndpoint(),
    ...(perNode && { nproc: Number(perNode) || (perNode as 'auto' | 'gpu' | 'cpu') }),
  }

  function readEndpoint() {
    if (env.PET_RDZV_ENDPOINT === undefined || env.PET_MASTER_ADDR !== undefined) {
      const host = text('PET_MASTER_ADDR', /^\S+$/, 'the first pod')
      return { host, port: env.PET_MASTER_PORT ? integer('PET_MASTER_PORT', 1, 65535) : DEFAULT_PORT }
    }
    const [host = '', port = DEFAULT_PORT] = text(
      'PET_RDZV_ENDPOINT',
      /^[^\s:]+(:\d{1,5})?$/,
      'HOST:PORT',
    ).split(':')
    return { host, port: Number(port) }
  }
}

function readPods(env: Variables) {
  const { integer, text } = reader('a PyTorchJob', env, 'WORLD_SIZE', 'Kubeflow')
  const pods = integer('WORLD_SIZE', 1)
  return {
    cluster: 'Kubeflow',
    nodes: exactly(pods),
    nodeRank: integer('RANK', 0, pods - 1),
    endpoint: {
      host: text('MASTER_ADDR', /^\S+$/, 'the first pod'),
      port: env.MASTER_PORT ? integer('MASTER_PORT', 1, 65535) : DEFAULT_PORT,
    },
  }
}
